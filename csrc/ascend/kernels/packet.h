// What a share of the pairs is cut into: blocks, their steps, and packets.

#ifndef JDA_ASCEND_PACKET_H_
#define JDA_ASCEND_PACKET_H_

#include "memory.h"

namespace jda_ascend {

// Pairs that are prepared together, and the anchors that they touch: runs of the pairs, in order.
struct Block {
  int64_t number = 0;  // in the run
  int32_t pairs = 0;
  int32_t pitch = 0;  // pairs padded to whole blocks
  int32_t runs = 0;
  int32_t buffer = 0;
  int64_t element = 0;  // of the batch
  int64_t chunk = 0;    // the pair that its pair numbers count from
  int64_t anchor[kMaxRuns];
  int32_t end[kMaxRuns];   // one past the last pair of the run
  int32_t slot[kMaxRuns];  // of the ring that holds one row per anchor
};

// A block in one scale and tile.
struct Step {
  int32_t block;    // which buffer holds its block
  int32_t weights;  // ... its weights
  int32_t scale, tile;
};

struct Packet : Step {
  int32_t corners;       // which buffer holds its rows
  int32_t first, count;  // samples: pairs of the block
  bool opens_block, closes_block, opens_step, closes_step, closes_tile;
  uint64_t missing;   // bit 4 i + 2 y + x: corner (y, x) of sample i lies outside the map
  uint64_t repeated;  // 4 bits of sample i: 8 + j if it has the rows of the earlier sample j, or 0
};

// The runs of a block that have samples in a packet, in order.
class PacketRuns {
 public:
  __aicore__ inline PacketRuns(const Block& block, const Packet& packet)
      : block_(block), packet_(packet) {}

  // Goes on to the next one; false if there is none.
  __aicore__ inline bool Next() {
    first += count;
    while (++run < block_.runs) {
      const int64_t end = Smaller(block_.end[run] - packet_.first, packet_.count);
      count = static_cast<int32_t>(end) - first;
      if (count > 0) return true;
    }
    return false;
  }

  int32_t run = -1;   // of the block
  int32_t first = 0;  // its samples, counted from the packet's first
  int32_t count = 0;

 private:
  const Block& block_;
  const Packet& packet_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_PACKET_H_
