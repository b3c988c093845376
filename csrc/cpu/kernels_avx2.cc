#define JDA_ISA avx2
#define JDA_VECTOR_BYTES 32
#define JDA_VECTORS 8
#include "kernels_impl.h"
