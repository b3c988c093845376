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
JDA_INLINE void put(F* p, const Vector<Real<F>, N>* v, int used, bool past_caches = false) {
#pragma GCC unroll 16
  for (int j = 0; j < M; ++j)
    past_caches ? store_past_caches<N>(p + j * N, v[j]) : store<N>(p + j * N, v[j], used);
}

template <typename F, typename Groups>
struct Gather {
  using T = Real<F>;
  Groups layout;
  const Gathering<F>& gathering;
  int64_t channels, groups;

  template <int N, int M>
  JDA_INLINE void block(int64_t c, int used) const {
    const typename Groups::template Block<T, N, M> block(layout, c);
    const Visited& entries = gathering.entries;
    for (int64_t v = 0, begin = 0; v < entries.count; ++v) {
      const Visit& visit = entries.visits[v];
      const int64_t end = entries.end[v];
      Vector<T, N> sum[M] = {};
      for (const auto& term : gathering.terms)
        if (term.features) add<N, M>(block, term, c, used, begin, end, sum);
      if (visit.part < 0)
        put<N, M>(gathering.out + visit.anchor * channels + c, sum, used);
      else
        put<N, M>(gathering.parts + visit.part * channels + c, sum, used);
      begin = end;
    }
  }

  template <int N, int M, typename Block>
  JDA_INLINE void add(const Block& block, const typename Gathering<F>::Term& term, int64_t c,
                      int used, int64_t begin, int64_t end, Vector<T, N>* sum) const {
    const Visited& entries = gathering.entries;
    const int64_t count = entries.end[entries.count - 1];
    const F* features = term.features + c;
    for (int64_t e = begin; e < end; ++e) {
      const F* feature = features + entries.row[e] * channels;
      const T* q = term.coefficient + e * groups;
      if (entries.ahead && e + entries.ahead < count)
        prefetch_row<N, M>(features + entries.row[e + entries.ahead] * channels);
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) sum[j] += block.spread(q, j) * load<N>(feature + j * N, used);
    }
  }
};

template <typename F>
struct AddParts {
  using T = Real<F>;
  const T* parts;
  int64_t count, channels;
  F* out;

  template <int N, int M>
  JDA_INLINE void block(int64_t c, int used) const {
    Vector<T, N> sum[M] = {};
    for (const T* part = parts + c; part < parts + count * channels; part += channels)
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) sum[j] += load<N>(part + j * N, used);
    put<N, M>(out + c, sum, used);
  }
};

template <typename F, typename Groups>
struct Dot {
  using T = Real<F>;
  Groups layout;
  const Visited& entries;
  const F* features;
  int64_t channels, groups;
  const F* cotangent;
  T* dots;

  template <int N, int M>
  JDA_INLINE void block(int64_t c, int used) const {
    const typename Groups::template Block<T, N, M> block(layout, c);
    const int64_t count = entries.end[entries.count - 1];
    for (int64_t v = 0, e = 0; v < entries.count; ++v) {
      Vector<T, N> bar[M];
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j)
        bar[j] = load<N>(cotangent + entries.visits[v].anchor * channels + c + j * N, used);
      for (; e < entries.end[v]; ++e) {
        const F* feature = features + entries.row[e] * channels + c;
        if (entries.ahead && e + entries.ahead < count)
          prefetch_row<N, M>(features + entries.row[e + entries.ahead] * channels + c);
        Vector<T, N> product[M];
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j) product[j] = bar[j] * load<N>(feature + j * N, used);
        block.sum(product, dots + e * groups);
      }
    }
  }
};

template <typename F, typename Groups, bool kDots>
struct Row {
  using T = Real<F>;
  static constexpr bool kWidens = sizeof(F) < sizeof(T);
  Groups layout;
  const RowGradient<F>& row;
  int64_t channels, groups;

