// Calls whose arrays are in the memory of the host.

#ifndef JDA_ASCEND_LAUNCHER_HOST_H_
#define JDA_ASCEND_LAUNCHER_HOST_H_

#include "device.h"
#include "launch.h"

namespace jda_ascend {

// Copies the arrays to the card, which must be current, computes, and copies the results back.
//
// A batch is cut into chunks of whole batch elements: as few as together need 4 MiB on the card, if
// each needs what one by itself does, arrays and workspace. The last chunk has what is left. Two
// lanes take turns, so that the transfers of one chunk overlap with the kernels of the other; where
// only one is free or has room on the card, it takes all. A smaller batch is one chunk: a launch
// costs more than what overlapping would save.
void ComputeOnCard(Device& device, Operation operation, const jda_ascend_problem& problem,
                   const jda_ascend_arrays& arrays);

// Fills the results of a call without samples.
void FillZeros(Operation operation, const jda_ascend_problem& problem,
               const jda_ascend_arrays& arrays);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_HOST_H_
