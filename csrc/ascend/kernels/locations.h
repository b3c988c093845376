// The pairs of a range, chunk by chunk: their locations and which of them are visible.

#ifndef JDA_ASCEND_LOCATIONS_H_
#define JDA_ASCEND_LOCATIONS_H_

#include "memory.h"
#include "operands.h"

namespace jda_ascend {

constexpr float kInvisible = -1.0f;

class Locations {
 public:
  __aicore__ inline Locations(const Tiling& tiling, Memory& memory, const Operands& operands)
      : t(tiling) {
    gm_locations_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(operands.sample_locations));
    raw_ = memory.Get<float>(t.raw);
    planes_ = memory.Get<float>(t.scratch);
    bits_ = memory.Get<uint8_t>(t.bits_held);
  }

  // Chunks never cross a multiple of `segment`.
  __aicore__ inline void StartRange(int64_t begin, int64_t end, int64_t segment) {
    next_ = begin;
    end_ = end;
    segment_ = segment;
    SetFlag<HardEvent::V_MTE2>(kRawEvent);
    Prefetch();
  }

  // Loads the next chunk: y and x to `planes_`, one bit per pair to `visible`.
  __aicore__ inline bool NextChunk(const LocalTensor<uint8_t>& visible) {
    if (next_ >= end_) return false;
    chunk_ = next_;
    chunk_pairs_ = prefetched_;
    next_ += prefetched_;
    WaitFlag<HardEvent::MTE2_V>(kRawEvent);
    Separate();
    SetFlag<HardEvent::V_MTE2>(kRawEvent);
    Prefetch();
    FindVisible(visible);
    return true;
  }

  __aicore__ inline void EndRange() { WaitFlag<HardEvent::V_MTE2>(kRawEvent); }

  // Full repeats that hold the chunk; what lies behind its last pair is invisible.
  __aicore__ inline uint32_t PaddedPairs() const {
    return static_cast<uint32_t>(AlignUp(chunk_pairs_, kRepeat));
  }

  // Every chunk of the range was loaded.
  __aicore__ inline bool AtEnd() const { return next_ >= end_; }

  // The chunk: its first pair, how many it has, their y and x (until the next vector operation on
  // scratch) and room for a bit of each.
  __aicore__ inline int64_t chunk() const { return chunk_; }
  __aicore__ inline int32_t chunk_pairs() const { return chunk_pairs_; }
  __aicore__ inline const LocalTensor<float>& planes() const { return planes_; }
  __aicore__ inline const LocalTensor<uint8_t>& bits() const { return bits_; }

 private:
  __aicore__ inline void Prefetch() {
    if (next_ >= end_) return;
    const int64_t segment_end = (next_ / segment_ + 1) * segment_;
    prefetched_ = static_cast<int32_t>(Smaller(kChunk, Smaller(end_, segment_end) - next_));
    const uint32_t floats = 2 * prefetched_;
    const uint8_t padding = static_cast<uint8_t>(AlignUp(floats, kLanes) - floats);
    WaitFlag<HardEvent::V_MTE2>(kRawEvent);
    DataCopyPad(raw_, gm_locations_[2 * next_],
                DataCopyExtParams{1, static_cast<uint32_t>(floats * sizeof(float)), 0, 0, 0},
                DataCopyPadExtParams<float>{padding != 0, 0, padding, kInvisible});
    SetFlag<HardEvent::MTE2_V>(kRawEvent);
  }

  __aicore__ inline void Separate() {
    const uint32_t floats = 2 * PaddedPairs();
    const uint32_t loaded = static_cast<uint32_t>(AlignUp(2 * chunk_pairs_, kLanes));
    if (loaded < floats) {
      Duplicate(raw_[loaded], kInvisible, static_cast<int32_t>(floats - loaded));
    }
    PipeBarrier<PIPE_V>();  // also for what used planes_ before
    const uint8_t even = 1, odd = 2;
    const GatherMaskParams all{1, static_cast<uint16_t>(floats / kRepeat), 8, 0};
    uint64_t taken = 0;
    GatherMask(planes_[0], raw_, t.y_axis == 0 ? even : odd, false, 0, all, taken);
    GatherMask(planes_[kChunk], raw_, t.y_axis == 0 ? odd : even, false, 0, all, taken);
  }

  // 0 < y < 1 and 0 < x < 1: the positive tests, which NaN fails.
  __aicore__ inline void FindVisible(const LocalTensor<uint8_t>& visible) {
    const uint32_t count = PaddedPairs();
    constexpr uint32_t kBytes = kChunk / 8;
    ResetMask();  // GatherMask leaves an empty one, and it is not promised that compares ignore it
    PipeBarrier<PIPE_V>();
    CompareScalar(bits_[0], planes_[0], 0.0f, CMPMODE::GT, count);
    CompareScalar(bits_[kBytes], planes_[0], 1.0f, CMPMODE::LT, count);
    CompareScalar(bits_[2 * kBytes], planes_[kChunk], 0.0f, CMPMODE::GT, count);
    CompareScalar(bits_[3 * kBytes], planes_[kChunk], 1.0f, CMPMODE::LT, count);
    PipeBarrier<PIPE_V>();
    const LocalTensor<uint16_t> words = bits_.ReinterpretCast<uint16_t>();
    constexpr uint32_t kWords = kBytes / 2;
    const int32_t used = static_cast<int32_t>(count / 16);
    And(words[0], words[0], words[kWords], used);
    And(words[2 * kWords], words[2 * kWords], words[3 * kWords], used);
    PipeBarrier<PIPE_V>();
    And(visible.ReinterpretCast<uint16_t>(), words[0], words[2 * kWords], used);
  }

  const Tiling& t;
  GlobalTensor<float> gm_locations_;
  LocalTensor<float> raw_, planes_;
  LocalTensor<uint8_t> bits_;
  int64_t next_ = 0;
  int64_t end_ = 0;
  int64_t chunk_ = 0;
  int32_t chunk_pairs_ = 0;
  int64_t segment_ = 0;
  int32_t prefetched_ = 0;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LOCATIONS_H_
