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

// Which lanes a call works on: a count of elements, or a mask and repeats.
struct CountForm {
  int64_t count;
  void apply(VectorCall& call, uint32_t bytes) const {
    call.count(checked_count(call, count), bytes);
  }
};
struct MaskForm {
  MaskArgument mask;
  bool set_mask;
  int64_t repeats;
  void apply(VectorCall& call, uint32_t bytes) const {
    call.masked(mask, set_mask, repeats, bytes);
  }
};

// dst = f(a, b)
template <class T, class Form, class F>
void binary(const char* name, Site site, const Form& form, const BinaryStrides& s,
            const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src0,
            const AscendC::LocalTensor<T>& src1, Accumulation accumulation, F f) {
  VectorCall call(name, site);
  form.apply(call, sizeof(T));
  const std::array<Operand, 2> sources = {call.read(src0, "src0", s.src0_block, s.src0),
                                          call.read(src1, "src1", s.src1_block, s.src1)};
  const Operand to = call.write(dst, s.dst_block, s.dst);
  if (std::is_same_v<T, int16_t>) accumulation = Accumulation::none;
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
template <class T, class U, class Form, class F>
void ternary(const char* name, Site site, const Form& form, const BinaryStrides& s,
             const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<U>& src0,
             const AscendC::LocalTensor<U>& src1, bool moving_src1, F f) {
  check_fused_types<T, U>();
  VectorCall call(name, site);
  form.apply(call, sizeof(T));
  const std::array<Operand, 3> sources = {call.read(src0, "src0", s.src0_block, s.src0),
                                          call.read(src1, "src1", s.src1_block, s.src1),
                                          call.read(dst, "dst", s.dst_block, s.dst)};
  const Operand to = call.write(dst, s.dst_block, s.dst);
  check_overlap(call.core, call.i, call.lanes, to, sources.data(), 3, Accumulation::none);
  if (moving_src1 && s.src1 == 0 && call.lanes.repeats > 1) {
    call.core.report(
        "fused-stride", Severity::unspecified,
        std::string(name) + " with src1RepStride 0: reported by others to compute wrongly", site);
  }
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

// dst = f(src), or dst = f(src, dst)
template <bool accumulates, class T, class U, class Form, class F>
void unary(const char* name, Site site, const Form& form, const UnaryStrides& s,
           const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<U>& src, F f) {
  if constexpr (accumulates) check_fused_types<T, U>();
  VectorCall call(name, site);
  form.apply(call, sizeof(T));
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

inline CountForm form(int64_t count) { return {count}; }
template <class T>
MaskForm form(uint64_t mask, bool set_mask, const AscendC::Byte& repeats) {
  return {MaskArgument::first(mask), set_mask, repeats.value};
}
template <class T>
MaskForm form(const uint64_t* mask, bool set_mask, const AscendC::Byte& repeats) {
  return {MaskArgument::pattern(mask, sizeof(T)), set_mask, repeats.value};
}
}  // namespace emulator

namespace AscendC {

// Every call has three forms: with a count, with a number of lanes, and with a pattern of lanes.
// The macros below declare them; TYPES says which element types there are, EXPRESSION what a lane
// computes.
#define EMULATOR_MASKED(NAME, T, params)                        \
  #NAME, site, emulator::form<T>(mask, isSetMask, repeat_time), \
      emulator::strides(emulator::current(), #NAME, site, params)

#define EMULATOR_BINARY_FORM(NAME, TYPES, MASK, ACCUMULATION, EXPRESSION)                      \
  template <class T, bool isSetMask = true>                                                    \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, \
            uint64_t MASK, const Byte& repeat_time, const BinaryRepeatParams& params,          \
            Site site = Site::here()) {                                                        \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                       \
    emulator::binary<T>(EMULATOR_MASKED(NAME, T, params), dst, src0, src1,                     \
                        emulator::Accumulation::ACCUMULATION,                                  \
                        [](auto a, auto b) { return EXPRESSION; });                            \
  }
#define EMULATOR_BINARY(NAME, TYPES, ACCUMULATION, EXPRESSION)                                    \
  template <class T>                                                                              \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,    \
            const int32_t& count, Site site = Site::here()) {                                     \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                          \
    emulator::binary<T>(#NAME, site, emulator::form(count), {}, dst, src0, src1,                  \
                        emulator::Accumulation::none, [](auto a, auto b) { return EXPRESSION; }); \
  }                                                                                               \
  EMULATOR_BINARY_FORM(NAME, TYPES, mask, ACCUMULATION, EXPRESSION)                               \
  EMULATOR_BINARY_FORM(NAME, TYPES, mask[], ACCUMULATION, EXPRESSION)

EMULATOR_BINARY(Add, arithmetic, allowed, emulator::wrap(a) + emulator::wrap(b))
EMULATOR_BINARY(Sub, arithmetic, allowed, emulator::wrap(a) - emulator::wrap(b))
EMULATOR_BINARY(Mul, arithmetic, allowed, emulator::product(a, b))
EMULATOR_BINARY(Max, arithmetic, allowed, a > b || b != b ? a : b)
EMULATOR_BINARY(Min, arithmetic, allowed, a < b || b != b ? a : b)
EMULATOR_BINARY(Div, floating, none, a / b)
EMULATOR_BINARY(And, bitwise, none, (a & b))
EMULATOR_BINARY(Or, bitwise, none, (a | b))

#define EMULATOR_TERNARY_FORM(NAME, MASK, MOVING_SRC1, EXPRESSION)                             \
  template <class T, class U, bool isSetMask = true>                                           \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1, \
            uint64_t MASK, const Byte& repeat_time, const BinaryRepeatParams& params,          \
            Site site = Site::here()) {                                                        \
    emulator::ternary<T, U>(EMULATOR_MASKED(NAME, T, params), dst, src0, src1, MOVING_SRC1,    \
                            [](auto d, auto a, auto b) { return EXPRESSION; });                \
  }
#define EMULATOR_TERNARY(NAME, MOVING_SRC1, EXPRESSION)                                            \
  template <class T, class U>                                                                      \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<U>& src0, const LocalTensor<U>& src1,     \
            const int32_t& count, Site site = Site::here()) {                                      \
    const int64_t step = emulator::packed(sizeof(U), sizeof(T));                                   \
    emulator::ternary<T, U>(#NAME, site, emulator::form(count), {1, 1, 1, 8, step, step}, dst,     \
                            src0, src1, false, [](auto d, auto a, auto b) { return EXPRESSION; }); \
  }                                                                                                \
  EMULATOR_TERNARY_FORM(NAME, mask, MOVING_SRC1, EXPRESSION)                                       \
  EMULATOR_TERNARY_FORM(NAME, mask[], MOVING_SRC1, EXPRESSION)

