#define JDA_ISA avx512
#define JDA_VECTOR_BYTES 64
#define JDA_VECTORS 16
#include "kernels_impl.h"
