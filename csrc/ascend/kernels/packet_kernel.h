// What both kernels are made of: the parts, and the schedule that brings them packets.

#ifndef JDA_ASCEND_PACKET_KERNEL_H_
#define JDA_ASCEND_PACKET_KERNEL_H_

#include "schedule.h"

namespace jda_ascend {

class PacketKernel {
 protected:
  __aicore__ inline PacketKernel(const Tiling& tiling, TPipe& pipe, const Operands& operands,
                                 bool wants_corners)
      : t(tiling), parts_(tiling, pipe, operands), schedule_(tiling, parts_, wants_corners) {}

  const Tiling& t;
  Parts parts_;
  Schedule schedule_;
  Memory& memory_ = parts_.memory;
  Locations& locations_ = parts_.locations;
  Shares& shares_ = parts_.shares;
  Blocks& blocks_ = parts_.blocks;
  Geometry& geometry_ = parts_.geometry;
  Weights& weights_ = parts_.weights;
  Corners& corners_ = parts_.corners;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_PACKET_KERNEL_H_
