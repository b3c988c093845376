// The samples of a share of the pairs as one run of packets: corner rows of the next packets are
// under way while one is computed, and the next block is prepared while the packets of the current
// one run.
//
// A kernel hands itself to Run(), and provides
//   OnStart()              all pipes are idle, and every flag is down
//   OnChunk()              a chunk was compacted
//   OnBlock(block)         MTE2 may load what the block needs
//   BeforeWeights(buffer)  MTE2 is about to fill this weight buffer
//   Compute(packet)        calls Await() first and Release() last
//   OnFinish()             nothing more is computed: waits for the flags of OnStart()

#ifndef JDA_ASCEND_SCHEDULE_H_
#define JDA_ASCEND_SCHEDULE_H_

#include "parts.h"

namespace jda_ascend {

constexpr int32_t kWeightsAtOnce = 32;  // samples whose weights are loaded along with a packet
constexpr int32_t kMaxBuffers = 3;

class Schedule {
 public:
  __aicore__ inline Schedule(const Tiling& tiling, Parts& parts, bool wants_corners)
      : t(tiling),
        locations_(parts.locations),
        blocks_(parts.blocks),
        geometry_(parts.geometry),
        weights_(parts.weights),
        corners_(parts.corners),
        wants_corners_(wants_corners) {}

  // Computes the samples of pairs [begin, end) in tiles [first, last).
  template <class Kernel>
  __aicore__ inline void Run(Kernel& kernel, int64_t begin, int64_t end, int32_t first,
                             int32_t last) {
    Start(kernel, begin, end, first, last);
    Packet packets[kMaxBuffers];
    int32_t oldest = 0;
    for (;;) {
      do {
        while (held_ < t.buffers && Next(kernel)) {
          packets[(oldest + held_++) % kMaxBuffers] = at_;
        }
      } while (LookAhead(kernel));
      if (held_ == 0) break;
      kernel.Compute(packets[oldest]);
      oldest = (oldest + 1) % kMaxBuffers;
      --held_;
      if (earlier_ > 0) --earlier_;
    }
    Finish(kernel);
  }

  // Before the first vector operation that reads what was loaded for the packet.
  __aicore__ inline void Await(const Packet& packet) {
    WaitFlag<HardEvent::MTE2_V>(kCornersEvent + packet.corners);
  }

  // After the last vector operation of the packet: all that MTE2 filled for it may be filled again.
  __aicore__ inline void Release(const Packet& packet) {
    SetFlag<HardEvent::V_MTE2>(kCornersEvent + packet.corners);
  }

  // After the last vector operation that reads the weights of the packet's tile.
  __aicore__ inline void ReleaseWeights(const Packet& packet) {
    if (packet.closes_tile) SetFlag<HardEvent::V_MTE2>(kWeightsEvent + packet.weights);
  }

  // The anchor that follows a closing block in the run, or -1.
  __aicore__ inline int64_t AnchorAfter(const Packet& packet) const {
    const Block& other = blocks_[packet.block ^ 1];
    return other.number == blocks_[packet.block].number + 1 ? other.anchor[0] : -1;
  }

 private:
  template <class Kernel>
  __aicore__ inline void Start(Kernel& kernel, int64_t begin, int64_t end, int32_t first,
                               int32_t last) {
    PipeBarrier<PIPE_ALL>();  // flags of an earlier run are down, everything is initialised
    kernel.OnStart();
    first_tile_ = first;
    last_tile_ = last;
    at_ = Packet{};
    at_.corners = t.buffers - 1;
    at_.block = 1;  // which is empty, so that the first tile is entered
    ahead_ = Step{1, 1, 0, last - 1};
    ahead_ready_ = ended_ = placed_ = false;
    earlier_ = held_ = 0;
    blocks_.Start();
    locations_.StartRange(begin, end, t.anchors * t.anchor_pairs);
    if (wants_corners_) corners_.Clear();
    for (int32_t i = 0; i < t.buffers; ++i) SetFlag<HardEvent::V_MTE2>(kCornersEvent + i);
    SetFlag<HardEvent::V_MTE2>(kWeightsEvent);
    SetFlag<HardEvent::V_MTE2>(kWeightsEvent + 1);
  }

  template <class Kernel>
  __aicore__ inline void Finish(Kernel& kernel) {
    for (int32_t i = 0; i < t.buffers; ++i) WaitFlag<HardEvent::V_MTE2>(kCornersEvent + i);
    WaitFlag<HardEvent::V_MTE2>(kWeightsEvent);
    WaitFlag<HardEvent::V_MTE2>(kWeightsEvent + 1);
    locations_.EndRange();
    kernel.OnFinish();
  }

