// Blocks of visible pairs: their locations, numbers and cameras without gaps, and their anchors.
//
// NextVisible() compacts a chunk, Place() starts to take a block of its pairs, and Finish()
// waits for them.

#ifndef JDA_ASCEND_BLOCKS_H_
#define JDA_ASCEND_BLOCKS_H_

#include "locations.h"
#include "packet.h"
#include "round_down.h"

namespace jda_ascend {

constexpr int32_t kFirstPairs = 64;  // of the first block, which everything waits for

class Blocks {
 public:
  __aicore__ inline Blocks(const Tiling& tiling, Memory& memory, Locations& locations)
      : t(tiling), locations_(locations) {
    compact_ = memory.Get<float>(t.compact);
    iota_ = memory.Get<float>(t.iota);
    offsets_ = memory.Get<int32_t>(t.offsets);
    pairs_ = memory.Get<int32_t>(t.pairs_held);
    place_ = memory.Get<float>(t.place);
    scratch_ = memory.Get<float>(t.scratch);
  }

  // The first of the numbers 0, 1, 2, ... that FillNumbers() goes on with.
  __aicore__ inline void SeedNumbers() {
    for (int32_t i = 0; i < kLanes; ++i) iota_.SetValue(i, static_cast<float>(i));
    SetFlag<HardEvent::S_V>(kNumbersEvent);
    WaitFlag<HardEvent::S_V>(kNumbersEvent);
  }

  // What a vector operation may read behind the last valid element is written once.
  __aicore__ inline void ClearPairs() {
    Duplicate(compact_, 0.0f, static_cast<int32_t>(compact_.GetSize()));
    Duplicate(place_, 0.0f, static_cast<int32_t>(place_.GetSize()));
  }

  __aicore__ inline void FillNumbers() {
    for (int32_t done = kLanes; done < kChunk; done *= 2) {
      PipeBarrier<PIPE_V>();
      Adds(iota_[done], iota_, static_cast<float>(done), done);
    }
    Muls(scratch_, iota_, static_cast<float>(sizeof(float)), t.block_pairs);
    PipeBarrier<PIPE_V>();
    Cast(offsets_, scratch_, RoundMode::CAST_RINT, t.block_pairs);
  }

  // There is no block and no chunk yet.
  __aicore__ inline void Start() {
    visible_ = taken_ = 0;
    newest_anchor_ = -1;
    newest_block_ = 0;
    blocks_[0].pairs = blocks_[1].pairs = 0;
    blocks_[0].number = blocks_[1].number = 0;
  }

  // Every visible pair of the chunk is in a block.
  __aicore__ inline bool AllTaken() const { return taken_ == visible_; }

  // Compacts the next chunk; false if there is none.
  __aicore__ inline bool NextVisible() {
    if (!locations_.NextChunk(locations_.bits())) return false;
    Compact();
    return true;
  }

  // Starts to prepare the next block: its pairs are under way to where they are needed.
  __aicore__ inline void Place(int32_t buffer) {
    Block& block = blocks_[buffer];
    block.buffer = buffer;
    block.chunk = locations_.chunk();
    block.element = locations_.chunk() / (t.anchors * t.anchor_pairs);
    block.pairs = Window(visible_ - taken_);
    PlacePairs(block);
  }

  // Once they are there: which of them the block has, and whose they are.
  __aicore__ inline void Finish(Block& block) {
    block.number = ++newest_block_;
    WaitFlag<HardEvent::V_S>(kPlacedEvent);
    FindRuns(block, block.pairs);
    block.pitch = static_cast<int32_t>(AlignUp(block.pairs, kLanes));
    taken_ += block.pairs;
  }

  __aicore__ inline int64_t Pair(const Block& block, int32_t i) const {
    return block.chunk + pairs_.GetValue(block.buffer * t.block_pairs + i);
  }

  // How many pairs from pair i on, up to pair `end`, surely follow each other without a gap. Numbers
  // rise, so the last of a run tells of all of it.
  __aicore__ inline int32_t RunOfPairs(const Block& block, int32_t i, int32_t end) const {
    const int64_t first = Pair(block, i);
    int32_t run = static_cast<int32_t>(Smaller(end - i, kMaxCopyRows / t.scales));
    while (run > 1 && Pair(block, i + run - 1) != first + run - 1) run = run > 4 ? 4 : run / 2;
    return run;
  }

  __aicore__ inline Block& operator[](int32_t buffer) { return blocks_[buffer]; }
  __aicore__ inline const Block& operator[](int32_t buffer) const { return blocks_[buffer]; }

  // Of the pairs of the block that is being prepared: y, x, or where its camera is in the tables.
  enum Row { kY, kX, kCamera };
  __aicore__ inline LocalTensor<float> OfPairs(Row row) const {
    return place_[row * t.block_pairs];
  }

  __aicore__ inline int32_t visible() const { return visible_; }  // pairs of the chunk
  __aicore__ inline int64_t newest() const { return newest_block_; }

 private:
  static constexpr int32_t kMaxCopyRows = 4095;
  static constexpr int32_t kCompact = kChunk + kLanes;

