// Vectors of N lanes, in the vector extensions that GCC and Clang share.
//
// This file and what kernels_impl.h includes are compiled once for each instruction set, each time
// into a namespace of its own (JDA_ISA), and call nothing that is not always inlined: otherwise the
// linker could hand code for a wide instruction set to a machine that lacks it.
#pragma once

#include <cstdint>

#define JDA_INLINE __attribute__((always_inline)) inline

namespace jda::JDA_ISA {

template <typename T, int N>
struct VectorTypes {
  typedef T Vector __attribute__((vector_size(N * sizeof(T))));
  typedef T Unaligned __attribute__((vector_size(N * sizeof(T)), aligned(alignof(T)), may_alias));
};

template <typename T, int N>
using Vector = typename VectorTypes<T, N>::Vector;

template <int N, typename T>
JDA_INLINE Vector<T, N> load_lanes(const T* p) {
  return *reinterpret_cast<const typename VectorTypes<T, N>::Unaligned*>(p);
}

template <int N, typename T>
JDA_INLINE void store_lanes(T* p, Vector<T, N> v) {
  *reinterpret_cast<typename VectorTypes<T, N>::Unaligned*>(p) = v;
}

// The first lanes alone; the others are zero.
template <int N, typename T>
JDA_INLINE Vector<T, N> load_first_lanes(const T* p, int count) {
  Vector<T, N> v{};
#pragma GCC unroll 4
  for (int i = 0; i < N - 1; ++i)
    if (i < count) v[i] = p[i];
  return v;
}

template <int N, typename T>
JDA_INLINE void store_first_lanes(T* p, Vector<T, N> v, int count) {
#pragma GCC unroll 4
  for (int i = 0; i < N - 1; ++i)
    if (i < count) p[i] = v[i];
}

// Stores past the caches where the instruction set can. `p` must be aligned to the vector.
template <int N, typename T>
JDA_INLINE void store_lanes_past_caches(T* p, Vector<T, N> v) {
#if __has_builtin(__builtin_nontemporal_store)  // Clang
  __builtin_nontemporal_store(v, reinterpret_cast<Vector<T, N>*>(p));
#else
#define JDA_STORE_VECTOR_OF(size, instruction)                                   \
  if constexpr (N * sizeof(T) == size) {                                         \
    typedef long long Words __attribute__((vector_size(size)));                  \
    return instruction(reinterpret_cast<Words*>(p), reinterpret_cast<Words>(v)); \
  }
#if defined(__AVX512F__)
  JDA_STORE_VECTOR_OF(64, __builtin_ia32_movntdq512)
#endif
#if defined(__AVX__)
  JDA_STORE_VECTOR_OF(32, __builtin_ia32_movntdq256)
#endif
#if defined(__SSE2__)
  JDA_STORE_VECTOR_OF(16, __builtin_ia32_movntdq)
#endif
#undef JDA_STORE_VECTOR_OF
  store_lanes<N>(p, v);
#endif
}

// 0, 1, ... N-1 as template arguments (std:: would be instantiated for every instruction set).
template <int... I>
struct Lanes {};
template <int N, int... I>
struct MakeLanes : MakeLanes<N - 1, N - 1, I...> {};
template <int... I>
struct MakeLanes<0, I...> {
  using type = Lanes<I...>;
};
template <int N>
using LanesTo = typename MakeLanes<N>::type;

// The integer of T's width.
template <typename T, int kBytes = sizeof(T)>
struct IntegerOf {
  using type = int32_t;
};
template <typename T>
struct IntegerOf<T, 8> {
  using type = int64_t;
};
template <typename T>
using IntegerLike = typename IntegerOf<T>::type;

// 0, 1, ... N-1.
template <typename I, int... L>
JDA_INLINE Vector<I, sizeof...(L)> lane_numbers(Lanes<L...>) {
  return Vector<I, sizeof...(L)>{L...};
}
template <typename I, int N>
JDA_INLINE Vector<I, N> lane_numbers() {
  return lane_numbers<I>(LanesTo<N>{});
}

// Lane i of the result is lane index[i] % N of v.
template <typename T, int N>
JDA_INLINE Vector<T, N> permuted(Vector<T, N> v, Vector<IntegerLike<T>, N> index) {
#if defined(__clang__)
  Vector<T, N> result{};
  for (int i = 0; i < N; ++i) result[i] = v[index[i] % N];
  return result;
#else
  return __builtin_shuffle(v, index);
#endif
}

// Lanes of a and b hold sums in segments of S lanes. The result has each of them, in order, in
// segments of S/2 lanes: the second half of a segment is added to the first.
template <int N, int S>
constexpr int first_half(int lane) {
  const int source = lane % (N / 2), from = lane < N / 2 ? 0 : N;
  return from + source / (S / 2) * S + source % (S / 2);
}
template <typename T, int N, int S, int... I>
JDA_INLINE Vector<T, N> add_halves(Vector<T, N> a, Vector<T, N> b, Lanes<I...>) {
  return __builtin_shufflevector(a, b, first_half<N, S>(I)...) +
         __builtin_shufflevector(a, b, (first_half<N, S>(I) + S / 2)...);
}

// Adds to each lane the one that lies H lanes from it, where pairs swap. Where H is below 4, float
// stays within 128 bits, which costs a processor less.
template <typename T, int N, int H, int... I>
JDA_INLINE Vector<T, N> add_swapped(Vector<T, N> x, Lanes<I...>) {
  return x + __builtin_shufflevector(x, x, (I ^ H)...);
}

// The sums of the lanes of each of M vectors, where a sum is still spread over S lanes.
template <typename T, int N, int M, int S = N>
JDA_INLINE void lane_sums(Vector<T, N>* v, T* sums) {
  if constexpr (S == 1) {
    for (int i = 0; i < M; ++i) store_lanes<N>(sums + i * N, v[i]);
  } else if constexpr (M > 1) {
    for (int i = 0; i < M / 2; ++i)
      v[i] = add_halves<T, N, S>(v[2 * i], v[2 * i + 1], LanesTo<N>{});
    lane_sums<T, N, M / 2, S / 2>(v, sums);
  } else {
    Vector<T, N> x = v[0];  // the sums gather in the first lane of each segment
    if constexpr (S >= 16) x = add_swapped<T, N, 8>(x, LanesTo<N>{});
    if constexpr (S >= 8) x = add_swapped<T, N, 4>(x, LanesTo<N>{});
    if constexpr (S >= 4) x = add_swapped<T, N, 2>(x, LanesTo<N>{});
    if constexpr (S >= 2) x = add_swapped<T, N, 1>(x, LanesTo<N>{});
    static_assert(S <= 16);
    for (int i = 0; i < N / S; ++i) sums[i] = x[i * S];
  }
}

}  // namespace jda::JDA_ISA