  // Loads the next packet into at_; false at the end, or while the next tile is not prepared yet.
  template <class Kernel>
  __aicore__ inline bool Next(Kernel& kernel) {
    const bool same_step = at_.first + at_.count < blocks_[at_.block].pairs;
    const bool same_tile = at_.count > 0 && at_.scale + 1 < t.scales;
    if (!same_step && !same_tile && !ahead_ready_) return false;
    at_.corners = at_.corners + 1 == t.buffers ? 0 : at_.corners + 1;
    WaitFlag<HardEvent::V_MTE2>(kCornersEvent + at_.corners);
    if (same_step) {
      at_.first += at_.count;
    } else if (same_tile) {
      ++at_.scale;
      at_.first = 0;
    } else {
      EnterTile(kernel);
    }
    DescribePacket();
    if (wants_corners_) corners_.Load(at_);
    if (ahead_ready_) LoadMoreWeights(kernel, AlignUp(kWeightsAtOnce, t.scales) / t.scales);
    SetFlag<HardEvent::MTE2_V>(kCornersEvent + at_.corners);
    return true;
  }

  template <class Kernel>
  __aicore__ inline void EnterTile(Kernel& kernel) {
    LoadMoreWeights(kernel, t.block_pairs);  // what is left
    loaded_ = 0;
    if (ahead_.block != at_.block || at_.count == 0) {
      kernel.OnBlock(blocks_[ahead_.block]);
      geometry_.Await(blocks_[ahead_.block]);
    }
    static_cast<Step&>(at_) = ahead_;
    at_.first = 0;
    ahead_ready_ = false;
    earlier_ = held_;
  }

  __aicore__ inline void DescribePacket() {
    const int32_t pairs = blocks_[at_.block].pairs;
    at_.count = static_cast<int32_t>(Smaller(t.samples, pairs - at_.first));
    at_.opens_step = at_.first == 0;
    at_.closes_step = at_.first + at_.count == pairs;
    at_.closes_tile = at_.closes_step && at_.scale + 1 == t.scales;
    at_.opens_block = at_.opens_step && at_.scale == 0 && at_.tile == first_tile_;
    at_.closes_block = at_.closes_tile && at_.tile + 1 == last_tile_;
    at_.missing = at_.repeated = 0;
  }

  // Up to `most` more pairs' weights in all scales. They are loaded bit by bit while the packets
  // before them run.
  template <class Kernel>
  __aicore__ inline void LoadMoreWeights(Kernel& kernel, int64_t most) {
    if (loaded_ == 0) {
      WaitFlag<HardEvent::V_MTE2>(kWeightsEvent + ahead_.weights);
      kernel.BeforeWeights(ahead_.weights);
    }
    const int64_t pairs = blocks_[ahead_.block].pairs;
    const int32_t end = static_cast<int32_t>(Smaller(pairs, loaded_ + most));
    weights_.Load(ahead_, loaded_, end);
    loaded_ = end;
  }

  // Prepares the tile after that of at_, once the last packet of the tile before is on its way: its
  // buffers are the ones that are filled. True if this may have made way for the next packet.
  template <class Kernel>
  __aicore__ inline bool LookAhead(Kernel& kernel) {
    if (ahead_ready_ || ended_ || earlier_ > 0) return false;
    if (ahead_.tile + 1 < last_tile_) {
      ++ahead_.tile;
    } else if (!placed_) {
      placed_ = BeginBlock(kernel);
      ended_ = !placed_;
      // The scalar unit waits for the vector unit before it goes on. Some packets keep that busy
      // meanwhile; but at first nobody has anything else to do.
      patience_ = blocks_.newest() > 1 ? t.buffers : 0;
      return placed_;
    } else {
      if (held_ == t.buffers && patience_-- > 0) return false;
      blocks_.Finish(blocks_[ahead_.block]);
      geometry_.Compute(blocks_[ahead_.block]);
      placed_ = false;
      ahead_.tile = first_tile_;
    }
    ahead_.weights ^= 1;
    ahead_ready_ = true;
    return true;
  }

  // False if there are no more pairs.
  template <class Kernel>
  __aicore__ inline bool BeginBlock(Kernel& kernel) {
    while (blocks_.AllTaken()) {
      if (!blocks_.NextVisible()) return false;
      kernel.OnChunk();
    }
    ahead_.block ^= 1;
    blocks_.Place(ahead_.block);
    return true;
  }

  const Tiling& t;
  Locations& locations_;
  Blocks& blocks_;
  Geometry& geometry_;
  Weights& weights_;
  Corners& corners_;
  const bool wants_corners_;
  Packet at_;
  Step ahead_;
  int32_t first_tile_ = 0, last_tile_ = 0;
  bool ahead_ready_ = false;
  bool placed_ = false;  // the next block is being prepared
  int32_t patience_ = 0;
  bool ended_ = false;
  int32_t loaded_ = 0;   // pairs of the next tile whose weights are loaded
  int32_t held_ = 0;     // packets that are loaded but not computed
  int32_t earlier_ = 0;  // ... of tiles before that of at_
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_SCHEDULE_H_
