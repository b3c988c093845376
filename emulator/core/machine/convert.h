// Conversions between types, with the rounding of each mode.
#pragma once

#include <limits>

#include "vector.h"

namespace emulator {

enum class Rounding { none, to_even, down, up, away, to_zero, odd };

double round_to_integer(double value, Rounding mode);
float round_to_float(double value, Rounding mode);
uint16_t round_to_half(float value, Rounding mode);
uint16_t round_to_bfloat16(float value, Rounding mode);
// What is just below an integer, as the integer. Published kernels correct rounding down as if the
// vector unit could take the one for the other; no document says so.
float worst_floor(float value);

template <class T, class U>
T convert(U value, Rounding mode) {
  using Limits = std::numeric_limits<T>;
  if constexpr (std::is_integral_v<T> && std::is_integral_v<U>) {
    // Narrower integers saturate.
    if (value < static_cast<U>(Limits::min()) && sizeof(T) < sizeof(U)) return Limits::min();
    if (value > static_cast<U>(Limits::max()) && sizeof(T) < sizeof(U)) return Limits::max();
    return static_cast<T>(value);
  } else if constexpr (std::is_integral_v<T>) {
    const double whole = round_to_integer(static_cast<double>(static_cast<float>(value)), mode);
    if (whole != whole) return 0;
    if (whole <= static_cast<double>(Limits::min())) return Limits::min();
    if (whole >= static_cast<double>(Limits::max())) return Limits::max();
    return static_cast<T>(whole);
  } else if constexpr (std::is_same_v<T, float> && std::is_same_v<U, float>) {
    return static_cast<float>(round_to_integer(value, mode));
  } else if constexpr (std::is_same_v<T, float> && std::is_integral_v<U>) {
    return round_to_float(static_cast<double>(value), mode);
  } else if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(value);
  } else {
    T narrow;
    narrow.bits = std::is_same_v<T, half> ? round_to_half(static_cast<float>(value), mode)
                                          : round_to_bfloat16(static_cast<float>(value), mode);
    return narrow;
  }
}

// Whether the vector unit has the conversion in this mode.
template <class T, class U>
bool has_conversion(Rounding mode) {
  const bool none = mode == Rounding::none, odd = mode == Rounding::odd, five = !none && !odd;
  if constexpr (std::is_same_v<U, float>) {
    if constexpr (std::is_same_v<T, half>) return true;
    return one_of<T, float, int32_t, int16_t, int64_t, bfloat16_t> && five;
  } else if constexpr (std::is_same_v<U, half>) {
    if constexpr (std::is_same_v<T, float>) return none;
    return one_of<T, int32_t, int16_t, int8_t, uint8_t> && (five || (none && sizeof(T) == 1));
  } else if constexpr (std::is_same_v<U, bfloat16_t>) {
    return std::is_same_v<T, float> ? none : std::is_same_v<T, int32_t> && five;
  } else if constexpr (std::is_same_v<U, int32_t>) {
    if constexpr (std::is_same_v<T, float>) return five || none;
    return one_of<T, int16_t, int64_t> && none;
  } else if constexpr (std::is_same_v<U, int16_t>) {
    if constexpr (std::is_same_v<T, half>) return five || none;
    return std::is_same_v<T, float> && none;
  } else if constexpr (std::is_same_v<U, int64_t>) {
    return (std::is_same_v<T, int32_t> && none) || (std::is_same_v<T, float> && five);
  } else {
    return one_of<U, int8_t, uint8_t> && std::is_same_v<T, half> && none;
  }
}

// Whether the integer has the value, once it is rounded: NaN and what is too large is not promised.
template <class T, class U>
bool fits(U value, Rounding mode) {
  if constexpr (std::is_integral_v<T> && !std::is_integral_v<U>) {
    const double whole = round_to_integer(static_cast<double>(static_cast<float>(value)), mode);
    const double end = -2.0 * static_cast<double>(std::numeric_limits<T>::min() / 2);
    return std::is_signed_v<T> ? whole >= -end && whole < end
                               : whole >= 0 && whole <= std::numeric_limits<T>::max();
  } else {
    return true;
  }
}

inline void report_cast_range(Core& core, const Caller& by) {
  core.unspecified("cast-range", by, " of NaN, or of what the integer type does not hold");
}

template <class T, class U>
void convert(VectorInstruction v, const Operand& to, const Operand& from, Rounding mode) {
  v.reads(from);
  v.writes(to);
  check_overlap(v.core, v.i, v.lanes, to, &from, 1, Accumulation::none);
  constexpr bool to_integers = std::is_integral_v<T> || std::is_same_v<T, float>;
  const bool worst = v.core.options.worst_casts && mode == Rounding::down;
  Core* core = &v.core;
  v.issue_pieces(std::array{to, from},
                 [mode, worst, core, by = v.i.by](uint8_t* ub, const auto& p, uint32_t n) {
                   const U* a = at<U>(ub, p[1]);
                   bool all_fit = true;
                   // A plain loop here loses its stores with g++ 12 at -O1 (its induction variables).
                   std::transform(a, a + n, at<T>(ub, p[0]), [&](U value) {
                     if constexpr (std::is_same_v<U, float> && to_integers) {
                       value = worst ? worst_floor(value) : value;
                     }
                     all_fit = all_fit && fits<T, U>(value, mode);
                     return convert<T, U>(value, mode);
                   });
                   if (!all_fit) report_cast_range(*core, by);
                 });
}

}  // namespace emulator
