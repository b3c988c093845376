// The inner loops for one instruction set: JDA_ISA names it, JDA_VECTOR_BYTES is its vector and
// JDA_VECTORS how many accumulators fit its registers.
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

template <typename T>
constexpr int kLanes = JDA_VECTOR_BYTES / static_cast<int>(sizeof(T));

// ---- Channel groups -----------------------------------------------------------------------------
// How channels map to groups decides how coefficients are spread over lanes and how dots are summed.
// N lanes, M vectors, from channel c on; j is the vector in question.

// D channels in each group, D a power of two that is known here.
template <int D>
struct FixedGroups {
  static constexpr bool kFixed = true;
  static constexpr int kChannels = D;
  explicit FixedGroups(int64_t, int64_t) {}

  template <int N, typename T>
  JDA_INLINE auto spread(const T* coefficient, int64_t c, int j) const {
    const T* first = coefficient + c / D;
    if constexpr (D >= N) {
      return first[j * N / D];
    } else {
      return repeat_lanes<T, N, D>(load<N / D>(first + j * (N / D)), LanesTo<N>{});
    }
  }

  template <int N, int M, typename T>
  JDA_INLINE void sum(Vector<T, N>* product, int64_t c, T* dots) const {
    if constexpr (D >= N) {
      constexpr int kVectors = D / N, kGroups = M / kVectors;
#pragma GCC unroll 16
      for (int g = 0; g < kGroups; ++g) {
        Vector<T, N> v = product[g * kVectors];
#pragma GCC unroll 16
        for (int j = 1; j < kVectors; ++j) v += product[g * kVectors + j];
        product[g] = v;
      }
      segment_sums<T, N, kGroups, N>(product, dots + c / D);
    } else {
      segment_sums<T, N, M, D>(product, dots + c / D);
    }
  }
};

// Any other number of channels in each group.
struct AnyGroups {
  static constexpr bool kFixed = false;
  static constexpr int kChannels = 1;
  int64_t size;
  AnyGroups(int64_t channels, int64_t groups) : size(channels / groups) {}

  template <int N, typename T>
  JDA_INLINE Vector<T, N> spread(const T* coefficient, int64_t c, int j) const {
    int64_t g = (c + j * N) / size, left = size - (c + j * N) % size;
    Vector<T, N> v{};
    if (left >= N) return v + coefficient[g];
    for (int i = 0; i < N; ++i) {
      v[i] = coefficient[g];
      if (--left == 0) ++g, left = size;
    }
    return v;
  }

  template <int N, int M, typename T>
  JDA_INLINE void sum(Vector<T, N>* product, int64_t c, T* dots) const {
    int64_t g = c / size, left = size - c % size;
    if (left == size) dots[g] = 0;
    for (int j = 0; j < M; ++j)
      for (int i = 0; i < N; ++i) {
        dots[g] += product[j][i];
        if (--left == 0 && (j < M - 1 || i < N - 1)) dots[++g] = 0, left = size;
      }
  }
};

// Runs kernel.block<N, M>(c) over the channels from c on: blocks of M vectors of N lanes first, then
// narrower ones for what is left, down to D channels.
template <int N, int M, int D, typename Kernel>
JDA_INLINE void narrowing_blocks(const Kernel& kernel, int64_t channels, int64_t c) {
  for (; c + N * M <= channels; c += N * M) kernel.template block<N, M>(c);
  if (c == channels) return;
  if constexpr (M > 1 && N * M / 2 >= D) {
    narrowing_blocks<N, M / 2, D>(kernel, channels, c);
  } else if constexpr (N > 1 && N / 2 >= D) {
    narrowing_blocks<N / 2, 1, D>(kernel, channels, c);
  }
}

// Runs the kernel over all channels, in blocks that never end inside a group of a fixed size.
template <typename T, typename Groups, typename Kernel>
JDA_INLINE void over_channels(const Kernel& kernel, int64_t channels) {
  constexpr int N = kLanes<T>, D = Groups::kChannels;
  narrowing_blocks<N, (D > N * JDA_VECTORS ? D / N : JDA_VECTORS), D>(kernel, channels, 0);
}

template <int N, int M, typename T>
JDA_INLINE void prefetch_row(const T* row) {
#pragma GCC unroll 16
  for (int i = 0; i < N * M; i += 64 / static_cast<int>(sizeof(T))) __builtin_prefetch(row + i, 0, 3);
}

