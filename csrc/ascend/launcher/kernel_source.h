// The source of all kernels in one text; made from csrc/ascend when the library is built.

#ifndef JDA_ASCEND_LAUNCHER_KERNEL_SOURCE_H_
#define JDA_ASCEND_LAUNCHER_KERNEL_SOURCE_H_

namespace jda_ascend {

extern const char kKernelSource[];

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_KERNEL_SOURCE_H_
