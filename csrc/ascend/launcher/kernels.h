// The kernels on a card.

#ifndef JDA_ASCEND_LAUNCHER_KERNELS_H_
#define JDA_ASCEND_LAUNCHER_KERNELS_H_

#include <string>

#include "handle.h"

namespace jda_ascend {

struct Kernels {
  Binary binary;
  aclrtFuncHandle forward = nullptr;
  aclrtFuncHandle backward = nullptr;
  std::string origin;  // "compiled", "cache", or the file that was built ahead
};

// Loads the kernels onto the current card: those of the file that JDA_ASCEND_KERNELS names, else
// those of the cache, else compiled now. `soc` is what the card is called.
Kernels LoadKernels(const std::string& soc);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_KERNELS_H_
