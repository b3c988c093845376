// The samples of a share of the pairs as a stream of batches: corner rows of the next batches are
// under way while one is computed, and the next block is prepared while the batches of the current
// one run.
//
// A kernel derives from Stream<Kernel>, calls Run(), and provides
//   OnStart()              all pipes are idle, and every flag is down
//   OnChunk()              a chunk was compacted
//   OnBlock(block)         MTE2 may load what the block needs
//   BeforeWeights(buffer)  MTE2 is about to fill this weight buffer
//   Compute(batch)         calls Await() first and Release() last
//   OnFinish()             nothing more is computed: waits for the flags of OnStart()

#ifndef JDA_ASCEND_STREAM_H_
#define JDA_ASCEND_STREAM_H_

#include "corners.h"

namespace jda_ascend {

constexpr int32_t kWeightsAtOnce = 32;  // samples whose weights are loaded along with a batch
constexpr int32_t kMaxBuffers = 3;

template <class Kernel>
class Stream : public CornerRows {
 protected:
  __aicore__ inline Stream(const Tiling& tiling, TPipe& pipe, GM_ADDR features, GM_ADDR shapes,
                           GM_ADDR starts, GM_ADDR locations, GM_ADDR weight, GM_ADDR workspace,
                           bool wants_corners)
      : CornerRows(tiling, pipe, features, shapes, starts, locations, weight, workspace),
        wants_corners_(wants_corners) {}

  // Everything that needs no share; constants are filled while the first copies are under way.
  __aicore__ inline void Prepare() {
    const bool shares = t.deterministic == 0 && t.cores > 1;
    if (shares) PrepareToShare();
    LoadMaps();
    SeedNumbers();
    ClearPairs();
    ClearWeights();
    FillNumbers();
    FindMaps();
    if (shares) FindBits();
  }

  // Computes the samples of pairs [begin, end) in tiles [first, last).
  __aicore__ inline void Run(int64_t begin, int64_t end, int32_t first, int32_t last) {
    Start(begin, end, first, last);
    Batch batches[kMaxBuffers];
    int32_t oldest = 0;
    for (;;) {
      do {
        while (held_ < t.buffers && Next()) {
          batches[(oldest + held_++) % kMaxBuffers] = at_;
        }
      } while (LookAhead());
      if (held_ == 0) break;
      kernel().Compute(batches[oldest]);
      oldest = (oldest + 1) % kMaxBuffers;
      --held_;
      if (earlier_ > 0) --earlier_;
    }
    Finish();
  }

  // Before the first vector operation that reads what was loaded for the batch.
  __aicore__ inline void Await(const Batch& batch) {
    WaitFlag<HardEvent::MTE2_V>(kCornersEvent + batch.corners);
  }

  // After the last vector operation of the batch: all that MTE2 filled for it may be filled again.
  __aicore__ inline void Release(const Batch& batch) {
    SetFlag<HardEvent::V_MTE2>(kCornersEvent + batch.corners);
  }

  // After the last vector operation that reads the weights of the batch's tile.
  __aicore__ inline void ReleaseWeights(const Batch& batch) {
    if (batch.closes_tile) SetFlag<HardEvent::V_MTE2>(kWeightsEvent + batch.weights);
  }

  // The anchor that follows a closing block in the stream, or -1.
  __aicore__ inline int64_t AnchorAfter(const Batch& batch) const {
    const Block& other = blocks_[batch.block ^ 1];
    return other.number == blocks_[batch.block].number + 1 ? other.anchor[0] : -1;
  }

  bool wants_corners_;

 private:
  __aicore__ inline Kernel& kernel() { return *static_cast<Kernel*>(this); }

  __aicore__ inline void Start(int64_t begin, int64_t end, int32_t first, int32_t last) {
    PipeBarrier<PIPE_ALL>();  // flags of an earlier run are down, everything is initialised
    kernel().OnStart();
    first_tile_ = first;
    last_tile_ = last;
    at_ = Batch{};
    at_.corners = t.buffers - 1;
    at_.block = 1;  // which is empty, so that the first tile is entered
    ahead_ = Step{1, 1, 0, last - 1};
    ahead_ready_ = ended_ = placed_ = false;
    earlier_ = held_ = 0;
    StartBlocks();
    StartRange(begin, end, t.anchors * t.anchor_pairs);
    if (wants_corners_) ClearCorners();
    for (int32_t i = 0; i < t.buffers; ++i) SetFlag<HardEvent::V_MTE2>(kCornersEvent + i);
    SetFlag<HardEvent::V_MTE2>(kWeightsEvent);
    SetFlag<HardEvent::V_MTE2>(kWeightsEvent + 1);
  }

