#define JDA_ISA baseline
#define JDA_VECTOR_BYTES 16
#define JDA_VECTORS 8
#include "kernels_impl.h"
