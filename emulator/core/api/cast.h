// Conversions, and copies within UB with a mask.
#pragma once

#include "machine/convert.h"
#include "vector.h"

namespace api {

constexpr Rounding rounding(AscendC::RoundMode mode) {
  switch (mode) {
    case AscendC::RoundMode::CAST_NONE:
      return Rounding::none;
    case AscendC::RoundMode::CAST_RINT:
      return Rounding::to_even;
    case AscendC::RoundMode::CAST_FLOOR:
      return Rounding::down;
    case AscendC::RoundMode::CAST_CEIL:
      return Rounding::up;
    case AscendC::RoundMode::CAST_ROUND:
      return Rounding::away;
    case AscendC::RoundMode::CAST_TRUNC:
      return Rounding::to_zero;
    case AscendC::RoundMode::CAST_ODD:
      return Rounding::odd;
  }
  return Rounding::none;
}

template <class T, class U>
constexpr uint32_t widest = sizeof(T) > sizeof(U) ? sizeof(T) : sizeof(U);

template <class T, class U, class Form>
void cast(Site site, const Form& form, const UnaryStrides& s, const AscendC::LocalTensor<T>& dst,
          const AscendC::LocalTensor<U>& src, AscendC::RoundMode mode) {
  Call call("Cast", site, form, widest<T, U>);
  const Operand from = call.operand(src, "src", s.src_block, s.src);
  const Operand to = call.target(dst, s.dst_block, s.dst);
  if (!has_conversion<T, U>(rounding(mode))) {
    call.core.error(
        "cast-mode",
        "Cast: the vector unit has no such conversion in this round mode, and a release "
        "build issues nothing",
        site);
    return;
  }
  emulator::convert<T, U>(call.instruction(), to, from, rounding(mode));
}

template <class T>
void copy_masked(const char* name, Site site, const MaskForm& form, const UnaryStrides& s,
                 const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src) {
  Call call(name, site, form, sizeof(T));
  if (call.core.mask.counter && call.lanes.repeats) {
    call.lanes = Lanes::of_each(call.core.mask.low, form.repeats);
  }
  const Operand from = call.operand(src, "src", s.src_block, s.src);
  const Operand to = call.target(dst, s.dst_block, s.dst);
  emulator::unary<false, T, T>(call.instruction(), to, from, [](auto a) { return a; });
}

}  // namespace api

namespace AscendC {

template <class T, class U>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& round_mode,
          const uint32_t count, Site site = Site::here()) {
  constexpr uint32_t widest = api::widest<T, U>;
  api::cast(site, api::CountForm{count},
            {1, 1, api::packed(sizeof(T), widest), api::packed(sizeof(U), widest)}, dst, src,
            round_mode);
}
template <class T, class U, bool isSetMask = true>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& round_mode,
          const uint64_t mask, const Byte& repeat_time, const UnaryRepeatParams& params,
          Site site = Site::here()) {
  const api::MaskForm form{api::MaskArgument::first(mask), isSetMask, repeat_time.value};
  api::cast(site, form, api::strides("Cast", site, params), dst, src, round_mode);
}
template <class T, class U, bool isSetMask = true>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& round_mode,
          const uint64_t mask[], const Byte& repeat_time, const UnaryRepeatParams& params,
          Site site = Site::here()) {
  const auto argument = api::MaskArgument::pattern(mask, api::widest<T, U>);
  api::cast(site, api::MaskForm{argument, isSetMask, repeat_time.value},
            api::strides("Cast", site, params), dst, src, round_mode);
}

#define API_COPY_FORM(MASK)                                                                      \
  template <class T, bool isSetMask = true>                                                      \
  void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint64_t MASK,           \
            const Byte& repeat_time, const CopyRepeatParams& params, Site site = Site::here()) { \
    static_assert(api::storable<T>, "Copy does not take this type");                             \
    api::copy_masked<T>(API_MASKED(Copy, T, params), dst, src);                                  \
  }
API_COPY_FORM(mask)
API_COPY_FORM(mask[])

}  // namespace AscendC
