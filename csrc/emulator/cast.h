// Conversions between types, with the rounding of each mode.
#pragma once

#include "vector.h"

namespace emulator {

double round_to_integer(double value, AscendC::RoundMode mode);
// What is just below an integer, as the integer. Published kernels correct CAST_FLOOR as if the
// vector unit could take the one for the other; no document says so.
float worst_floor(float value);
float round_to_float(double value, AscendC::RoundMode mode);
uint16_t round_to_half(float value, AscendC::RoundMode mode);
uint16_t round_to_bfloat16(float value, AscendC::RoundMode mode);

template <class T, class U>
T convert(U value, AscendC::RoundMode mode) {
  if constexpr (std::is_integral_v<T> && std::is_integral_v<U>) {
    // Narrower integers saturate.
    if (value < static_cast<U>(std::numeric_limits<T>::min()) && sizeof(T) < sizeof(U))
      return std::numeric_limits<T>::min();
    if (value > static_cast<U>(std::numeric_limits<T>::max()) && sizeof(T) < sizeof(U))
      return std::numeric_limits<T>::max();
    return static_cast<T>(value);
  } else if constexpr (std::is_integral_v<T>) {
    const double whole = round_to_integer(static_cast<double>(static_cast<float>(value)), mode);
    if (whole != whole) return 0;
    if (whole <= static_cast<double>(std::numeric_limits<T>::min()))
      return std::numeric_limits<T>::min();
    if (whole >= static_cast<double>(std::numeric_limits<T>::max()))
      return std::numeric_limits<T>::max();
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

// Whether the hardware has the conversion in this mode.
template <class T, class U>
bool has_conversion(AscendC::RoundMode mode) {
  using M = AscendC::RoundMode;
  const bool none = mode == M::CAST_NONE, odd = mode == M::CAST_ODD, five = !none && !odd;
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
bool fits(U value, AscendC::RoundMode mode) {
  if constexpr (std::is_integral_v<T> && !std::is_integral_v<U>) {
    const double whole = round_to_integer(static_cast<double>(static_cast<float>(value)), mode);
    const double end = -2.0 * static_cast<double>(std::numeric_limits<T>::min() / 2);
    return std::is_signed_v<T> ? whole >= -end && whole < end
                               : whole >= 0 && whole <= std::numeric_limits<T>::max();
  } else {
    return true;
  }
}

inline void report_cast_range(Core& core, const char* name, Site site) {
  core.report("cast-range", Severity::unspecified,
              std::string(name) + " of NaN, or of what the integer type does not hold", site);
}

template <class T, class U>
void cast(VectorCall& call, const UnaryStrides& s, const AscendC::LocalTensor<T>& dst,
          const AscendC::LocalTensor<U>& src, AscendC::RoundMode mode) {
  if (!has_conversion<T, U>(mode)) {
    call.core.error("cast-mode", "Cast: the vector unit has no such conversion in this round mode",
                    call.i.site);
  }
  const Operand from = call.read(src, "src", s.src_block, s.src);
  const Operand to = call.write(dst, s.dst_block, s.dst);
  check_overlap(call.core, call.i, call.lanes, to, &from, 1, Accumulation::none);
  const bool worst = call.core.options.worst_casts && mode == AscendC::RoundMode::CAST_FLOOR;
  call.issue(std::array<Operand, 2>{to, from},
             [mode, worst, core = &call.core, site = call.i.site](
                 uint8_t* ub, const std::array<uint32_t, 2>& p, uint32_t n) {
               T* d = at<T>(ub, p[0]);
               const U* a = at<U>(ub, p[1]);
               bool all_fit = true;
               for (uint32_t k = 0; k < n; ++k) {
                 U value = a[k];
                 if constexpr (std::is_same_v<U, float>) value = worst ? worst_floor(value) : value;
                 all_fit = all_fit && fits<T, U>(value, mode);
                 d[k] = convert<T, U>(value, mode);
               }
               if (!all_fit) report_cast_range(*core, "Cast", site);
             });
}

}  // namespace emulator

namespace AscendC {

template <class T, class U>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& round_mode,
          const uint32_t count, Site site = Site::here()) {
  constexpr uint32_t widest = sizeof(T) > sizeof(U) ? sizeof(T) : sizeof(U);
  emulator::VectorCall call("Cast", site);
  call.count(count, widest);
  emulator::cast(call,
                 {1, 1, emulator::packed(sizeof(T), widest), emulator::packed(sizeof(U), widest)},
                 dst, src, round_mode);
}
template <class T, class U, bool isSetMask = true>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& round_mode,
          const uint64_t mask, const Byte& repeat_time, const UnaryRepeatParams& params,
          Site site = Site::here()) {
  constexpr uint32_t widest = sizeof(T) > sizeof(U) ? sizeof(T) : sizeof(U);
  emulator::VectorCall call("Cast", site);
  call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time.value, widest);
  emulator::cast(call, emulator::strides(call.core, "Cast", site, params), dst, src, round_mode);
}
template <class T, class U, bool isSetMask = true>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& round_mode,
          const uint64_t mask[], const Byte& repeat_time, const UnaryRepeatParams& params,
          Site site = Site::here()) {
  constexpr uint32_t widest = sizeof(T) > sizeof(U) ? sizeof(T) : sizeof(U);
  emulator::VectorCall call("Cast", site);
  call.masked(emulator::MaskArgument::pattern(mask, widest), isSetMask, repeat_time.value, widest);
  emulator::cast(call, emulator::strides(call.core, "Cast", site, params), dst, src, round_mode);
}

// UB to UB with a mask.
#define EMULATOR_COPY_FORM(MASK)                                                                 \
  template <class T, bool isSetMask = true>                                                      \
  void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint64_t MASK,           \
            const Byte& repeat_time, const CopyRepeatParams& params, Site site = Site::here()) { \
    static_assert(emulator::storable<T>, "Copy does not take this type");                        \
    emulator::unary<false, T, T>(EMULATOR_MASKED(Copy, T, params), dst, src,                     \
                                 [](auto a) { return a; });                                      \
  }
EMULATOR_COPY_FORM(mask)
EMULATOR_COPY_FORM(mask[])

}  // namespace AscendC
