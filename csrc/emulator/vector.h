// Vector calls that work on each lane by itself. A table at the end gives names, types and meaning.
#pragma once

#include <cmath>

#include "vector_call.h"

namespace emulator {

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

template <class T, class F>
T lane2(T a, T b, F f) {
  return static_cast<T>(f(static_cast<Wide<T>>(a), static_cast<Wide<T>>(b)));
}

template <class T, class F>
void binary(VectorCall& call, const BinaryStrides& s, const AscendC::LocalTensor<T>& dst,
            const AscendC::LocalTensor<T>& src0, const AscendC::LocalTensor<T>& src1,
            Accumulation accumulation, F f) {
  const std::array<Operand, 2> sources = {call.read(src0, "src0", s.src0_block, s.src0),
                                          call.read(src1, "src1", s.src1_block, s.src1)};
  const Operand to = call.write(dst, s.dst_block, s.dst);
  check_overlap(call.core, call.i, call.lanes, to, sources.data(), 2, accumulation);
  call.i.work.cycles += bank_conflicts(call.lanes, sources.data(), 2) * call.lanes.repeats *
                        call.core.options.cost.bank_conflict;
  call.issue(std::array<Operand, 3>{to, sources[0], sources[1]},
             [f](uint8_t* ub, const std::array<uint32_t, 3>& p, uint32_t n) {
               T* d = at<T>(ub, p[0]);
               const T *a = at<T>(ub, p[1]), *b = at<T>(ub, p[2]);
               for (uint32_t k = 0; k < n; ++k) d[k] = lane2<T>(a[k], b[k], f);
             });
}

// dst = f(dst, a, b)
template <class T, class U, class F>
void ternary(VectorCall& call, const BinaryStrides& s, const AscendC::LocalTensor<T>& dst,
             const AscendC::LocalTensor<U>& src0, const AscendC::LocalTensor<U>& src1, F f) {
  const std::array<Operand, 3> sources = {call.read(src0, "src0", s.src0_block, s.src0),
                                          call.read(src1, "src1", s.src1_block, s.src1),
                                          call.read(dst, "dst", s.dst_block, s.dst)};
  const Operand to = call.write(dst, s.dst_block, s.dst);
  check_overlap(call.core, call.i, call.lanes, to, sources.data(), 3, Accumulation::none);
  call.i.work.cycles += call.lanes.repeats * call.core.options.cost.three_address;
  call.issue(std::array<Operand, 3>{to, sources[0], sources[1]},
             [f](uint8_t* ub, const std::array<uint32_t, 3>& p, uint32_t n) {
               T* d = at<T>(ub, p[0]);
               const U *a = at<U>(ub, p[1]), *b = at<U>(ub, p[2]);
               for (uint32_t k = 0; k < n; ++k) {
                 d[k] = static_cast<T>(f(static_cast<Wide<T>>(d[k]), static_cast<Wide<U>>(a[k]),
                                         static_cast<Wide<U>>(b[k])));
               }
             });
}

// dst = f(src), and with `accumulates` dst = f(src, dst)
template <class T, class U, bool accumulates, class F>
void unary(VectorCall& call, const UnaryStrides& s, const AscendC::LocalTensor<T>& dst,
           const AscendC::LocalTensor<U>& src, F f) {
  std::array<Operand, 2> sources = {call.read(src, "src", s.src_block, s.src), {}};
  if (accumulates) sources[1] = call.read(dst, "dst", s.dst_block, s.dst);
  const Operand to = call.write(dst, s.dst_block, s.dst);
  check_overlap(call.core, call.i, call.lanes, to, sources.data(), accumulates ? 2 : 1,
                Accumulation::none);
  call.issue(std::array<Operand, 2>{to, sources[0]},
             [f](uint8_t* ub, const std::array<uint32_t, 2>& p, uint32_t n) {
               T* d = at<T>(ub, p[0]);
               const U* a = at<U>(ub, p[1]);
               for (uint32_t k = 0; k < n; ++k) {
                 if constexpr (accumulates) {
                   d[k] = static_cast<T>(f(static_cast<Wide<U>>(a[k]), static_cast<Wide<T>>(d[k])));
                 } else {
                   d[k] = static_cast<T>(f(static_cast<Wide<U>>(a[k])));
                 }
               }
             });
}

}  // namespace emulator

