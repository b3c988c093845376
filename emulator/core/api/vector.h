// Vector calls that work on each lane by itself. A table at the end gives names, types and meaning.
#pragma once

#include "call.h"

namespace api {

template <class T>
constexpr bool arithmetic = one_of<T, half, float, int16_t, int32_t>;
template <class T>
constexpr bool floating = one_of<T, half, float>;
template <class T>
constexpr bool bitwise = one_of<T, int16_t, uint16_t>;
template <class T>
constexpr bool integer = one_of<T, int16_t, uint16_t, int32_t, uint32_t>;
template <class T>
constexpr bool storable = one_of<T, half, bfloat16_t, float, int16_t, uint16_t, int32_t, uint32_t>;

template <class T, class Form, class F>
void binary(const Caller& by, const Form& form, const BinaryStrides& s,
            const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src0,
            const AscendC::LocalTensor<T>& src1, Accumulation accumulation, F f) {
  Call call(by, form, sizeof(T));
  const Operand a = call.operand(src0, "src0", s.src0BlkStride, s.src0RepStride);
  const Operand b = call.operand(src1, "src1", s.src1BlkStride, s.src1RepStride);
  const Operand to = call.target(dst, s.dstBlkStride, s.dstRepStride);
  emulator::binary<T>(call.instruction(), to, a, b, accumulation, f);
}

template <class T, class U, class Form>
void multiply_add(const Caller& by, const Form& form, const BinaryStrides& s,
                  const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<U>& src0,
                  const AscendC::LocalTensor<U>& src1) {
  check_fused_types<T, U>();
  Call call(by, form, sizeof(T));
  const Operand a = call.operand(src0, "src0", s.src0BlkStride, s.src0RepStride);
  const Operand b = call.operand(src1, "src1", s.src1BlkStride, s.src1RepStride);
  const Operand to = call.target(dst, s.dstBlkStride, s.dstRepStride);
  emulator::multiply_add<T, U>(call.instruction(), to, a, b);
}

template <bool accumulates, class T, class U, class Form, class F>
void unary(const Caller& by, const Form& form, const UnaryStrides& s,
           const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<U>& src, F f) {
  if constexpr (accumulates) check_fused_types<T, U>();
  Call call(by, form, sizeof(T));
  const Operand a = call.operand(src, "src", s.src_block, s.src);
  const Operand to = call.target(dst, s.dst_block, s.dst);
  emulator::unary<accumulates, T, U>(call.instruction(), to, a, f);
}

template <class T, class Form>
void fill(const Caller& by, const Form& form, const AscendC::LocalTensor<T>& dst,
          int64_t block_stride, int64_t repeat_stride, T value) {
  Call call(by, form, sizeof(T));
  emulator::fill<T>(call.instruction(), call.target(dst, block_stride, repeat_stride), value);
}

inline CountForm form(int64_t count) { return {count}; }
// Of the calls whose count form has isSetMask: without it, what the registers say.
template <bool set_mask>
auto form(int64_t count) {
  if constexpr (set_mask) {
    return CountForm{count};
  } else {
    return MaskForm{0, false, 1};
  }
}

}  // namespace api

