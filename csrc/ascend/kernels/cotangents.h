// The cotangents of the anchors of a block, one row each in a ring.

#ifndef JDA_ASCEND_COTANGENTS_H_
#define JDA_ASCEND_COTANGENTS_H_

#include "memory.h"
#include "narrow.h"
#include "packet.h"

namespace jda_ascend {

class Cotangents {
 public:
  __aicore__ inline Cotangents(const Tiling& tiling, Memory& memory, GM_ADDR cotangent)
      : t(tiling), memory_(memory), narrow_(tiling.maps_format != kFloat32) {
    gm_cotangent_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(cotangent));
    gm_narrow_.SetGlobalBuffer(reinterpret_cast<__gm__ Bits16*>(cotangent));
    cotangents_ = memory_.Get<float>(t.ring);
    narrow_ring_ = memory_.Get<Bits16>(t.narrow_ring);
  }

  __aicore__ inline void Clear() {
    Duplicate(cotangents_, 0.0f, static_cast<int32_t>(cotangents_.GetSize()));
    if (narrow_) Duplicate(narrow_ring_, Bits16(0), static_cast<int32_t>(narrow_ring_.GetSize()));
  }

  // The ring holds nothing yet.
  __aicore__ inline void Start() { newest_ = newest_widened_ = -1; }

  __aicore__ inline void Load(const Block& block) {
    for (int32_t run = 0; run < block.runs; ++run) {
      if (block.anchor[run] == newest_) continue;
      newest_ = block.anchor[run];
      const uint64_t at = static_cast<uint64_t>(newest_ * t.channels);
      const int32_t groups = static_cast<int32_t>(t.groups);
      if (narrow_) {
        memory_.LoadRows(Narrow(block, run), gm_narrow_[at], 1, groups);
      } else {
        memory_.LoadRows(Of(block, run, 0), gm_cotangent_[at], 1, groups);
      }
    }
  }

  // Cotangents of 16 bits as float32, before the first packet of a block that has new ones.
  __aicore__ inline void WidenRows(const Block& block) {
    for (int32_t run = 0; narrow_ && run < block.runs; ++run) {
      if (block.anchor[run] == newest_widened_) continue;
      newest_widened_ = block.anchor[run];
      Widen(t.maps_format, Of(block, run, 0), Narrow(block, run), t.row_pitch);
    }
  }

  // A tile of the cotangent of the anchor of a run.
  __aicore__ inline LocalTensor<float> Of(const Block& block, int32_t run, int32_t tile) const {
    return cotangents_[block.slot[run] * t.row_pitch + tile * t.tile_pitch];
  }

 private:
  __aicore__ inline LocalTensor<Bits16> Narrow(const Block& block, int32_t run) const {
    return narrow_ring_[block.slot[run] * t.row_pitch];
  }

  const Tiling& t;
  Memory& memory_;
  const bool narrow_;
  GlobalTensor<float> gm_cotangent_;
  GlobalTensor<Bits16> gm_narrow_;
  LocalTensor<float> cotangents_;
  LocalTensor<Bits16> narrow_ring_;  // as they come
  int64_t newest_ = -1;              // the last anchor whose cotangent was loaded
  int64_t newest_widened_ = -1;      // ... and widened
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_COTANGENTS_H_
