// The backward's inner loop without entries: along the lines of a map, sample by sample.
#pragma once

#include "cells.h"
#include "formats.h"
#include "groups.h"
#include "kernels.h"
#include "rows.h"
#include "simd.h"
#include "weights.h"

namespace jda::JDA_ISA {

// The four corners of a sample: on the line above it and on the next, each left and right of it.
template <typename F>
struct Corners {
  using T = Real<F>;
  const F* feature[4];
  T* sum[4];
  T share[4];
  T down, right;
};

// What a sample's dots give, before lanes are added up.
template <typename T, int N>
struct Slopes {
  Vector<T, N> by_y{}, by_x{};  // the location's gradient, in pixels

  // From the dots of the four corners, the gradient of the weight.
  JDA_INLINE Vector<T, N> add(const Vector<T, N>* dot, Vector<T, N> weight, T down, T right) {
    const Vector<T, N> above = dot[1] - dot[0], below = dot[3] - dot[2];  // right minus left
    const Vector<T, N> top = dot[0] + right * above;
    const Vector<T, N> fall = dot[2] + right * below - top;  // below minus above
    by_y += weight * fall;
    by_x += weight * (above + down * (below - above));
    return top + down * fall;
  }

  JDA_INLINE void add_to(T* sums) {
    T total[2];
    lane_sums<T, N, 1>(&by_y, total);
    lane_sums<T, N, 1>(&by_x, total + 1);
    sums[0] += total[0];
    sums[1] += total[1];
  }
};

// One vector of channels: the corners' sums, and their dots, grow.
template <int N, bool kDots, typename F, typename T = Real<F>>
JDA_INLINE void add_channels(const Corners<F>& corners, int64_t c, int used, Vector<T, N> bar,
                             Vector<T, N> weighted, [[maybe_unused]] Vector<T, N>* dot) {
  if constexpr (kDots)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) dot[j] += bar * load<N>(corners.feature[j] + c, used);
  // All are read before any is written: where several do not count, they are one.
  T* const* sum = corners.sum;
  Vector<T, N> grown[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) grown[j] = load_lanes<N>(sum[j] + c) + corners.share[j] * weighted;
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) store_lanes<N>(sum[j] + c, grown[j]);
}

// Groups of whole vectors of L lanes.
template <typename T, int L>
struct WholeVectors {
  static constexpr int kTogether = 8;  // groups whose lanes are added up together
  int64_t size, groups;
  WholeVectors(int64_t channels, int64_t groups, void*) : size(channels / groups), groups(groups) {}

  template <bool kDots, typename F>
  JDA_INLINE void add(const Corners<F>& corners, const F* cotangent, const T* weight, T* dots,
                      T* slopes_sums) const {
    Slopes<T, L> slopes;
    const auto group = [&](int64_t g) {
      Vector<T, L> dot[4] = {};
      for (int64_t c = g * size; c < (g + 1) * size; c += L) {
        const Vector<T, L> bar = load<L>(cotangent + c);
        add_channels<L, kDots>(corners, c, L, bar, weight[g] * bar, dot);
      }
      return slopes.add(dot, Vector<T, L>{} + weight[g], corners.down, corners.right);
    };
    int64_t g = 0;
    for (; g + kTogether <= groups; g += kTogether) {
      Vector<T, L> of_weight[kTogether];
      for (int i = 0; i < kTogether; ++i) of_weight[i] = group(g + i);
      if constexpr (kDots) lane_sums<T, L, kTogether>(of_weight, dots + g);
    }
    for (; g < groups; ++g) {
      Vector<T, L> of_weight = group(g);
      if constexpr (kDots) lane_sums<T, L, 1>(&of_weight, dots + g);
    }
    if constexpr (kDots) slopes.add_to(slopes_sums);
  }
};

// Groups of any number of channels.
template <typename T>
struct AnyVectors {
  template <int N>
  using Block = AnyGroups::Block<T, N, 1>;
  int64_t channels;
  unsigned char* blocks;

  AnyVectors(int64_t channels, int64_t groups, void* space)
      : channels(channels), blocks(static_cast<unsigned char*>(space)) {
    each<kLanes<T>>(0, 0, [&](auto lanes, int64_t c, int, unsigned char* block) {
      constexpr int N = decltype(lanes)::kCount;
      *reinterpret_cast<Block<N>*>(block) = Block<N>(AnyGroups(channels, groups), c);
    });
  }

  // Runs use(LaneCount<N>, c, used, block) over all vectors, narrower ones last.
  template <int N, typename Use>
  JDA_INLINE void each(int64_t c, int64_t at, const Use& use) const {
    for (; c + N <= channels; c += N, at += kBlockBytes * N) use(LaneCount<N>{}, c, N, blocks + at);
    if (c == channels) return;
    if constexpr (N > kFewest<T>)
      each<N / 2>(c, at, use);
    else
      use(LaneCount<N>{}, c, static_cast<int>(channels - c), blocks + at);
  }

