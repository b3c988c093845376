// Which locations count, and between which neighbours one lies. The inner loops of every instruction set
// include this, so all of it is inlined always (simd.h).
#pragma once

#include <cstdint>

namespace jda {

template <typename T>
__attribute__((always_inline)) inline bool visible(T y, T x) {
  return (y > 0) & (y < 1) & (x > 0) & (x < 1);  // false for NaN; no branches
}

// Between which neighbours a coordinate above -1 lies, and how far from the lower one.
template <typename T>
struct Between {
  int32_t low;
  T rest;

  // floor: above -1, truncation is off below zero only
  __attribute__((always_inline)) explicit Between(T at)
      : low(static_cast<int32_t>(at) - (at < 0)), rest(at - static_cast<T>(low)) {}
  __attribute__((always_inline)) T share(int upper) const { return upper ? rest : 1 - rest; }
};

// Between which pixels of so many a visible location lies.
template <typename T>
__attribute__((always_inline)) inline Between<T> pixels(T location, int32_t size) {
  return Between<T>(location * static_cast<T>(size) - T(0.5));
}

}  // namespace jda
