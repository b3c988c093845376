// How numbers lie in memory. 16-bit ones are widened when they are read, and rounded to nearest
// even when they are written: exactly, whatever XLA has told the processor about denormal numbers.
#pragma once

#include "simd.h"
#include "types.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace jda::JDA_ISA {

// The first elements of a vector, and zeros if there are not enough.
template <typename To, typename From>
JDA_INLINE To resized(From from) {
  To to{};
  __builtin_memcpy(&to, &from, sizeof(to) < sizeof(from) ? sizeof(to) : sizeof(from));
  return to;
}

// Two conversions for which GCC does not find the best instructions by itself.
template <int N>
JDA_INLINE Vector<uint32_t, N> extended(Vector<uint16_t, N> v) {
#if defined(__AVX512F__)
  if constexpr (N == 16)
    return (Vector<uint32_t, N>)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)v);
#endif
#if defined(__AVX2__)
  if constexpr (N == 8) return (Vector<uint32_t, N>)_mm256_cvtepu16_epi32((__m128i)v);
#endif
#if defined(__SSE2__)
  if constexpr (N == 4)
    return (Vector<uint32_t, N>)_mm_unpacklo_epi16(resized<__m128i>(v), _mm_setzero_si128());
#endif
  return __builtin_convertvector(v, Vector<uint32_t, N>);
}
template <int N>
JDA_INLINE Vector<uint16_t, N> truncated(Vector<uint32_t, N> v) {
#if defined(__AVX512F__)
  if constexpr (N == 16)
    return (Vector<uint16_t, N>)_mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)v);
#endif
  return __builtin_convertvector(v, Vector<uint16_t, N>);
}

template <typename F>
struct Format {
  using Lane = F;
  template <int N>
  static JDA_INLINE Vector<F, N> widen(Vector<F, N> v) {
    return v;
  }
  template <int N>
  static JDA_INLINE Vector<F, N> round(Vector<F, N> v) {
    return v;
  }
};

template <>
struct Format<BFloat16> {
  using Lane = uint16_t;
  template <int N>
  static JDA_INLINE Vector<float, N> widen(Vector<uint16_t, N> v) {
    return (Vector<float, N>)(extended<N>(v) << 16);
  }
  template <int N>
  static JDA_INLINE Vector<uint16_t, N> round(Vector<float, N> v) {
    const auto bits = (Vector<uint32_t, N>)v;
    const Vector<uint32_t, N> nearest = bits + 0x7fff + (bits >> 16 & 1);
    const Vector<uint32_t, N> quiet = bits | 0x400000;  // adding to a NaN could make it infinite
    const Vector<uint32_t, N> right = v == v ? nearest : quiet;
    return truncated<N>(right >> 16);
  }
};

template <>
struct Format<Float16> {
  using Lane = uint16_t;

  template <int N>
  static JDA_INLINE Vector<float, N> widen(Vector<uint16_t, N> v) {
#if defined(__F16C__)
#if defined(__AVX512F__)
    if constexpr (N == 16) return _mm512_maskz_cvtph_ps(0xffff, (__m256i)v);
#endif
    if constexpr (N == 8) return _mm256_cvtph_ps((__m128i)v);
    if constexpr (N <= 4) return resized<Vector<float, N>>(_mm_cvtph_ps(resized<__m128i>(v)));
#elif defined(__aarch64__)
    return __builtin_convertvector((Vector<__fp16, N>)v, Vector<float, N>);
#endif
    const Vector<uint32_t, N> bits = extended<N>(v), sign = (bits & 0x8000) << 16;
    // As a float, `rest` has an exponent that is too small by 112, or by 113 if it is denormal.
    const auto rest = (Vector<int32_t, N>)(bits & 0x7fff) << 13;
    const Vector<int32_t, N> normal = rest + (112 << 23), special = rest + (224 << 23);
    const auto denormal = (Vector<int32_t, N>)((Vector<float, N>)(rest + (113 << 23)) - 0x1p-14f);
    const Vector<int32_t, N> finite = rest < 1 << 23 ? denormal : normal;
    const Vector<int32_t, N> number = rest < 31 << 23 ? finite : special;
    return (Vector<float, N>)(sign | (Vector<uint32_t, N>)number);
  }

  template <int N>
  static JDA_INLINE Vector<uint16_t, N> round(Vector<float, N> v) {
#if defined(__F16C__)
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT;
#if defined(__AVX512F__)
    if constexpr (N == 16) return (Vector<uint16_t, 16>)_mm512_maskz_cvtps_ph(0xffff, v, kNearest);
#endif
    if constexpr (N == 8) return (Vector<uint16_t, 8>)_mm256_cvtps_ph(v, kNearest);
    if constexpr (N <= 4)
      return resized<Vector<uint16_t, N>>(_mm_cvtps_ph(resized<__m128>(v), kNearest));
#elif defined(__aarch64__)
    return (Vector<uint16_t, N>)__builtin_convertvector(v, Vector<__fp16, N>);
#endif
    const Vector<uint32_t, N> sign = (Vector<uint32_t, N>)v >> 16 & 0x8000;
    const auto rest = (Vector<int32_t, N>)v & 0x7fffffff;
    const Vector<int32_t, N> normal = (rest - (112 << 23) + 0xfff + (rest >> 13 & 1)) >> 13;
    // The last bit of 0.5 and what is a little more is worth as much as a denormal float16's.
    const auto denormal = (Vector<int32_t, N>)((Vector<float, N>)rest + 0.5f) - (126 << 23);
    const Vector<int32_t, N> finite = rest < 113 << 23 ? denormal : normal;
    const Vector<int32_t, N> infinite = Vector<int32_t, N>{} + 0x7c00;
    const Vector<int32_t, N> quiet = 0x7e00 | (rest >> 13 & 0x3ff);
    const Vector<int32_t, N> number = rest < 143 << 23 ? finite : infinite;
    return truncated<N>(sign | (Vector<uint32_t, N>)(v == v ? number : quiet));
  }
};

// Vectors of more lanes are always in use as a whole.
constexpr int kFewLanes = 4;

// The lanes that are in use, the first, are read and written; the others are zero.
template <int N, typename F>
JDA_INLINE Vector<Real<F>, N> load(const F* p, int used = N) {
  const auto* lanes = reinterpret_cast<const typename Format<F>::Lane*>(p);
  if constexpr (N <= kFewLanes)
    if (used < N) return Format<F>::template widen<N>(load_first_lanes<N>(lanes, used));
  return Format<F>::template widen<N>(load_lanes<N>(lanes));
}

template <int N, typename F>
JDA_INLINE void store(F* p, Vector<Real<F>, N> v, int used = N) {
  auto* lanes = reinterpret_cast<typename Format<F>::Lane*>(p);
  const auto rounded = Format<F>::template round<N>(v);
  if constexpr (N <= kFewLanes)
    if (used < N) return store_first_lanes<N>(lanes, rounded, used);
  store_lanes<N>(lanes, rounded);
}

// Past the caches, where the instruction set can. `p` must be aligned to N elements.
template <int N, typename F>
JDA_INLINE void store_past_caches(F* p, Vector<Real<F>, N> v) {
  store_lanes_past_caches<N>(reinterpret_cast<typename Format<F>::Lane*>(p),
                             Format<F>::template round<N>(v));
}

}  // namespace jda::JDA_ISA
