// A gradient of the feature maps that has 16 bits: its sums in float32, rounded once when all are there.

#ifndef JDA_ASCEND_ROUNDING_H_
#define JDA_ASCEND_ROUNDING_H_

#include "memory.h"
#include "narrow.h"

namespace jda_ascend {

class Rounding {
 public:
  __aicore__ inline Rounding(const Tiling& tiling, Memory& memory, int32_t core, GM_ADDR workspace,
                             GM_ADDR gradient)
      : t(tiling), core_(core) {
    gm_sums_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(workspace + t.sums));
    gm_gradient_.SetGlobalBuffer(reinterpret_cast<__gm__ Bits16*>(gradient));
    sums_ = memory.Get<float>(t.sums_held);
    rounded_ = memory.Get<Bits16>(t.sums_rounded);
    zeros_ = memory.Get<float>(t.sums_cleared);
  }

  // Every core rounds one range of all sums, in pieces that take turns in two buffers. Comes when all
  // cores have added theirs. Whose place the next launch adds to is cleared on the way: a core has just
  // read it.
  __aicore__ inline void Run() {
    PipeBarrier<PIPE_ALL>();
    if (t.leaves_zeros != 0) Duplicate(zeros_, 0.0f, static_cast<int32_t>(zeros_.GetSize()));
    const int64_t all = t.batch * t.rows * t.channels;
    const int64_t each = AlignUp((all + t.cores - 1) / t.cores, kUnit);
    end_ = Smaller((core_ + 1) * each, all);
    for (int32_t i = 0; i < 2; ++i) {
      SetFlag<HardEvent::V_MTE2>(kSumsHeldEvent + i);
      SetFlag<HardEvent::MTE3_V>(kSumsHeldEvent + i);
    }
    int32_t buffer = 0;
    for (int64_t first = core_ * each; first < end_; first += t.rounded_at_once) {
      RoundPiece(first, buffer);
      buffer ^= 1;
    }
    for (int32_t i = 0; i < 2; ++i) {
      WaitFlag<HardEvent::V_MTE2>(kSumsHeldEvent + i);
      WaitFlag<HardEvent::MTE3_V>(kSumsHeldEvent + i);
    }
  }

 private:
  static constexpr int64_t kUnit = 256;  // numbers: so that ranges begin with lines of GM

  __aicore__ inline void RoundPiece(int64_t first, int32_t buffer) {
    const uint32_t count = static_cast<uint32_t>(Smaller(t.rounded_at_once, end_ - first));
    const uint32_t at = static_cast<uint32_t>(buffer * t.rounded_at_once);
    const int32_t event = kSumsHeldEvent + buffer;
    WaitFlag<HardEvent::V_MTE2>(event);
    DataCopyPad(sums_[at], gm_sums_[static_cast<uint64_t>(first)],
                DataCopyExtParams{1, static_cast<uint32_t>(count * sizeof(float)), 0, 0, 0},
                DataCopyPadExtParams<float>{false, 0, 0, 0.0f});
    SetFlag<HardEvent::MTE2_V>(event);
    WaitFlag<HardEvent::MTE2_V>(event);
    WaitFlag<HardEvent::MTE3_V>(event);
    Round(t.maps_format, rounded_[at], sums_[at], static_cast<int32_t>(count));
    SetFlag<HardEvent::V_MTE2>(event);
    SetFlag<HardEvent::V_MTE3>(event);
    WaitFlag<HardEvent::V_MTE3>(event);
    DataCopyPad(gm_gradient_[static_cast<uint64_t>(first)], rounded_[at],
                DataCopyExtParams{1, static_cast<uint32_t>(count * sizeof(Bits16)), 0, 0, 0});
    if (t.leaves_zeros != 0) {
      DataCopyPad(gm_sums_[static_cast<uint64_t>(first)], zeros_,
                  DataCopyExtParams{1, static_cast<uint32_t>(count * sizeof(float)), 0, 0, 0});
    }
    SetFlag<HardEvent::MTE3_V>(event);
  }

  const Tiling& t;
  const int32_t core_;
  int64_t end_ = 0;
  GlobalTensor<float> gm_sums_;
  GlobalTensor<Bits16> gm_gradient_;
  LocalTensor<float> sums_, zeros_;
  LocalTensor<Bits16> rounded_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_ROUNDING_H_