  // y, x and number of the visible pairs of the chunk, without gaps.
  __aicore__ inline void Compact() {
    const LocalTensor<uint32_t> bits = locations_.bits().ReinterpretCast<uint32_t>();
    const GatherMaskParams once{1, 1, 8, 1};
    uint64_t found = 0;
    PipeBarrier<PIPE_V>();
    GatherMask(compact_[0], locations_.planes()[0], bits, true, locations_.PaddedPairs(), once,
               found);
    GatherMask(compact_[kCompact], locations_.planes()[kChunk], bits, true,
               locations_.PaddedPairs(), once, found);
    GatherMask(compact_[2 * kCompact], iota_, bits, true, locations_.PaddedPairs(), once, found);
    visible_ = static_cast<int32_t>(found);
    taken_ = 0;
  }

  // What is left of the chunk in blocks of about the same size.
  __aicore__ inline int32_t Window(int32_t left) const {
    const int32_t blocks = (left + t.block_pairs - 1) / t.block_pairs;
    const int64_t even = AlignUp((left + blocks - 1) / blocks, t.samples);
    const int64_t most = newest_block_ == 0 ? Smaller(t.block_pairs, kFirstPairs) : t.block_pairs;
    return static_cast<int32_t>(Smaller(Smaller(even, most), left));
  }

  // What the geometry needs of each pair of the block: y, x and where its camera is in the tables.
  __aicore__ inline void PlacePairs(const Block& block) {
    const int32_t count = static_cast<int32_t>(AlignUp(block.pairs, kLanes));
    const LocalTensor<float> number = scratch_[0];
    SetFlag<HardEvent::S_V>(kReadEvent);
    WaitFlag<HardEvent::S_V>(kReadEvent);
    PipeBarrier<PIPE_V>();
    Take(place_[kY * t.block_pairs], compact_[0], count);
    Take(place_[kX * t.block_pairs], compact_[kCompact], count);
    Take(number, compact_[2 * kCompact], count);
    PipeBarrier<PIPE_V>();
    Cast(pairs_[block.buffer * t.block_pairs], number, RoundMode::CAST_RINT,
         static_cast<uint32_t>(count));
    if (t.cameras > 1) FindCameras(number, count);
    SetFlag<HardEvent::V_S>(kPlacedEvent);
  }

  // The next elements of a row of compact_, which start anywhere.
  __aicore__ inline void Take(const LocalTensor<float>& to, const LocalTensor<float>& from,
                              int32_t count) {
    if (taken_ % kLanes == 0) {
      DataCopy(to, from[taken_], static_cast<uint32_t>(count));
    } else {
      Gather(to, from, offsets_.ReinterpretCast<uint32_t>(), taken_ * sizeof(float),
             static_cast<uint32_t>(count));
    }
  }

  // The remainder of the pair numbers by the number of cameras, as offset into the map tables.
  __aicore__ inline void FindCameras(const LocalTensor<float>& number, int32_t count) {
    const LocalTensor<float> camera = scratch_[t.block_pairs];
    const LocalTensor<float> turn = scratch_[2 * t.block_pairs],
                             spare = scratch_[3 * t.block_pairs];
    const float cameras = static_cast<float>(static_cast<int32_t>(t.cameras));
    Adds(camera, number, static_cast<float>(static_cast<int32_t>(locations_.chunk() % t.cameras)),
         count);
    PipeBarrier<PIPE_V>();
    Adds(turn, camera, 0.5f, count);  // keeps the quotient away from whole numbers
    PipeBarrier<PIPE_V>();
    Muls(turn, turn, 1.0f / cameras, count);
    RoundDown(spare, turn, scratch_[4 * t.block_pairs], count);
    Muls(spare, spare, -cameras, count);
    PipeBarrier<PIPE_V>();
    Add(camera, camera, spare, count);
    PipeBarrier<PIPE_V>();
    Muls(camera, camera, static_cast<float>(static_cast<int32_t>(t.scales * sizeof(float))), count);
    PipeBarrier<PIPE_V>();
    Cast(place_[kCamera * t.block_pairs].ReinterpretCast<int32_t>(), camera, RoundMode::CAST_RINT,
         static_cast<uint32_t>(count));
  }

  // Cuts the window at the borders of anchors, and ends the block where it has enough of them.
  __aicore__ inline void FindRuns(Block& block, int32_t window) {
    block.runs = 0;
    block.pairs = 0;
    while (block.pairs < window && block.runs < t.block_anchors) {
      const int64_t anchor = Pair(block, block.pairs) / t.anchor_pairs;
      if (anchor != newest_anchor_) {
        newest_anchor_ = anchor;
        newest_slot_ = newest_slot_ + 1 == 2 * t.block_anchors ? 0 : newest_slot_ + 1;
      }
      block.pairs = FirstFrom(block, (anchor + 1) * t.anchor_pairs, block.pairs + 1, window);
      block.anchor[block.runs] = anchor;
      block.slot[block.runs] = newest_slot_;
      block.end[block.runs] = block.pairs;
      ++block.runs;
    }
  }

  // The first of the window's pairs [low, high) that is not before `pair`, or `high`.
  __aicore__ inline int32_t FirstFrom(const Block& block, int64_t pair, int32_t low,
                                      int32_t high) const {
    if (low < high && Pair(block, high - 1) < pair) return high;
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      if (Pair(block, middle) < pair) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  const Tiling& t;
  Locations& locations_;
  Block blocks_[2];
  LocalTensor<float> compact_, iota_, place_, scratch_;
  LocalTensor<int32_t> offsets_, pairs_;
  int32_t visible_ = 0;
  int32_t taken_ = 0;
  int64_t newest_block_ = 0;
  int64_t newest_anchor_ = -1;
  int32_t newest_slot_ = -1;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_BLOCKS_H_