EMULATOR_TERNARY(MulAddDst, false, d + a * b)
EMULATOR_TERNARY(FusedMulAdd, true, (a * d + b))

#define EMULATOR_UNARY_FORM(NAME, TYPES, MASK, EXPRESSION)                                        \
  template <class T, bool isSetMask = true>                                                       \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, uint64_t MASK,                  \
            const Byte& repeat_time, const UnaryRepeatParams& params, Site site = Site::here()) { \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                          \
    emulator::unary<false, T, T>(EMULATOR_MASKED(NAME, T, params), dst, src,                      \
                                 [](auto a) { return EXPRESSION; });                              \
  }
#define EMULATOR_UNARY(NAME, TYPES, EXPRESSION)                                         \
  template <class T>                                                                    \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const int32_t& count, \
            Site site = Site::here()) {                                                 \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                \
    emulator::unary<false, T, T>(#NAME, site, emulator::form(count), {}, dst, src,      \
                                 [](auto a) { return EXPRESSION; });                    \
  }                                                                                     \
  EMULATOR_UNARY_FORM(NAME, TYPES, mask, EXPRESSION)                                    \
  EMULATOR_UNARY_FORM(NAME, TYPES, mask[], EXPRESSION)

EMULATOR_UNARY(Abs, floating, std::fabs(a))
EMULATOR_UNARY(Exp, floating, std::exp(a))
EMULATOR_UNARY(Ln, floating, std::log(a))
EMULATOR_UNARY(Sqrt, floating, std::sqrt(a))
EMULATOR_UNARY(Rsqrt, floating, 1 / std::sqrt(a))
EMULATOR_UNARY(Reciprocal, floating, 1 / a)
EMULATOR_UNARY(Relu, floating, a > 0 || a != a ? a : 0)
EMULATOR_UNARY(Not, bitwise, ~a)

