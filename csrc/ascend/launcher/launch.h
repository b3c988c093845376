// From a call to launches: their tilings, and what they need around them.

#ifndef JDA_ASCEND_LAUNCHER_LAUNCH_H_
#define JDA_ASCEND_LAUNCHER_LAUNCH_H_

#include <string>
#include <vector>

#include "acl.h"
#include "kernels.h"
#include "launcher.h"
#include "tiling.h"

namespace jda_ascend {

using jda::Operation;
using jda::Sizes;

// What is wrong with the dtypes of a call, "" if nothing is.
std::string WrongDtypes(const jda_ascend_problem& problem);

// Of the arrays of a call; those of gradients are as large as those of their arguments.
struct Bytes {
  explicit Bytes(const jda_ascend_problem& problem);
  size_t feature_maps, spatial_shape, scale_start_index, sample_locations, weight, out;
};

// The arrays from a batch element on.
jda_ascend_arrays ArraysFrom(int64_t first, const jda_ascend_problem& problem,
                             const jda_ascend_arrays& arrays);

// Without samples every result is zero, and no kernel is needed.
bool HasSamples(const Sizes& sizes);

struct Launch {
  Tiling tiling;
  int64_t first = 0;  // batch element
  bool writes_features = false, writes_locations = false, writes_weight = false;
};

struct Plan {
  std::vector<Launch> launches;
  size_t workspace_bytes = 0;
  bool reads_features = false;
};

// The launches of a call on a card of that many cores. Throws if it is beyond the kernels' limits.
// Of `arrays` only what is null matters.
Plan MakePlan(Operation operation, const jda_ascend_problem& problem,
              const jda_ascend_arrays& arrays, int cores);

// Enqueues the launches, and clears before what they add to.
void Enqueue(const Plan& plan, const Kernels& kernels, const jda_ascend_problem& problem,
             const jda_ascend_arrays& arrays, void* workspace, aclrtStream stream);

// Enqueues the results of a call without samples.
void EnqueueZeros(Operation operation, const jda_ascend_problem& problem,
                  const jda_ascend_arrays& arrays, aclrtStream stream);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_LAUNCH_H_
