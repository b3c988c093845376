// Conversions.
#pragma once

#include "machine/convert.h"
#include "vector.h"

namespace api {

constexpr Rounding rounding(AscendC::RoundMode mode) { return static_cast<Rounding>(mode); }

template <class T, class U>
constexpr uint32_t widest = sizeof(T) > sizeof(U) ? sizeof(T) : sizeof(U);

template <class T, class U, class Form>
void cast(Site site, const Form& form, const UnaryStrides& s, const AscendC::LocalTensor<T>& dst,
          const AscendC::LocalTensor<U>& src, AscendC::RoundMode mode) {
  Call call({"Cast", site}, form, widest<T, U>);
  const Operand from = call.operand(src, "src", s.src_block, s.src);
  const Operand to = call.target(dst, s.dst_block, s.dst);
  if (!has_conversion<T, U>(rounding(mode))) {
    call.core.error(
        "cast-mode", site,
        "Cast: the vector unit has no such conversion in this round mode, and a release "
        "build issues nothing");
    return;
  }
  emulator::convert<T, U>(call.instruction(), to, from, rounding(mode));
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
          const api::Mask& mask, const Byte& repeat_time, const UnaryRepeatParams& params,
          Site site = Site::here()) {
  api::cast(site, api::MaskForm{mask, isSetMask, repeat_time.value},
            api::strides({"Cast", site}, params), dst, src, round_mode);
}

}  // namespace AscendC