// Entries ahead that gather and dot prefetch.
constexpr int64_t kAhead = 8;

template <typename T, typename Groups>
struct Gather {
  Groups layout;
  const T* features;
  int64_t channels, groups;
  const int32_t* row;
  const T* coefficient;
  int64_t count;
  bool prefetch;
  T* out;

  template <int N, int M>
  JDA_INLINE void block(int64_t c) const {
    Vector<T, N> sum[M] = {};
    for (int64_t e = 0; e < count; ++e) {
      const T* feature = features + row[e] * channels + c;
      const T* q = coefficient + e * groups;
      if (prefetch) prefetch_row<N, M>(features + row[e + kAhead < count ? e + kAhead : e] * channels + c);
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j)
        sum[j] += layout.template spread<N>(q, c, j) * load<N>(feature + j * N);
    }
#pragma GCC unroll 16
    for (int j = 0; j < M; ++j) store<N>(out + c + j * N, sum[j]);
  }
};

template <typename T, typename Groups>
struct Dot {
  Groups layout;
  const T* features;
  int64_t channels, groups;
  const int32_t* row;
  int64_t count;
  bool prefetch;
  const T* cotangent;
  T* dots;

  template <int N, int M>
  JDA_INLINE void block(int64_t c) const {
    Vector<T, N> bar[M];
#pragma GCC unroll 16
    for (int j = 0; j < M; ++j) bar[j] = load<N>(cotangent + c + j * N);
    for (int64_t e = 0; e < count; ++e) {
      const T* feature = features + row[e] * channels + c;
      if (prefetch) prefetch_row<N, M>(features + row[e + kAhead < count ? e + kAhead : e] * channels + c);
      Vector<T, N> product[M];
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) product[j] = bar[j] * load<N>(feature + j * N);
      layout.template sum<N, M>(product, c, dots + e * groups);
    }
  }
};

template <typename T, typename Groups, bool kDots>
struct Row {
  Groups layout;
  const RowGradient<T>& row;
  int64_t channels, groups;

  template <int N, int M>
  JDA_INLINE void block(int64_t c) const {
    Vector<T, N> sum[M] = {};
    for (int64_t i = 0; i < row.count; ++i) {
      const int64_t e = row.entries[i];
      const T* bar = row.cotangent + row.anchor[e] * channels + c;
      const T* q = kDots && !Groups::kFixed ? row.spare + i * groups : row.coefficient + e * groups;
      if constexpr (kDots) {
        Vector<T, N> product[M];
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j) {
          const Vector<T, N> v = load<N>(bar + j * N);
          sum[j] += layout.template spread<N>(q, c, j) * v;
          product[j] = v * load<N>(row.feature + c + j * N);
        }
        layout.template sum<N, M>(product, c, row.coefficient + e * groups);
      } else {
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j)
          sum[j] += layout.template spread<N>(q, c, j) * load<N>(bar + j * N);
      }
    }
    T* out = row.gradient + c;
    if (row.stream && N == kLanes<T>) {
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) stream<N>(out + j * N, sum[j]);
    } else {
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) store<N>(out + j * N, sum[j]);
    }
  }
};

template <typename T, typename Groups>
void gather(const T* features, int64_t channels, int64_t groups, const int32_t* row,
            const T* coefficient, int64_t count, bool prefetch, T* out) {
  over_channels<T, Groups>(
      Gather<T, Groups>{Groups(channels, groups), features, channels, groups, row, coefficient, count,
                        prefetch, out},
      channels);
}

template <typename T, typename Groups>
void dot(const T* features, int64_t channels, int64_t groups, const int32_t* row, int64_t count,
         bool prefetch, const T* cotangent, T* dots) {
  over_channels<T, Groups>(
      Dot<T, Groups>{Groups(channels, groups), features, channels, groups, row, count, prefetch,
                     cotangent, dots},
      channels);
}

