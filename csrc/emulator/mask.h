// The registers that select lanes.
#pragma once

#include "lanes.h"

namespace AscendC {

inline void SetMaskCount(Site site = Site::here()) {
  auto& core = emulator::current();
  core.timeline.mask();
  core.mask.counter = true;
  core.mask.site = site;
}

inline void SetMaskNorm() {
  auto& core = emulator::current();
  core.timeline.mask();
  core.mask.counter = false;
}

inline void ResetMask() {
  auto& core = emulator::current();
  core.timeline.mask();
  core.mask.high = core.mask.low = ~0ull;
  core.mask.owned = true;
  core.mask.dirty = false;
}

template <class T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(const uint64_t maskHigh, const uint64_t maskLow, Site site = Site::here()) {
  auto& core = emulator::current();
  core.timeline.mask();
  core.mask.high = maskHigh;
  core.mask.low = maskLow;
  core.mask.owned = true;
  core.mask.dirty = maskHigh != ~0ull || maskLow != ~0ull;
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
