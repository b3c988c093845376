// The cotangents of the anchors of a block, one row each in a ring.

#ifndef JDA_ASCEND_COTANGENTS_H_
#define JDA_ASCEND_COTANGENTS_H_

#include "memory.h"
#include "packet.h"

namespace jda_ascend {

class Cotangents {
 public:
  __aicore__ inline Cotangents(const Tiling& tiling, Memory& memory, GM_ADDR cotangent)
      : t(tiling), memory_(memory) {
    gm_cotangent_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(cotangent));
    cotangents_ = memory_.Get<float>(t.ring);
  }

  __aicore__ inline void Clear() {
    Duplicate(cotangents_, 0.0f, static_cast<int32_t>(cotangents_.GetSize()));
  }

  // The ring holds nothing yet.
  __aicore__ inline void Start() { newest_cotangent_ = -1; }

  __aicore__ inline void Load(const Block& block) {
    for (int32_t run = 0; run < block.runs; ++run) {
      if (block.anchor[run] == newest_cotangent_) continue;
      newest_cotangent_ = block.anchor[run];
      memory_.LoadRows(Of(block, run, 0),
                       gm_cotangent_[static_cast<uint64_t>(newest_cotangent_ * t.channels)], 1,
                       static_cast<int32_t>(t.groups));
    }
  }

  // A tile of the cotangent of the anchor of a run.
  __aicore__ inline LocalTensor<float> Of(const Block& block, int32_t run, int32_t tile) const {
    return cotangents_[block.slot[run] * t.row_pitch + tile * t.tile_pitch];
  }

 private:
  const Tiling& t;
  Memory& memory_;
  GlobalTensor<float> gm_cotangent_;
  LocalTensor<float> cotangents_;
  int64_t newest_cotangent_ = -1;  // the last anchor whose cotangent was loaded
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_COTANGENTS_H_