template <typename T, typename Groups>
void row_gradient(const RowGradient<T>& row, int64_t channels, int64_t groups) {
  const Groups layout(channels, groups);
  if (row.feature && !Groups::kFixed)  // a group's dots may be begun before its coefficient's last use
    for (int64_t i = 0; i < row.count; ++i)
      for (int64_t g = 0; g < groups; ++g)
        row.spare[i * groups + g] = row.coefficient[row.entries[i] * groups + g];
  if (row.feature)
    over_channels<T, Groups>(
        Row<T, Groups, true>{layout, row, channels, groups}, channels);
  else
    over_channels<T, Groups>(
        Row<T, Groups, false>{layout, row, channels, groups}, channels);
}

// ---- Samples ------------------------------------------------------------------------------------

// The four neighbours of a visible sample: rows h, h+1 and columns w, w+1 of the map.
template <typename T>
struct Cell {
  int32_t h, w;
  T down, right;                 // the sample's distance from row h and column w
  bool top, bottom, left, east;  // whether rows h, h+1 and columns w, w+1 are in the map
  int64_t row;                   // feature row of (h, w)
};

template <typename T>
JDA_INLINE Cell<T> locate(T y, T x, const Map& map) {
  Cell<T> cell;
  const T h = y * static_cast<T>(map.height) - T(0.5), w = x * static_cast<T>(map.width) - T(0.5);
  // floor: coordinates of visible samples are above -1, where truncation is off by one below zero only
  cell.h = static_cast<int32_t>(h) - (h < 0);
  cell.w = static_cast<int32_t>(w) - (w < 0);
  cell.down = h - static_cast<T>(cell.h);
  cell.right = w - static_cast<T>(cell.w);
  // In maps of over 2^23 rows a float32 coordinate can round up to the map's size: test every side.
  cell.top = cell.h >= 0 && cell.h < map.height;
  cell.bottom = cell.h + 1 < map.height;
  cell.left = cell.w >= 0 && cell.w < map.width;
  cell.east = cell.w + 1 < map.width;
  cell.row = map.start + static_cast<int64_t>(cell.h) * map.width + cell.w;
  return cell;
}

// G groups, or any number of them where G is 0.
template <typename T, int G>
struct Merger {
  int32_t* row;
  T* coefficient;
  int64_t groups, count;

  // Adds `share` times the weights to the entry of feature row `at`; `hint` is where to look for it.
  JDA_INLINE int64_t add(int64_t at, T share, const T* weight, int32_t& hint) {
    const int32_t where = static_cast<int32_t>(at);
    const bool known = hint < count && row[hint] == where;
    const int64_t e = known ? hint : count;
    hint = static_cast<int32_t>(e);
    row[e] = where;
    count += !known;
    if constexpr (G > 0) {
      T* q = coefficient + e * G;
      const Vector<T, G> term = share * load<G>(weight);
      store<G>(q, known ? load<G>(q) + term : term);
    } else {
      T* q = coefficient + e * groups;
      if (known)
        for (int64_t g = 0; g < groups; ++g) q[g] += share * weight[g];
      else
        for (int64_t g = 0; g < groups; ++g) q[g] = share * weight[g];
    }
    return e;
  }
};

template <typename T, int G>
int64_t merge(const Samples<T>& samples, int64_t row_offset, int64_t first, SeenRows& seen,
              Entries<T> entries) {
  constexpr int64_t kTile = SeenRows::kHeight * SeenRows::kWidth;
  const int64_t groups = G ? G : samples.groups;
  Merger<T, G> merger{entries.row, entries.coefficient, groups, 0};
  uint32_t* corner = entries.corners;
  const int64_t none = -1 - first;
  for (int64_t i = 0; i < samples.count; ++i) {
    const int64_t p = samples.points[i];
    const T* location = samples.locations + p * samples.location_stride;
    const T y = location[samples.y_axis], x = location[1 - samples.y_axis];
    const T* weight = samples.weight + p * samples.weight_stride;
    if (i + 2 < samples.count) {
      const T* next = samples.weight + samples.points[i + 2] * samples.weight_stride;
      __builtin_prefetch(next);
      __builtin_prefetch(next + 64 / sizeof(T));
    }
    for (int64_t s = 0; s < samples.scales; ++s, weight += groups) {
      const Map& map = samples.maps[s];
      const Cell<T> cell = locate(y, x, map);
      const T up = 1 - cell.down, left = 1 - cell.right;
      const int64_t at = row_offset + cell.row;
      // Rows of one tile have places of their own, whatever the map's width.
      int32_t* hints = seen.entry + s % SeenRows::kScales * kTile;
      auto hint = [&](int dh, int dw) -> int32_t& {
        return hints[static_cast<uint32_t>(cell.h + dh) % SeenRows::kHeight * SeenRows::kWidth +
                     static_cast<uint32_t>(cell.w + dw) % SeenRows::kWidth];
      };
      int64_t found[4] = {none, none, none, none};
      const bool tl = cell.top && cell.left, tr = cell.top && cell.east;
      const bool bl = cell.bottom && cell.left, br = cell.bottom && cell.east;
      if (tl) found[0] = merger.add(at, up * left, weight, hint(0, 0));
      if (tr) found[1] = merger.add(at + 1, up * cell.right, weight, hint(0, 1));
      if (bl) found[2] = merger.add(at + map.width, cell.down * left, weight, hint(1, 0));
      if (br) found[3] = merger.add(at + map.width + 1, cell.down * cell.right, weight, hint(1, 1));
      if (corner)
        for (int j = 0; j < 4; ++j) *corner++ = static_cast<uint32_t>(first + 1 + found[j]);
    }
  }
  return merger.count;
}

