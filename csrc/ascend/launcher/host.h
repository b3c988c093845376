// Calls whose arrays are in the memory of the host.

#ifndef JDA_ASCEND_LAUNCHER_HOST_H_
#define JDA_ASCEND_LAUNCHER_HOST_H_

#include "device.h"
#include "launch.h"

namespace jda_ascend {

// Copies the arrays to the card, which must be current, computes, and copies the results back.
//
// A batch is cut into chunks of whole batch elements that move at least 4 MiB each; two lanes take
// turns, so that the transfers of one chunk overlap with the kernels of the other. Smaller calls are
// one chunk: a launch costs more than what overlapping would save.
void ComputeOnCard(Device& device, Operation operation, const jda_ascend_problem& problem,
                   const jda_ascend_arrays& arrays);

// Throws unless every map is within num_feat: what the kernels read follows from the maps.
void CheckMaps(const jda_ascend_problem& problem, const jda_ascend_arrays& arrays);

// Fills the results of a call without samples.
void FillZeros(Operation operation, const jda_ascend_problem& problem,
               const jda_ascend_arrays& arrays);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_HOST_H_