  __aicore__ inline void Finish() {
    for (int32_t i = 0; i < t.buffers; ++i) WaitFlag<HardEvent::V_MTE2>(kCornersEvent + i);
    WaitFlag<HardEvent::V_MTE2>(kWeightsEvent);
    WaitFlag<HardEvent::V_MTE2>(kWeightsEvent + 1);
    EndRange();
    kernel().OnFinish();
  }

  // Loads the next batch into at_; false at the end, or while the next tile is not prepared yet.
  __aicore__ inline bool Next() {
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
      EnterTile();
    }
    DescribeBatch();
    if (wants_corners_) LoadCorners(at_);
    if (ahead_ready_) LoadMoreWeights(AlignUp(kWeightsAtOnce, t.scales) / t.scales);
    SetFlag<HardEvent::MTE2_V>(kCornersEvent + at_.corners);
    return true;
  }

  __aicore__ inline void EnterTile() {
    LoadMoreWeights(plane_);  // what is left
    loaded_ = 0;
    if (ahead_.block != at_.block || at_.count == 0) {
      kernel().OnBlock(blocks_[ahead_.block]);
      AwaitGeometry(blocks_[ahead_.block]);
    }
    static_cast<Step&>(at_) = ahead_;
    at_.first = 0;
    ahead_ready_ = false;
    earlier_ = held_;
  }

  __aicore__ inline void DescribeBatch() {
    const int32_t pairs = blocks_[at_.block].pairs;
    at_.count = static_cast<int32_t>(Smaller(t.samples, pairs - at_.first));
    at_.opens_step = at_.first == 0;
    at_.closes_step = at_.first + at_.count == pairs;
    at_.closes_tile = at_.closes_step && at_.scale + 1 == t.scales;
    at_.opens_block = at_.opens_step && at_.scale == 0 && at_.tile == first_tile_;
    at_.closes_block = at_.closes_tile && at_.tile + 1 == last_tile_;
    at_.missing = at_.repeated = 0;
  }

  // Up to `most` more pairs' weights in all scales. They are loaded bit by bit while the batches
  // before them run.
  __aicore__ inline void LoadMoreWeights(int64_t most) {
    if (loaded_ == 0) {
      WaitFlag<HardEvent::V_MTE2>(kWeightsEvent + ahead_.weights);
      kernel().BeforeWeights(ahead_.weights);
    }
    const int64_t pairs = blocks_[ahead_.block].pairs;
    const int32_t end = static_cast<int32_t>(Smaller(pairs, loaded_ + most));
    LoadWeights(ahead_, loaded_, end);
    loaded_ = end;
  }

  // Prepares the tile after that of at_, once the last batch of the tile before is on its way: its
  // buffers are the ones that are filled. True if this may have made way for the next batch.
  __aicore__ inline bool LookAhead() {
    if (ahead_ready_ || ended_ || earlier_ > 0) return false;
    if (ahead_.tile + 1 < last_tile_) {
      ++ahead_.tile;
    } else if (!placed_) {
      placed_ = BeginBlock();
      ended_ = !placed_;
      // The scalar unit waits for the vector unit before it goes on. Some batches keep that busy
      // meanwhile; but at first nobody has anything else to do.
      patience_ = newest_block_ > 1 ? t.buffers : 0;
      return placed_;
    } else {
      if (held_ == t.buffers && patience_-- > 0) return false;
      FinishBlock(blocks_[ahead_.block]);
      ComputeGeometry(blocks_[ahead_.block]);
      placed_ = false;
      ahead_.tile = first_tile_;
    }
    ahead_.weights ^= 1;
    ahead_ready_ = true;
    return true;
  }

  // False if there are no more pairs.
  __aicore__ inline bool BeginBlock() {
    while (AllTaken()) {
      if (!NextVisible()) return false;
      kernel().OnChunk();
    }
    ahead_.block ^= 1;
    PlaceBlock(ahead_.block);
    return true;
  }

  Batch at_;
  Step ahead_;
  int32_t first_tile_ = 0, last_tile_ = 0;
  bool ahead_ready_ = false;
  bool placed_ = false;  // the next block is being prepared
  int32_t patience_ = 0;
  bool ended_ = false;
  int32_t loaded_ = 0;   // pairs of the next tile whose weights are loaded
  int32_t held_ = 0;     // batches that are loaded but not computed
  int32_t earlier_ = 0;  // ... of tiles before that of at_
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_STREAM_H_