template <typename T, int G>
void finish(const Samples<T>& samples, const uint32_t* corners, const T* dots, T* grad_locations,
            T* grad_weight) {
  constexpr int N = G ? G : 1;
  const int64_t groups = G ? G : samples.groups;
  for (int64_t i = 0; i < samples.count; ++i) {
    const int64_t p = samples.points[i];
    const T* location = samples.locations + p * samples.location_stride;
    const T y = location[samples.y_axis], x = location[1 - samples.y_axis];
    Vector<T, N> dy{}, dx{};
    for (int64_t s = 0; s < samples.scales; ++s, corners += 4) {
      const Map& map = samples.maps[s];
      const Cell<T> cell = locate(y, x, map);
      const int64_t at = p * samples.weight_stride + s * groups;
      for (int64_t g = 0; g < groups; g += N) {
        const Vector<T, N> t00 = load<N>(dots + corners[0] * groups + g);
        const Vector<T, N> t01 = load<N>(dots + corners[1] * groups + g);
        const Vector<T, N> t10 = load<N>(dots + corners[2] * groups + g);
        const Vector<T, N> t11 = load<N>(dots + corners[3] * groups + g);
        const Vector<T, N> top = t00 + cell.right * (t01 - t00);
        const Vector<T, N> bottom = t10 + cell.right * (t11 - t10);
        if (grad_weight) store<N>(grad_weight + at + g, top + cell.down * (bottom - top));
        if (grad_locations) {
          const Vector<T, N> w = load<N>(samples.weight + at + g);
          const Vector<T, N> above = t01 - t00, below = t11 - t10;
          dy += static_cast<T>(map.height) * w * (bottom - top);
          dx += static_cast<T>(map.width) * w * (above + cell.down * (below - above));
        }
      }
    }
    if (grad_locations) {
      T* grad = grad_locations + p * samples.location_stride;
      segment_sums<T, N, 1, N>(&dy, grad + samples.y_axis);
      segment_sums<T, N, 1, N>(&dx, grad + 1 - samples.y_axis);
    }
  }
}

// ---- Choice -------------------------------------------------------------------------------------

template <typename T, typename Groups, int G>
Kernels<T> make_kernels() {
  return {merge<T, G>, gather<T, Groups>, dot<T, Groups>, row_gradient<T, Groups>, finish<T, G>};
}

template <typename T, typename Groups>
Kernels<T> with_groups(int64_t groups) {
  return groups == 8 ? make_kernels<T, Groups, 8>() : make_kernels<T, Groups, 0>();
}

template <typename T>
Kernels<T> kernels(int64_t channels, int64_t groups) {
  switch (channels / groups) {
    case 4: return with_groups<T, FixedGroups<4>>(groups);
    case 8: return with_groups<T, FixedGroups<8>>(groups);
    case 16: return with_groups<T, FixedGroups<16>>(groups);
    case 32: return with_groups<T, FixedGroups<32>>(groups);
    case 64: return with_groups<T, FixedGroups<64>>(groups);
    default: return with_groups<T, AnyGroups>(groups);
  }
}

template Kernels<float> kernels(int64_t, int64_t);
template Kernels<double> kernels(int64_t, int64_t);

}  // namespace jda::JDA_ISA
