// The registers that select lanes, as kernels set them.
#pragma once

#include "machine/lanes.h"
#include "types.h"

namespace AscendC {

using emulator::Site;

inline void SetMaskCount(Site site = Site::here()) {
  emulator::current().set_mask_mode(true);
  emulator::current().mask.site = site;
}

inline void SetMaskNorm() { emulator::current().set_mask_mode(false); }

inline void ResetMask() { emulator::current().set_vector_mask(~0ull, ~0ull); }

template <class T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(const uint64_t maskHigh, const uint64_t maskLow, Site site = Site::here()) {
  auto& core = emulator::current();
  core.set_vector_mask(maskHigh, maskLow);
  core.mask.dirty = !core.mask.owned;
  core.mask.owned = true;
  core.mask.site = site;
}

template <class T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(int32_t length, Site site = Site::here()) {
  if constexpr (mode == MaskMode::COUNTER) {
    SetVectorMask<T, mode>(0, static_cast<uint64_t>(length), site);
  } else {
    SetVectorMask<T, mode>(emulator::first_lanes(length - 64), emulator::first_lanes(length), site);
  }
}

}  // namespace AscendC