  template <int N, int M>
  JDA_INLINE void block(int64_t c, int used) const {
    const typename Groups::template Block<T, N, M> block(layout, c);
    Vector<T, N> sum[M] = {};
    if (row.sum)
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) sum[j] = load<N>(row.sum + c + j * N, used);
    [[maybe_unused]] T feature[N * M];  // widened once for all entries
    if constexpr (kDots && kWidens)
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j)
        store_lanes<N>(feature + j * N, load<N>(row.feature + c + j * N, used));
    for (int64_t i = 0; i < row.count; ++i) {
      const int64_t e = row.entries[i];
      const F* bar = row.cotangent + row.anchor[e] * channels + c;
      if (row.ahead && i + row.ahead < row.count + row.further)
        prefetch_row<N, M>(row.cotangent + row.anchor[row.entries[i + row.ahead]] * channels + c);
      const T* q =
          kDots && !Groups::kWholeGroups ? row.spare + i * groups : row.coefficient + e * groups;
      if constexpr (kDots) {
        Vector<T, N> product[M];
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j) {
          const Vector<T, N> v = load<N>(bar + j * N, used);
          sum[j] += block.spread(q, j) * v;
          if constexpr (kWidens)
            product[j] = v * load_lanes<N>(feature + j * N);
          else
            product[j] = v * load<N>(row.feature + c + j * N, used);
        }
        block.sum(product, row.coefficient + e * groups);
      } else {
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j) sum[j] += block.spread(q, j) * load<N>(bar + j * N, used);
      }
    }
    if (row.sum)
      put<N, M>(row.sum + c, sum, used);
    else
      put<N, M>(row.gradient + c, sum, used, row.past_caches);
  }
};

template <typename F>
struct Zero {
  F* to;
  bool past_caches;

  template <int N, int M>
  JDA_INLINE void block(int64_t c, int used) const {
    const Vector<Real<F>, N> zeros[M] = {};
    put<N, M>(to + c, zeros, used, past_caches);
  }
};

// The sums of K anchors over rows that are loaded once for all of them.
template <typename F, typename Groups, int K>
struct Multiply {
  using T = Real<F>;
  Groups layout;
  const Multiplication<F>& of;
  int64_t channels, groups, anchor;

  template <int N, int M>
  JDA_INLINE void block(int64_t c, int used) const {
    const typename Groups::template Block<T, N, M> block(layout, c);
    Vector<T, N> sum[K][M] = {};
    const T* q = of.coefficient + anchor * of.coefficient_stride;
    const F* feature = of.features + c;
    for (int64_t r = 0; r < of.rows; ++r, q += groups, feature += channels) {
      Vector<T, N> v[M];
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) v[j] = load<N>(feature + j * N, used);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k)
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j)
          sum[k][j] += block.spread(q + k * of.coefficient_stride, j) * v[j];
    }
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k)
      put<N, M>(of.sums + (anchor + k) * of.sums_stride + c, sum[k], used);
  }

  // As many vectors at a time as registers allow for K anchors.
  JDA_INLINE void run() const {
    constexpr int N = Groups::kSize > 1 && Groups::kSize < kLanes<T> ? Groups::kSize : kLanes<T>;
    narrowing_blocks<N, (K > 1 ? JDA_VECTORS / 4 : JDA_VECTORS), (Groups::kSize > 1 ? N : 1), T>(
        *this, channels, 0);
  }
};

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
void dot(const Visited& entries, const F* features, int64_t channels, int64_t groups,
         const F* cotangent, Real<F>* dots) {
  over_channels<Real<F>, Groups>(Dot<F, Groups>{Groups(channels, groups), entries, features,
                                                channels, groups, cotangent, dots},
                                 channels);
}

template <typename F, typename Groups>
void row_gradient(const RowGradient<F>& row, int64_t channels, int64_t groups) {
  const Groups layout(channels, groups);
  if (row.feature &&
      !Groups::kWholeGroups)  // a group's dots may be begun before its coefficient's last use
    for (int64_t i = 0; i < row.count; ++i)
      for (int64_t g = 0; g < groups; ++g)
        row.spare[i * groups + g] = row.coefficient[row.entries[i] * groups + g];
  if (row.feature)
    over_channels<Real<F>, Groups>(Row<F, Groups, true>{layout, row, channels, groups}, channels);
  else
    over_channels<Real<F>, Groups>(Row<F, Groups, false>{layout, row, channels, groups}, channels);
}

template <typename F, typename Groups>
void multiply(const Multiplication<F>& of, int64_t channels, int64_t groups) {
  const Groups layout(channels, groups);
  int64_t a = 0;
  for (; a + 5 <= of.anchors; a += 5) Multiply<F, Groups, 5>{layout, of, channels, groups, a}.run();
  for (; a < of.anchors; ++a) Multiply<F, Groups, 1>{layout, of, channels, groups, a}.run();
}

}  // namespace jda::JDA_ISA
