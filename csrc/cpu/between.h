// Between which neighbours a coordinate above -1 lies, and how far from the lower one.
#pragma once

#include <cstdint>

namespace jda {

template <typename T>
struct Between {
  int32_t low;
  T rest;

  explicit Between(T at)
      : low(static_cast<int32_t>(at) - (at < 0)), rest(at - static_cast<T>(low)) {}
  T share(int upper) const { return upper ? rest : 1 - rest; }
};

}  // namespace jda