namespace AscendC {

// The three forms of a call: a count, a number of lanes, a pattern of lanes.
#define EMULATOR_BINARY(NAME, TYPES, ACCUMULATION, EXPRESSION)                                    \
  template <class T>                                                                              \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,    \
            const int32_t& count, Site site = Site::here()) {                                     \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                          \
    emulator::VectorCall call(#NAME, site);                                                       \
    call.count(emulator::checked_count(call, count), sizeof(T));                                  \
    emulator::binary<T>(call, {}, dst, src0, src1, emulator::Accumulation::none,                  \
                        [](auto a, auto b) { return EXPRESSION; });                               \
  }                                                                                               \
  template <class T, bool isSetMask = true>                                                       \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,    \
            uint64_t mask, const Byte& repeat_time, const BinaryRepeatParams& params,             \
            Site site = Site::here()) {                                                           \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                          \
    emulator::VectorCall call(#NAME, site);                                                       \
    call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time.value, sizeof(T));    \
    emulator::binary<T>(call, emulator::strides(call.core, #NAME, site, params), dst, src0, src1, \
                        emulator::Accumulation::ACCUMULATION,                                     \
                        [](auto a, auto b) { return EXPRESSION; });                               \
  }                                                                                               \
  template <class T, bool isSetMask = true>                                                       \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,    \
            uint64_t mask[], const Byte& repeat_time, const BinaryRepeatParams& params,           \
            Site site = Site::here()) {                                                           \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                          \
    emulator::VectorCall call(#NAME, site);                                                       \
    call.masked(emulator::MaskArgument::pattern(mask, sizeof(T)), isSetMask, repeat_time.value,   \
                sizeof(T));                                                                       \
    emulator::binary<T>(call, emulator::strides(call.core, #NAME, site, params), dst, src0, src1, \
                        emulator::Accumulation::ACCUMULATION,                                     \
                        [](auto a, auto b) { return EXPRESSION; });                               \
  }

EMULATOR_BINARY(Add, arithmetic, allowed, emulator::wrap(a) + emulator::wrap(b))
EMULATOR_BINARY(Sub, arithmetic, allowed, emulator::wrap(a) - emulator::wrap(b))
EMULATOR_BINARY(Mul, arithmetic, allowed, emulator::product(a, b))
EMULATOR_BINARY(Max, arithmetic, allowed, a > b || b != b ? a : b)
EMULATOR_BINARY(Min, arithmetic, allowed, a < b || b != b ? a : b)
EMULATOR_BINARY(Div, floating, none, a / b)
EMULATOR_BINARY(And, bitwise, none, a& b)
EMULATOR_BINARY(Or, bitwise, none, a | b)

#define EMULATOR_TERNARY(NAME, EXPRESSION, CHECK)                                               \
  template <class T, class U>                                                                   \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1,  \
            const int32_t& count, Site site = Site::here()) {                                   \
    emulator::check_fused_types<T, U>();                                                        \
    emulator::VectorCall call(#NAME, site);                                                     \
    call.count(emulator::checked_count(call, count), sizeof(T));                                \
    emulator::BinaryStrides s;                                                                  \
    s.src0 = s.src1 = emulator::packed(sizeof(U), sizeof(T));                                   \
    emulator::ternary<T, U>(call, s, dst, src0, src1,                                           \
                            [](auto d, auto a, auto b) { return EXPRESSION; });                 \
  }                                                                                             \
  template <class T, class U, bool isSetMask = true>                                            \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1,  \
            uint64_t mask, const Byte& repeat_time, const BinaryRepeatParams& params,           \
            Site site = Site::here()) {                                                         \
    emulator::check_fused_types<T, U>();                                                        \
    emulator::VectorCall call(#NAME, site);                                                     \
    call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time.value, sizeof(T));  \
    const auto s = emulator::strides(call.core, #NAME, site, params);                           \
    CHECK;                                                                                      \
    emulator::ternary<T, U>(call, s, dst, src0, src1,                                           \
                            [](auto d, auto a, auto b) { return EXPRESSION; });                 \
  }                                                                                             \
  template <class T, class U, bool isSetMask = true>                                            \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1,  \
            uint64_t mask[], const Byte& repeat_time, const BinaryRepeatParams& params,         \
            Site site = Site::here()) {                                                         \
    emulator::check_fused_types<T, U>();                                                        \
    emulator::VectorCall call(#NAME, site);                                                     \
    call.masked(emulator::MaskArgument::pattern(mask, sizeof(T)), isSetMask, repeat_time.value, \
                sizeof(T));                                                                     \
    const auto s = emulator::strides(call.core, #NAME, site, params);                           \
    CHECK;                                                                                      \
    emulator::ternary<T, U>(call, s, dst, src0, src1,                                           \
                            [](auto d, auto a, auto b) { return EXPRESSION; });                 \
  }

EMULATOR_TERNARY(MulAddDst, d + a * b, (void)0)
// Authors of other kernels found vmadd with a still second source to give wrong results.
EMULATOR_TERNARY(FusedMulAdd, a* d + b, emulator::check_fused_stride(call, s))

#define EMULATOR_UNARY(NAME, TYPES, EXPRESSION)                                                   \
  template <class T>                                                                              \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t& count,           \
            Site site = Site::here()) {                                                           \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                          \
    emulator::VectorCall call(#NAME, site);                                                       \
    call.count(emulator::checked_count(call, count), sizeof(T));                                  \
    emulator::unary<T, T, false>(call, {}, dst, src, [](auto a) { return EXPRESSION; });          \
  }                                                                                               \
  template <class T, bool isSetMask = true>                                                       \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, uint64_t mask,                  \
            const Byte& repeat_time, const UnaryRepeatParams& params, Site site = Site::here()) { \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                          \
    emulator::VectorCall call(#NAME, site);                                                       \
    call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time.value, sizeof(T));    \
    emulator::unary<T, T, false>(call, emulator::strides(call.core, #NAME, site, params), dst,    \
                                 src, [](auto a) { return EXPRESSION; });                         \
  }                                                                                               \
  template <class T, bool isSetMask = true>                                                       \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, uint64_t mask[],                \
            const Byte& repeat_time, const UnaryRepeatParams& params, Site site = Site::here()) { \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                          \
    emulator::VectorCall call(#NAME, site);                                                       \
    call.masked(emulator::MaskArgument::pattern(mask, sizeof(T)), isSetMask, repeat_time.value,   \
                sizeof(T));                                                                       \
    emulator::unary<T, T, false>(call, emulator::strides(call.core, #NAME, site, params), dst,    \
                                 src, [](auto a) { return EXPRESSION; });                         \
  }

EMULATOR_UNARY(Abs, floating, std::fabs(a))
EMULATOR_UNARY(Exp, floating, std::exp(a))
EMULATOR_UNARY(Ln, floating, std::log(a))
EMULATOR_UNARY(Sqrt, floating, std::sqrt(a))
EMULATOR_UNARY(Rsqrt, floating, 1 / std::sqrt(a))
EMULATOR_UNARY(Reciprocal, floating, 1 / a)
EMULATOR_UNARY(Relu, floating, a > 0 || a != a ? a : 0)
EMULATOR_UNARY(Not, bitwise, ~a)

#define EMULATOR_SCALAR(NAME, TYPES, EXPRESSION)                                                   \
  template <class T, bool isSetMask = true>                                                        \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const emulator::Same<T>& scalar, \
            const int32_t& count, Site site = Site::here()) {                                      \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                           \
    emulator::VectorCall call(#NAME, site);                                                        \
    call.count(emulator::checked_count(call, count), sizeof(T));                                   \
    emulator::unary<T, T, false>(                                                                  \
        call, {}, dst, src,                                                                        \
        [b = static_cast<emulator::Wide<T>>(scalar)](auto a) { return EXPRESSION; });              \
  }                                                                                                \
  template <class T, bool isSetMask = true>                                                        \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const emulator::Same<T>& scalar, \
            uint64_t mask, const Byte& repeat_time, const UnaryRepeatParams& params,               \
            Site site = Site::here()) {                                                            \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                           \
    emulator::VectorCall call(#NAME, site);                                                        \
    call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time.value, sizeof(T));     \
    emulator::unary<T, T, false>(                                                                  \
        call, emulator::strides(call.core, #NAME, site, params), dst, src,                         \
        [b = static_cast<emulator::Wide<T>>(scalar)](auto a) { return EXPRESSION; });              \
  }                                                                                                \
  template <class T, bool isSetMask = true>                                                        \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const emulator::Same<T>& scalar, \
            uint64_t mask[], const Byte& repeat_time, const UnaryRepeatParams& params,             \
            Site site = Site::here()) {                                                            \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                           \
    emulator::VectorCall call(#NAME, site);                                                        \
    call.masked(emulator::MaskArgument::pattern(mask, sizeof(T)), isSetMask, repeat_time.value,    \
                sizeof(T));                                                                        \
    emulator::unary<T, T, false>(                                                                  \
        call, emulator::strides(call.core, #NAME, site, params), dst, src,                         \
        [b = static_cast<emulator::Wide<T>>(scalar)](auto a) { return EXPRESSION; });              \
  }

EMULATOR_SCALAR(Adds, arithmetic, emulator::wrap(a) + emulator::wrap(b))
EMULATOR_SCALAR(Muls, arithmetic, emulator::product(a, b))
EMULATOR_SCALAR(Maxs, arithmetic, a > b || b != b ? a : b)
EMULATOR_SCALAR(Mins, arithmetic, a < b || b != b ? a : b)
EMULATOR_SCALAR(LeakyRelu, floating, a >= 0 ? a : a * b)
EMULATOR_SCALAR(ShiftLeft, integer, emulator::wrap(a) << emulator::wrap(b))
EMULATOR_SCALAR(ShiftRight, integer, a >> b)

// dst += src * scalar
template <class T, class U, bool isSetMask = true>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const emulator::Same<U>& scalar,
          const int32_t& count, Site site = Site::here()) {
  emulator::check_fused_types<T, U>();
  emulator::VectorCall call("Axpy", site);
  call.count(emulator::checked_count(call, count), sizeof(T));
  emulator::UnaryStrides s;
  s.src = emulator::packed(sizeof(U), sizeof(T));
  emulator::unary<T, U, true>(
      call, s, dst, src,
      [b = static_cast<emulator::Wide<U>>(scalar)](auto a, auto d) { return d + a * b; });
}
template <class T, class U, bool isSetMask = true>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const emulator::Same<U>& scalar,
          uint64_t mask, const Byte& repeat_time, const UnaryRepeatParams& params,
          Site site = Site::here()) {
  emulator::check_fused_types<T, U>();
  emulator::VectorCall call("Axpy", site);
  call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time.value, sizeof(T));
  emulator::unary<T, U, true>(
      call, emulator::strides(call.core, "Axpy", site, params), dst, src,
      [b = static_cast<emulator::Wide<U>>(scalar)](auto a, auto d) { return d + a * b; });
}
template <class T, class U, bool isSetMask = true>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const emulator::Same<U>& scalar,
          uint64_t mask[], const Byte& repeat_time, const UnaryRepeatParams& params,
          Site site = Site::here()) {
  emulator::check_fused_types<T, U>();
  emulator::VectorCall call("Axpy", site);
  call.masked(emulator::MaskArgument::pattern(mask, sizeof(T)), isSetMask, repeat_time.value,
              sizeof(T));
  emulator::unary<T, U, true>(
      call, emulator::strides(call.core, "Axpy", site, params), dst, src,
      [b = static_cast<emulator::Wide<U>>(scalar)](auto a, auto d) { return d + a * b; });
}

}  // namespace AscendC