  template <bool kDots, typename F>
  JDA_INLINE void add(const Corners<F>& corners, const F* cotangent, const T* weight, T* dots,
                      T* slopes_sums) const {
    Slopes<T, kLanes<T>> widest;
    each<kLanes<T>>(0, 0, [&](auto lanes, int64_t c, int used, const unsigned char* at) {
      constexpr int N = decltype(lanes)::kCount;
      const auto& block = *reinterpret_cast<const Block<N>*>(at);
      const Vector<T, N> bar = load<N>(cotangent + c, used);
      Vector<T, N> of = block.spread(weight, 0);
      if constexpr (N <= kFewLanes)  // what lies behind the weights may be anything
        for (int i = 0; i < N; ++i)
          if (i >= used) of[i] = 0;
      Vector<T, N> dot[4] = {};
      add_channels<N, kDots>(corners, c, used, bar, of * bar, dot);
      if constexpr (kDots) {
        Slopes<T, N> narrow;
        auto& slopes = [&]() -> auto& {
          if constexpr (N == kLanes<T>)
            return widest;
          else
            return narrow;
        }();
        Vector<T, N> of_weight = slopes.add(dot, of, corners.down, corners.right);
        block.sum(&of_weight, dots);
        if constexpr (N < kLanes<T>) narrow.add_to(slopes_sums);
      }
    });
    if constexpr (kDots) widest.add_to(slopes_sums);
  }
};

// A finished row of sums goes to the gradient, and is zero again.
template <typename F>
struct FinishRow {
  using T = Real<F>;
  T* from;
  F* to;
  T* sum;
  bool past_caches;

  template <int N, int M>
  JDA_INLINE void block(int64_t c, int used) const {
    Vector<T, N> v[M];
#pragma GCC unroll 16
    for (int j = 0; j < M; ++j) {
      v[j] = load_lanes<N>(from + c + j * N);
      store_lanes<N>(from + c + j * N, Vector<T, N>{});
      if (sum) v[j] += load<N>(sum + c + j * N, used);
    }
    if (sum)
      put<N, M>(sum + c, v, used);
    else
      put<N, M>(to + c, v, used, past_caches);
  }
};

template <typename F, typename Layout>
class Sweep {
 public:
  using T = Real<F>;

  JDA_INLINE Sweep(const Band<F>& band, const SweepSpace<F>& space)
      : band_(band), space_(space), layout_(band.channels, band.groups, space.blocks) {}

  JDA_INLINE void run() {
    const bool dots = band_.grad_locations || band_.grad_weight;
    for (int32_t line = band_.top - 1; line < band_.bottom; ++line) {
      const bool own = line >= band_.top || line < 0;  // not the last of the band above
      const int64_t count = sort(line);
      if (dots && own)
        samples<true>(line, count);
      else
        samples<false>(line, count);
      if (line >= band_.top) finish(line);
    }
  }

 private:
  // The samples below a line by column, those of a column in the order of the arguments.
  JDA_INLINE int64_t sort(int32_t line) {
    const auto each = [&](const auto& use) {
      for (int64_t i = 0; i < band_.chunks; ++i) {
        const int32_t* begin = band_.begin + i * band_.stride + line + 1;
        const Placed<T>* all = band_.samples + band_.first[i];
        for (const Placed<T>* s = all + begin[0]; s < all + begin[1]; ++s) use(*s);
      }
    };
    int32_t* next = space_.next + 1;  // columns begin with -1
    for (int32_t c = -1; c <= band_.map.width; ++c) next[c] = 0;
    each([&](const Placed<T>& s) { ++next[s.column]; });
    int32_t count = 0;
    for (int32_t c = -1; c <= band_.map.width; ++c) {
      const int32_t more = next[c];
      next[c] = count;
      count += more;
    }
    each([&](const Placed<T>& s) { space_.samples[next[s.column]++] = s; });
    return count;
  }

  template <bool kDots>
  JDA_INLINE void samples(int32_t line, int64_t count) {
    constexpr int64_t kAhead = 6;
    for (int64_t i = 0; i < count; ++i) {
      if (i + kAhead < count) fetch(space_.samples[i + kAhead]);
      if (kDots && band_.fetch && i + 1 < count) fetch_rows(line, space_.samples[i + 1]);
      sample<kDots>(line, space_.samples[i]);
    }
  }

  static JDA_INLINE void fetch_row(const F* row, int64_t channels) {
    for (int64_t c = 0; c < channels; c += 64 / static_cast<int64_t>(sizeof(F)))
      __builtin_prefetch(row + c);
  }

  JDA_INLINE const F* feature(int32_t line, int32_t column) const {
    return band_.features + (int64_t{line} * band_.map.width + column) * band_.channels;
  }

  JDA_INLINE bool in_map(int32_t line, int32_t column) const {
    return within(line, band_.map.height) & within(column, band_.map.width);
  }

  JDA_INLINE void fetch_rows(int32_t line, const Placed<T>& s) const {
    for (int j = 0; j < 4; ++j)
      if (in_map(line + j / 2, s.column + j % 2))
        fetch_row(feature(line + j / 2, s.column + j % 2), band_.channels);
  }

