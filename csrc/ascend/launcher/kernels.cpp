// All kernels in one source: what is compiled at run time, once for a kind of card and a toolkit.
#include "../kernels/deformable_aggregation.cpp"
#include "../kernels/deformable_aggregation_grad.cpp"
