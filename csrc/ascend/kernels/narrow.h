// Numbers of 16 bits: they are copied as bits, widened to float32 behind the copy into UB, and rounded
// once, to the nearest even, before the copy out of it.

#ifndef JDA_ASCEND_NARROW_H_
#define JDA_ASCEND_NARROW_H_

#include "kernel_operator.h"
#include "tiling.h"

namespace jda_ascend {

using namespace AscendC;

using Bits16 = uint16_t;

__aicore__ inline void Widen(int32_t format, const LocalTensor<float>& to,
                             const LocalTensor<Bits16>& from, int32_t count) {
  const uint32_t n = static_cast<uint32_t>(count);
  if (format == kFloat16) {
    Cast(to, from.ReinterpretCast<half>(), RoundMode::CAST_NONE, n);
  } else {
    Cast(to, from.ReinterpretCast<bfloat16_t>(), RoundMode::CAST_NONE, n);
  }
}

// `lanes` numbers of each of some rows.
__aicore__ inline void WidenRows(int32_t format, const LocalTensor<float>& to,
                                 const LocalTensor<Bits16>& from, uint64_t lanes, uint8_t rows,
                                 const UnaryRepeatParams& strides) {
  if (format == kFloat16) {
    Cast(to, from.ReinterpretCast<half>(), RoundMode::CAST_NONE, lanes, rows, strides);
  } else {
    Cast(to, from.ReinterpretCast<bfloat16_t>(), RoundMode::CAST_NONE, lanes, rows, strides);
  }
}

__aicore__ inline void Round(int32_t format, const LocalTensor<Bits16>& to,
                             const LocalTensor<float>& from, int32_t count) {
  const uint32_t n = static_cast<uint32_t>(count);
  if (format == kFloat16) {
    Cast(to.ReinterpretCast<half>(), from, RoundMode::CAST_RINT, n);
  } else {
    Cast(to.ReinterpretCast<bfloat16_t>(), from, RoundMode::CAST_RINT, n);
  }
}

// `lanes` numbers of each of some rows.
__aicore__ inline void RoundRows(int32_t format, const LocalTensor<Bits16>& to,
                                 const LocalTensor<float>& from, uint64_t lanes, uint8_t rows,
                                 const UnaryRepeatParams& strides) {
  if (format == kFloat16) {
    Cast(to.ReinterpretCast<half>(), from, RoundMode::CAST_RINT, lanes, rows, strides);
  } else {
    Cast(to.ReinterpretCast<bfloat16_t>(), from, RoundMode::CAST_RINT, lanes, rows, strides);
  }
}

}  // namespace jda_ascend

#endif  // JDA_ASCEND_NARROW_H_
