// The addresses that a kernel is launched with.

#ifndef JDA_ASCEND_OPERANDS_H_
#define JDA_ASCEND_OPERANDS_H_

#include "kernel_operator.h"

namespace jda_ascend {

// What both kernels read, and the workspace.
struct Operands {
  GM_ADDR feature_maps;
  GM_ADDR spatial_shape;
  GM_ADDR scale_start_index;
  GM_ADDR sample_locations;
  GM_ADDR weight;
  GM_ADDR workspace;
};

// What the backward kernel reads and adds to; null where a gradient is not wanted.
struct Gradients {
  GM_ADDR cotangent;
  GM_ADDR feature_maps;
  GM_ADDR sample_locations;
  GM_ADDR weight;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_OPERANDS_H_
