// How a kernel says that it runs on vector cores.
//
// Compilers that know run-time compilation have a word for it, which is all that counts where one
// source holds several kernels. The project build of older toolkits does not know the word: it looks
// for a macro in the kernel's body, and CMakeLists.txt defines JDA_PROJECT_BUILD for it.

#ifndef JDA_ASCEND_VECTOR_KERNEL_H_
#define JDA_ASCEND_VECTOR_KERNEL_H_

#ifdef JDA_PROJECT_BUILD
#define JDA_VECTOR_KERNEL extern "C" __global__ __aicore__
#define JDA_ON_VECTOR_CORES KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY)
#else
#define JDA_VECTOR_KERNEL extern "C" __global__ __vector__
#define JDA_ON_VECTOR_CORES static_assert(true)
#endif

#endif  // JDA_ASCEND_VECTOR_KERNEL_H_
