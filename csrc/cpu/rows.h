// Sums over rows of features, and products with them.
#pragma once

#include "formats.h"
#include "groups.h"
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

template <int N, int M, typename F>
JDA_INLINE void prefetch_row(const F* row) {
#pragma GCC unroll 16
  for (int i = 0; i < N * M; i += 64 / static_cast<int>(sizeof(F)))
    __builtin_prefetch(row + i, 0, 3);
}

template <int N, int M, typename F>
JDA_INLINE void put(F* p, const Vector<Real<F>, N>* v, bool past_caches = false) {
#pragma GCC unroll 16
  for (int j = 0; j < M; ++j) store<N>(p + j * N, v[j], past_caches);
}

// Entries ahead that gather and dot prefetch.
constexpr int64_t kAhead = 4;

template <typename F, typename Groups>
struct Gather {
  using T = Real<F>;
  Groups layout;
  const Gathering<F>& gathering;
  int64_t channels, groups;

  template <int N, int M>
  JDA_INLINE void block(int64_t c) const {
    const typename Groups::template Block<T, N, M> block(layout, c);
    const int32_t* row = gathering.row;
    const int64_t count = gathering.count;
    Vector<T, N> sum[M] = {};
    for (const auto& term : gathering.terms) {
      if (!term.features) continue;
      const F* features = term.features + c;
      for (int64_t e = 0; e < count; ++e) {
        const F* feature = features + row[e] * channels;
        const T* q = term.coefficient + e * groups;
        if (gathering.prefetch)
          prefetch_row<N, M>(features + row[e + kAhead < count ? e + kAhead : e] * channels);
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j) sum[j] += block.spread(q, j) * load<N>(feature + j * N);
      }
    }
    if (gathering.part)
      put<N, M>(gathering.part + c, sum);
    else
      put<N, M>(gathering.out + c, sum);
  }
};

template <typename F>
struct AddParts {
  using T = Real<F>;
  const T* parts;
  int64_t count, channels;
  F* out;

  template <int N, int M>
  JDA_INLINE void block(int64_t c) const {
    Vector<T, N> sum[M] = {};
    for (const T* part = parts + c; part < parts + count * channels; part += channels)
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) sum[j] += load<N>(part + j * N);
    put<N, M>(out + c, sum);
  }
};

template <typename F, typename Groups>
struct Dot {
  using T = Real<F>;
  Groups layout;
  const F* features;
  int64_t channels, groups;
  const int32_t* row;
  int64_t count;
  bool prefetch;
  const F* cotangent;
  T* dots;

  template <int N, int M>
  JDA_INLINE void block(int64_t c) const {
    const typename Groups::template Block<T, N, M> block(layout, c);
    Vector<T, N> bar[M];
#pragma GCC unroll 16
    for (int j = 0; j < M; ++j) bar[j] = load<N>(cotangent + c + j * N);
    for (int64_t e = 0; e < count; ++e) {
      const F* feature = features + row[e] * channels + c;
      if (prefetch)
        prefetch_row<N, M>(features + row[e + kAhead < count ? e + kAhead : e] * channels + c);
      Vector<T, N> product[M];
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) product[j] = bar[j] * load<N>(feature + j * N);
      block.sum(product, dots + e * groups);
    }
  }
};

template <typename F, typename Groups, bool kDots>
struct Row {
  using T = Real<F>;
  Groups layout;
  const RowGradient<F>& row;
  int64_t channels, groups;

  template <int N, int M>
  JDA_INLINE void block(int64_t c) const {
    const typename Groups::template Block<T, N, M> block(layout, c);
    Vector<T, N> sum[M] = {};
    for (int64_t i = 0; i < row.count; ++i) {
      const int64_t e = row.entries[i];
      const F* bar = row.cotangent + row.anchor[e] * channels + c;
      const T* q =
          kDots && !Groups::kWholeGroups ? row.spare + i * groups : row.coefficient + e * groups;
      if constexpr (kDots) {
        Vector<T, N> product[M];
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j) {
          const Vector<T, N> v = load<N>(bar + j * N);
          sum[j] += block.spread(q, j) * v;
          product[j] = v * load<N>(row.feature + c + j * N);
        }
        block.sum(product, row.coefficient + e * groups);
      } else {
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j) sum[j] += block.spread(q, j) * load<N>(bar + j * N);
      }
    }
    put<N, M>(row.gradient + c, sum, row.past_caches);
  }
};

template <typename F>
struct Zero {
  F* to;
  bool past_caches;

  template <int N, int M>
  JDA_INLINE void block(int64_t c) const {
    const Vector<Real<F>, N> zeros[M] = {};
    put<N, M>(to + c, zeros, past_caches);
  }
};

template <typename T>
struct Copy {
  const T* from;
  T* to;

  template <int N, int M>
  JDA_INLINE void block(int64_t c) const {
#pragma GCC unroll 16
    for (int j = 0; j < M; ++j) store_lanes<N>(to + c + j * N, load_lanes<N>(from + c + j * N));
  }
};

template <typename T>
JDA_INLINE void copy(const T* from, T* to, int64_t count) {
  over_channels<T, AnyGroups>(Copy<T>{from, to}, count);
}

template <typename F, typename Groups>
void gather(const Gathering<F>& gathering, int64_t channels, int64_t groups) {
  over_channels<Real<F>, Groups>(
      Gather<F, Groups>{Groups(channels, groups), gathering, channels, groups}, channels);
}

template <typename F>
void add_parts(const Real<F>* parts, int64_t count, int64_t channels, F* out) {
  over_channels<Real<F>, AnyGroups>(AddParts<F>{parts, count, channels, out}, channels);
}

template <typename F>
void zero(F* to, int64_t count, bool past_caches) {
  over_channels<Real<F>, AnyGroups>(Zero<F>{to, past_caches}, count);
}

template <typename F, typename Groups>
void dot(const F* features, int64_t channels, int64_t groups, const int32_t* row, int64_t count,
         bool prefetch, const F* cotangent, Real<F>* dots) {
  over_channels<Real<F>, Groups>(Dot<F, Groups>{Groups(channels, groups), features, channels,
                                                groups, row, count, prefetch, cotangent, dots},
                                 channels);
}

template <typename F, typename Groups>
void row_gradient(const RowGradient<F>& row, int64_t channels, int64_t groups) {
  const Groups layout(channels, groups);
  if (row.feature &&
      !Groups::kWholeGroups)  // a group's dots may be begun before its coefficient's last use
    for (int64_t i = 0; i < row.count; ++i)
      copy(row.coefficient + row.entries[i] * groups, row.spare + i * groups, groups);
  if (row.feature)
    over_channels<Real<F>, Groups>(Row<F, Groups, true>{layout, row, channels, groups}, channels);
  else
    over_channels<Real<F>, Groups>(Row<F, Groups, false>{layout, row, channels, groups}, channels);
}

}  // namespace jda::JDA_ISA