  JDA_INLINE const F* cotangent(const Placed<T>& s) const {
    const uint32_t anchor = static_cast<uint32_t>(s.point) / static_cast<uint32_t>(band_.points);
    return band_.cotangent + anchor * band_.channels;
  }

  JDA_INLINE void fetch(const Placed<T>& s) const {
    const int64_t size = band_.weights.narrow ? sizeof(F) : sizeof(T);
    const int64_t weight_at = s.point * band_.weight_stride * size;
    __builtin_prefetch(static_cast<const char*>(band_.weights.all) + weight_at);
    fetch_row(cotangent(s), band_.channels);
    if (band_.grad_weight)
      __builtin_prefetch(static_cast<const char*>(band_.grad_weight) + weight_at, 1);
    if (band_.grad_locations)
      __builtin_prefetch(band_.grad_locations + s.point * band_.location_stride, 1);
  }

  template <bool kDots>
  JDA_INLINE void sample(int32_t line, const Placed<T>& s) {
    Corners<F> corners;
    corners.down = s.down;
    corners.right = s.right;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const int32_t l = line + j / 2, c = s.column + j % 2;
      const bool inside = in_map(l, c);
      corners.feature[j] = inside ? feature(l, c) : space_.zeros;
      const int64_t slot = inside & (l >= band_.top) & (l < band_.bottom) ? slot_of(l, c) : 0;
      corners.sum[j] = space_.sums + slot * space_.stride;
      space_.touched[slot] = 1;
      corners.share[j] = (j / 2 ? s.down : 1 - s.down) * (j % 2 ? s.right : 1 - s.right);
    }
    const int64_t weight_at = s.point * band_.weight_stride;
    T slopes[2] = {};
    T* dots = space_.dots;
    if constexpr (kDots)
      if (band_.grad_weight && !band_.weights.narrow)
        dots = static_cast<T*>(band_.grad_weight) + weight_at;
    const T* weight = weights_at(band_.weights, weight_at, band_.groups, space_.weights);
    layout_.template add<kDots>(corners, cotangent(s), weight, dots, slopes);
    if constexpr (kDots) finish_sample(s, weight_at, slopes);
  }

  // The line after the next takes the place of this one. 0 is that of corners which do not count.
  JDA_INLINE int64_t slot_of(int32_t line, int32_t column) const {
    return 1 + (line & 1) * int64_t{band_.map.width} + column;
  }

  JDA_INLINE void finish_sample(const Placed<T>& s, int64_t weight_at, const T* slopes) {
    if (band_.grad_locations) {
      T* grad = band_.grad_locations + s.point * band_.location_stride;
      T &y = grad[band_.y_axis], &x = grad[1 - band_.y_axis];
      const T by_y = static_cast<T>(band_.map.height) * slopes[0];
      const T by_x = static_cast<T>(band_.map.width) * slopes[1];
      y = band_.first_scale ? by_y : y + by_y;
      x = band_.first_scale ? by_x : x + by_x;
    }
    if constexpr (sizeof(F) < sizeof(T))
      if (band_.grad_weight && band_.weights.narrow)
        over_groups<0>(band_.groups, [&](auto lanes, int64_t g, int used) {
          constexpr int N = decltype(lanes)::kCount;
          store<N>(static_cast<F*>(band_.grad_weight) + weight_at + g,
                   load<N>(space_.dots + g, used), used);
        });
  }

  // All samples that touch the line have been met.
  JDA_INLINE void finish(int32_t line) {
    const int32_t width = band_.map.width;
    const int64_t channels = band_.channels, at = int64_t{line} * width * channels;
    unsigned char* touched = space_.touched + slot_of(line, 0);
    T* sums = space_.sums + slot_of(line, 0) * space_.stride;
    for (int32_t c = 0; c < width;) {
      const int32_t begin = c;
      while (c < width && !touched[c]) ++c;
      if (c > begin && !band_.sums)
        over_channels<T, AnyGroups>(
            Zero<F>{band_.gradient + at + begin * channels, band_.past_caches},
            (c - begin) * channels);
      for (; c < width && touched[c]; ++c) {
        touched[c] = 0;
        over_channels<T, AnyGroups>(
            FinishRow<F>{sums + c * space_.stride, band_.gradient + at + c * channels,
                         band_.sums ? band_.sums + at + c * channels : nullptr, band_.past_caches},
            channels);
      }
    }
  }

  const Band<F>& band_;
  const SweepSpace<F>& space_;
  const Layout layout_;
};

// L: lanes of the vectors that a group is made of, or 0.
template <int L, typename T>
struct LayoutOf {
  using type = WholeVectors<T, L>;
};
template <typename T>
struct LayoutOf<0, T> {
  using type = AnyVectors<T>;
};

template <typename F, int L>
void sweep(const Band<F>& band, const SweepSpace<F>& space) {
  Sweep<F, typename LayoutOf<L, Real<F>>::type>(band, space).run();
}

}  // namespace jda::JDA_ISA
