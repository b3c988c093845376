// What every call of the operator has: eight sizes and an operation. For both libraries, and part of
// the launcher's C interface.
#ifndef JDA_PROBLEM_H_
#define JDA_PROBLEM_H_

#include <stdint.h>

// As in the operator's contract: bs, num_feat, c, anchor, pts, cam, scale, group.
typedef struct jda_sizes {
  int64_t batch, rows, channels, anchors, points, cameras, scales, groups;
} jda_sizes;

#ifdef __cplusplus
namespace jda {

using Sizes = jda_sizes;

enum class Operation { kForward, kBackward };

}  // namespace jda
#endif

#endif  // JDA_PROBLEM_H_
