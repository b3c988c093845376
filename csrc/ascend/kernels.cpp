// All kernels in one source: what is compiled at run time, once for every card and toolkit.
#include "deformable_aggregation.cpp"
#include "deformable_aggregation_grad.cpp"