namespace AscendC {

// Every call has two forms: with a count, and with a mask and repeats. The macros below declare them;
// TYPES says which element types there are, EXPRESSION what a lane computes.
#define API_MASKED(NAME, params)                                    \
  {#NAME, site}, api::MaskForm{mask, isSetMask, repeat_time.value}, \
      api::strides({#NAME, site}, params)

#define API_BINARY(NAME, TYPES, ACCUMULATION, EXPRESSION)                                      \
  template <class T>                                                                           \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, \
            const int32_t& count, Site site = Site::here()) {                                  \
    static_assert(api::TYPES<T>, #NAME " does not take this type");                            \
    api::binary<T>({#NAME, site}, api::form(count), {}, dst, src0, src1,                       \
                   emulator::Accumulation::none, [](auto a, auto b) { return EXPRESSION; });   \
  }                                                                                            \
  template <class T, bool isSetMask = true>                                                    \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, \
            const api::Mask& mask, const Byte& repeat_time, const BinaryRepeatParams& params,  \
            Site site = Site::here()) {                                                        \
    static_assert(api::TYPES<T>, #NAME " does not take this type");                            \
    api::binary<T>(API_MASKED(NAME, params), dst, src0, src1,                                  \
                   emulator::Accumulation::ACCUMULATION,                                       \
                   [](auto a, auto b) { return EXPRESSION; });                                 \
  }

API_BINARY(Add, arithmetic, allowed, emulator::wrap(a) + emulator::wrap(b))
API_BINARY(Sub, arithmetic, allowed, emulator::wrap(a) - emulator::wrap(b))
API_BINARY(Mul, arithmetic, allowed, emulator::product(a, b))
API_BINARY(Max, arithmetic, allowed, a > b || b != b ? a : b)
API_BINARY(Min, arithmetic, allowed, a < b || b != b ? a : b)
API_BINARY(Div, floating, none, a / b)
API_BINARY(And, bitwise, none, (a & b))
API_BINARY(Or, bitwise, none, (a | b))

// dst += src0 * src1
template <class T, class U, bool isSetMask = true>
void MulAddDst(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1,
               const api::Mask& mask, const Byte& repeat_time, const BinaryRepeatParams& params,
               Site site = Site::here()) {
  api::multiply_add<T, U>(API_MASKED(MulAddDst, params), dst, src0, src1);
}
template <class T, class U>
void MulAddDst(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1,
               const int32_t& count, Site site = Site::here()) {
  const int64_t step = api::packed(sizeof(U), sizeof(T));
  api::multiply_add<T, U>({"MulAddDst", site}, api::form(count), {1, 1, 1, 8, step, step}, dst,
                          src0, src1);
}

#define API_UNARY(NAME, TYPES, EXPRESSION)                                                        \
  template <class T>                                                                              \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t& count,           \
            Site site = Site::here()) {                                                           \
    static_assert(api::TYPES<T>, #NAME " does not take this type");                               \
    api::unary<false, T, T>({#NAME, site}, api::form(count), {}, dst, src,                        \
                            [](auto a) { return EXPRESSION; });                                   \
  }                                                                                               \
  template <class T, bool isSetMask = true>                                                       \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const api::Mask& mask,          \
            const Byte& repeat_time, const UnaryRepeatParams& params, Site site = Site::here()) { \
    static_assert(api::TYPES<T>, #NAME " does not take this type");                               \
    api::unary<false, T, T>(API_MASKED(NAME, params), dst, src,                                   \
                            [](auto a) { return EXPRESSION; });                                   \
  }

API_UNARY(Abs, floating, __builtin_fabsf(a))
API_UNARY(Exp, floating, __builtin_expf(a))
API_UNARY(Ln, floating, __builtin_logf(a))
API_UNARY(Sqrt, floating, __builtin_sqrtf(a))
API_UNARY(Rsqrt, floating, 1 / __builtin_sqrtf(a))
API_UNARY(Reciprocal, floating, 1 / a)
API_UNARY(Relu, floating, a > 0 || a != a ? a : 0)
API_UNARY(Not, bitwise, ~a)

#define API_SCALAR(NAME, TYPES, EXPRESSION)                                                   \
  template <class T, bool isSetMask = true>                                                   \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const api::Same<T>& scalar, \
            const int32_t& count, Site site = Site::here()) {                                 \
    static_assert(api::TYPES<T>, #NAME " does not take this type");                           \
    api::unary<false, T, T>(                                                                  \
        {#NAME, site}, api::form<isSetMask>(count), {}, dst, src,                             \
        [b = static_cast<emulator::Wide<T>>(scalar)](auto a) { return EXPRESSION; });         \
  }                                                                                           \
  template <class T, bool isSetMask = true>                                                   \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const api::Same<T>& scalar, \
            const api::Mask& mask, const Byte& repeat_time, const UnaryRepeatParams& params,  \
            Site site = Site::here()) {                                                       \
    static_assert(api::TYPES<T>, #NAME " does not take this type");                           \
    api::unary<false, T, T>(                                                                  \
        API_MASKED(NAME, params), dst, src,                                                   \
        [b = static_cast<emulator::Wide<T>>(scalar)](auto a) { return EXPRESSION; });         \
  }

API_SCALAR(Adds, arithmetic, emulator::wrap(a) + emulator::wrap(b))
API_SCALAR(Muls, arithmetic, emulator::product(a, b))
API_SCALAR(Maxs, arithmetic, a > b || b != b ? a : b)
API_SCALAR(Mins, arithmetic, a < b || b != b ? a : b)
API_SCALAR(LeakyRelu, floating, a >= 0 ? a : a * b)
API_SCALAR(ShiftLeft, integer, emulator::wrap(a) << emulator::wrap(b))
API_SCALAR(ShiftRight, integer, a >> b)

// dst += src * scalar
template <class T, class U, bool isSetMask = true>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const api::Same<U>& scalar,
          const api::Mask& mask, const Byte& repeat_time, const UnaryRepeatParams& params,
          Site site = Site::here()) {
  api::unary<true, T, U>(
      API_MASKED(Axpy, params), dst, src,
      [s = static_cast<emulator::Wide<U>>(scalar)](auto a, auto d) { return d + a * s; });
}
template <class T, class U, bool isSetMask = true>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const api::Same<U>& scalar,
          const int32_t& count, Site site = Site::here()) {
  api::unary<true, T, U>(
      {"Axpy", site}, api::form<isSetMask>(count), {1, 1, 8, api::packed(sizeof(U), sizeof(T))},
      dst, src, [s = static_cast<emulator::Wide<U>>(scalar)](auto a, auto d) { return d + a * s; });
}

template <class T>
void Duplicate(const LocalTensor<T>& dst, const api::Same<T>& value, const int32_t& count,
               Site site = Site::here()) {
  static_assert(api::storable<T>, "Duplicate does not take this type");
  api::fill({"Duplicate", site}, api::form(count), dst, 1, 8, T(value));
}
template <class T, bool isSetMask = true>
void Duplicate(const LocalTensor<T>& dst, const api::Same<T>& value, const api::Mask& mask,
               const Byte& repeat_time, const Short& block_stride, const Byte& repeat_stride,
               Site site = Site::here()) {
  static_assert(api::storable<T>, "Duplicate does not take this type");
  api::check_fields({"Duplicate", site}, "dstBlkStride", block_stride, "dstRepStride",
                    repeat_stride);
  api::fill({"Duplicate", site}, api::MaskForm{mask, isSetMask, repeat_time.value}, dst,
            block_stride.value, repeat_stride.value, T(value));
}

}  // namespace AscendC