namespace emulator {

// Fills lanes: f(lane number of the whole call) is the value.
template <class T, class F>
void fill(VectorCall& call, const AscendC::LocalTensor<T>& dst, int64_t block_stride,
          int64_t repeat_stride, F f) {
  const Operand to = call.write(dst, block_stride, repeat_stride);
  call.issue(std::array<Operand, 1>{to},
             [f](uint8_t* ub, const std::array<uint32_t, 1>& p, uint32_t n) {
               T* d = at<T>(ub, p[0]);
               for (uint32_t k = 0; k < n; ++k) d[k] = f(k);
             });
}

}  // namespace emulator

namespace AscendC {

template <class T>
void Duplicate(const LocalTensor<T>& dst, const emulator::Same<T>& value, const int32_t& count,
               Site site = Site::here()) {
  static_assert(emulator::storable<T>, "Duplicate does not take this type");
  emulator::VectorCall call("Duplicate", site);
  call.count(emulator::checked_count(call, count), sizeof(T));
  emulator::fill(call, dst, 1, 8, [v = T(value)](uint32_t) { return v; });
}
template <class T, bool isSetMask = true>
void Duplicate(const LocalTensor<T>& dst, const emulator::Same<T>& value, uint64_t mask,
               const Byte& repeat_time, const Short& block_stride, const Byte& repeat_stride,
               Site site = Site::here()) {
  static_assert(emulator::storable<T>, "Duplicate does not take this type");
  emulator::VectorCall call("Duplicate", site);
  emulator::check_field(call.core, "Duplicate", site, "dstBlkStride", block_stride);
  emulator::check_field(call.core, "Duplicate", site, "dstRepStride", repeat_stride);
  call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time.value, sizeof(T));
  emulator::fill(call, dst, block_stride.value, repeat_stride.value,
                 [v = T(value)](uint32_t) { return v; });
}
template <class T, bool isSetMask = true>
void Duplicate(const LocalTensor<T>& dst, const emulator::Same<T>& value, uint64_t mask[],
               const Byte& repeat_time, const Short& block_stride, const Byte& repeat_stride,
               Site site = Site::here()) {
  static_assert(emulator::storable<T>, "Duplicate does not take this type");
  emulator::VectorCall call("Duplicate", site);
  emulator::check_field(call.core, "Duplicate", site, "dstBlkStride", block_stride);
  emulator::check_field(call.core, "Duplicate", site, "dstRepStride", repeat_stride);
  call.masked(emulator::MaskArgument::pattern(mask, sizeof(T)), isSetMask, repeat_time.value,
              sizeof(T));
  emulator::fill(call, dst, block_stride.value, repeat_stride.value,
                 [v = T(value)](uint32_t) { return v; });
}

// dst[k] = first + k
template <class T>
void CreateVecIndex(const LocalTensor<T>& dst, const emulator::Same<T>& first, uint32_t count,
                    Site site = Site::here()) {
  static_assert(emulator::arithmetic<T>, "CreateVecIndex does not take this type");
  emulator::VectorCall call("CreateVecIndex", site);
  call.count(count, sizeof(T));
  emulator::fill(call, dst, 1, 8,
                 [v = first](uint32_t k) { return static_cast<T>(v + static_cast<T>(k)); });
}
template <class T>
void ArithProgression(const LocalTensor<T>& dst, const emulator::Same<T> first,
                      const emulator::Same<T> step, const int32_t count, Site site = Site::here()) {
  static_assert(emulator::arithmetic<T>, "ArithProgression does not take this type");
  emulator::VectorCall call("ArithProgression", site);
  call.count(emulator::checked_count(call, count), sizeof(T));
  emulator::fill(call, dst, 1, 8, [first, step](uint32_t k) {
    return static_cast<T>(first + static_cast<T>(k) * step);
  });
}

}  // namespace AscendC
