// What the scalar unit computes by special instructions, and debug output.
#pragma once

#include <cstdio>

#include "cast.h"

namespace AscendC {

template <class T, class U, RoundMode mode>
U ScalarCast(T value, Site site = Site::here()) {
  static_assert(std::is_same_v<T, float> && emulator::one_of<U, int32_t, half>,
                "ScalarCast: float to int32_t or half");
  constexpr bool four = mode == RoundMode::CAST_ROUND || mode == RoundMode::CAST_CEIL ||
                        mode == RoundMode::CAST_FLOOR || mode == RoundMode::CAST_RINT;
  static_assert(std::is_same_v<U, half> ? mode == RoundMode::CAST_ODD : four,
                "ScalarCast: ROUND, CEIL, FLOOR or RINT to int32_t, ODD to half");
  if (!emulator::fits<U, T>(value, api::rounding(mode))) {
    emulator::report_cast_range(emulator::current(), {"ScalarCast", site});
  }
  return emulator::convert<U, T>(value, api::rounding(mode));
}

template <int count>
int64_t ScalarGetCountOfValue(uint64_t value) {
  return __builtin_popcountll(count ? value : ~value);
}
// The lowest bit with that value, or -1.
template <int value>
int64_t ScalarGetSFFValue(uint64_t bits) {
  const uint64_t wanted = value ? bits : ~bits;
  return wanted ? __builtin_ctzll(wanted) : -1;
}
template <class... Arguments>
void printf(const char* format, Arguments... arguments) {
  if constexpr (sizeof...(arguments) == 0) {
    std::fputs(format, stdout);
  } else {
    std::printf(format, arguments...);
  }
}

}  // namespace AscendC

namespace api {

template <class... Arguments>
void failed_assert(const char* expression, Site site, Arguments...) {
  current().error("assert", site, "the kernel's own assertion fails: ", expression);
  throw Abandoned();
}

}  // namespace api

inline uint64_t sbitset0(uint64_t value, int64_t bit) { return value & ~(1ull << bit); }
inline uint64_t sbitset1(uint64_t value, int64_t bit) { return value | 1ull << bit; }

#undef assert
#define assert(...) API_ASSERT(__VA_ARGS__, 0)
#define ascendc_assert(...) API_ASSERT(__VA_ARGS__, 0)
#define API_ASSERT(expression, ...) \
  ((expression)                     \
       ? (void)0                    \
       : api::failed_assert(#expression, emulator::Site::here(__FILE__, __LINE__), __VA_ARGS__))
#define ASSERT(...) ((void)0)