#define EMULATOR_SCALAR_FORM(NAME, TYPES, MASK, EXPRESSION)                                        \
  template <class T, bool isSetMask = true>                                                        \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const emulator::Same<T>& scalar, \
            uint64_t MASK, const Byte& repeat_time, const UnaryRepeatParams& params,               \
            Site site = Site::here()) {                                                            \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                           \
    emulator::unary<false, T, T>(                                                                  \
        EMULATOR_MASKED(NAME, T, params), dst, src,                                                \
        [b = static_cast<emulator::Wide<T>>(scalar)](auto a) { return EXPRESSION; });              \
  }
#define EMULATOR_SCALAR(NAME, TYPES, EXPRESSION)                                                   \
  template <class T, bool isSetMask = true>                                                        \
  void NAME(const LocalTensor<T>& dst, const LocalTensor<T>& src, const emulator::Same<T>& scalar, \
            const int32_t& count, Site site = Site::here()) {                                      \
    static_assert(emulator::TYPES<T>, #NAME " does not take this type");                           \
    emulator::unary<false, T, T>(                                                                  \
        #NAME, site, emulator::form(count), {}, dst, src,                                          \
        [b = static_cast<emulator::Wide<T>>(scalar)](auto a) { return EXPRESSION; });              \
  }                                                                                                \
  EMULATOR_SCALAR_FORM(NAME, TYPES, mask, EXPRESSION)                                              \
  EMULATOR_SCALAR_FORM(NAME, TYPES, mask[], EXPRESSION)

EMULATOR_SCALAR(Adds, arithmetic, emulator::wrap(a) + emulator::wrap(b))
EMULATOR_SCALAR(Muls, arithmetic, emulator::product(a, b))
EMULATOR_SCALAR(Maxs, arithmetic, a > b || b != b ? a : b)
EMULATOR_SCALAR(Mins, arithmetic, a < b || b != b ? a : b)
EMULATOR_SCALAR(LeakyRelu, floating, a >= 0 ? a : a * b)
EMULATOR_SCALAR(ShiftLeft, integer, emulator::wrap(a) << emulator::wrap(b))
EMULATOR_SCALAR(ShiftRight, integer, a >> b)

// dst += src * scalar
#define EMULATOR_AXPY_FORM(MASK)                                                                   \
  template <class T, class U, bool isSetMask = true>                                               \
  void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const emulator::Same<U>& scalar, \
            uint64_t MASK, const Byte& repeat_time, const UnaryRepeatParams& params,               \
            Site site = Site::here()) {                                                            \
    emulator::unary<true, T, U>(                                                                   \
        EMULATOR_MASKED(Axpy, T, params), dst, src,                                                \
        [s = static_cast<emulator::Wide<U>>(scalar)](auto a, auto d) { return d + a * s; });       \
  }
template <class T, class U, bool isSetMask = true>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, const emulator::Same<U>& scalar,
          const int32_t& count, Site site = Site::here()) {
  emulator::unary<true, T, U>(
      "Axpy", site, emulator::form(count), {1, 1, 8, emulator::packed(sizeof(U), sizeof(T))}, dst,
      src, [s = static_cast<emulator::Wide<U>>(scalar)](auto a, auto d) { return d + a * s; });
}
EMULATOR_AXPY_FORM(mask)
EMULATOR_AXPY_FORM(mask[])

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
