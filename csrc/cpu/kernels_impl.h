// The inner loops for one instruction set: JDA_ISA names it, JDA_VECTOR_BYTES is its vector and
// JDA_VECTORS how many accumulators fit its registers.
#include "formats.h"
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

template <typename T>
constexpr int kLanes = JDA_VECTOR_BYTES / static_cast<int>(sizeof(T));

// ---- Channel groups -----------------------------------------------------------------------------
// How channels map to groups decides how coefficients are spread over lanes and how dots are
// summed. A Block knows that for M vectors of N lanes from some channel on.

// D channels in each group, D a power of two that is known here. Blocks hold whole groups.
template <int D>
struct FixedGroups {
  static constexpr bool kFixed = true;
  static constexpr int kSize = D;
  explicit FixedGroups(int64_t, int64_t) {}

  template <typename T, int N, int M>
  struct Block {
    int64_t first;  // group
    Block(FixedGroups, int64_t c) : first(c / D) {}

    // The coefficient of the lanes of vector j.
    JDA_INLINE T spread(const T* coefficient, int j) const {
      return coefficient[first + j * N / D];
    }

    // The sum of the products over each group.
    JDA_INLINE void sum(Vector<T, N>* product, T* dots) const {
      constexpr int kVectors = D / N, kGroups = M / kVectors;
#pragma GCC unroll 16
      for (int g = 0; g < kGroups; ++g) {
        Vector<T, N> v = product[g * kVectors];
#pragma GCC unroll 16
        for (int j = 1; j < kVectors; ++j) v += product[g * kVectors + j];
        product[g] = v;
      }
      lane_sums<T, N, kGroups>(product, dots + first);
    }
  };
};

// Any other number of channels in each group. Groups may begin and end within a vector, and a
// group's sum may be begun by one block and ended by the next.
struct AnyGroups {
  static constexpr bool kFixed = false;
  static constexpr int kSize = 1;
  int64_t size;
  AnyGroups(int64_t channels, int64_t groups) : size(channels / groups) {}

  template <typename T, int N, int M>
  struct Block {
    int64_t group[M * N];
    bool whole[M];  // all lanes of the vector are of one group
    bool begins;    // the first lane begins a group
    Block(AnyGroups groups, int64_t c) : begins(c % groups.size == 0) {
      int64_t g = c / groups.size, left = groups.size - c % groups.size;
      for (int i = 0; i < M * N; ++i) {
        group[i] = g;
        if (--left == 0) ++g, left = groups.size;
      }
      for (int j = 0; j < M; ++j) whole[j] = group[j * N] == group[j * N + N - 1];
    }

    JDA_INLINE Vector<T, N> spread(const T* coefficient, int j) const {
      Vector<T, N> v{};
      if (whole[j]) return v + coefficient[group[j * N]];
      for (int i = 0; i < N; ++i) v[i] = coefficient[group[j * N + i]];
      return v;
    }

    JDA_INLINE void sum(Vector<T, N>* product, T* dots) const {
      int64_t last = begins ? -1 : group[0];
      auto add = [&](int64_t g, T term) {
        dots[g] = g == last ? dots[g] + term : term;
        last = g;
      };
      for (int j = 0; j < M; ++j) {
        if (whole[j]) {
          T total;
          lane_sums<T, N, 1>(product + j, &total);
          add(group[j * N], total);
        } else {
          for (int i = 0; i < N; ++i) add(group[j * N + i], product[j][i]);
        }
      }
    }
  };
};

// Runs kernel.block<N, M>(c) over the channels from c on: blocks of M vectors of N lanes first,
// then narrower ones for what is left, down to D channels.
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

// Runs the kernel over all channels. Vectors and blocks never straddle groups of a fixed size.
template <typename T, typename Groups, typename Kernel>
JDA_INLINE void over_channels(const Kernel& kernel, int64_t channels) {
  constexpr int D = Groups::kSize, N = Groups::kFixed && D < kLanes<T> ? D : kLanes<T>;
  narrowing_blocks<N, (D > N * JDA_VECTORS ? D / N : JDA_VECTORS), D>(kernel, channels, 0);
}

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
      const T* q = kDots && !Groups::kFixed ? row.spare + i * groups : row.coefficient + e * groups;
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
    put<N, M>(row.gradient + c, sum, row.stream);
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
      !Groups::kFixed)  // a group's dots may be begun before its coefficient's last use
    for (int64_t i = 0; i < row.count; ++i)
      for (int64_t g = 0; g < groups; ++g)
        row.spare[i * groups + g] = row.coefficient[row.entries[i] * groups + g];
  if (row.feature)
    over_channels<Real<F>, Groups>(Row<F, Groups, true>{layout, row, channels, groups}, channels);
  else
    over_channels<Real<F>, Groups>(Row<F, Groups, false>{layout, row, channels, groups}, channels);
}

// ---- Samples ------------------------------------------------------------------------------------

// The samples of an item at one scale: each lies between rows h, h+1 and columns w, w+1 of the map.
template <typename T>
struct Cells {
  int32_t h[kItemPoints], w[kItemPoints];
  T down[kItemPoints], right[kItemPoints];  // distance from row h and column w
};

// The locations of an item, in plain arrays and padded to whole vectors with copies of the first.
template <typename T>
struct Coordinates {
  static constexpr int64_t kPad = 16;
  T y[kItemPoints], x[kItemPoints];
  int64_t padded;

  template <typename F>
  explicit Coordinates(const Samples<F>& samples) {
    padded = (samples.count + kPad - 1) / kPad * kPad;
    for (int64_t i = 0; i < padded; ++i) {
      const int64_t p = samples.points[i < samples.count ? i : 0];
      const T* location = samples.locations + p * samples.location_stride;
      y[i] = location[samples.y_axis];
      x[i] = location[1 - samples.y_axis];
    }
  }

  Cells<T> cells(const Map& map) const {
    Cells<T> cells;
    axis(y, map.height, cells.h, cells.down);
    axis(x, map.width, cells.w, cells.right);
    return cells;
  }

 private:
  JDA_INLINE void axis(const T* location, int32_t size, int32_t* cell, T* distance) const {
    for (int64_t i = 0; i < padded; ++i) {
      const T at = location[i] * static_cast<T>(size) - T(0.5);
      // floor: coordinates of visible samples are above -1, where truncation is off below zero only
      cell[i] = static_cast<int32_t>(at) - (at < 0);
      distance[i] = at - static_cast<T>(cell[i]);
    }
  }
};

struct Range {
  int32_t low, high;
};
JDA_INLINE Range range(const int32_t* v, int64_t count) {
  Range r{v[0], v[0]};
  for (int64_t i = 1; i < count; ++i) {
    r.low = v[i] < r.low ? v[i] : r.low;
    r.high = v[i] > r.high ? v[i] : r.high;
  }
  return r;
}

// In maps of over 2^23 rows a float32 coordinate can round up to the map's size: all sides are
// tested.
JDA_INLINE bool within(int32_t v, int32_t size) {
  return static_cast<uint32_t>(v) < static_cast<uint32_t>(size);
}

// The tangent of a sample's shares and of its weight at one scale.
template <typename F>
struct Moves {
  using T = Real<F>;
  T share[4];
  const F* weight;  // null: zero
  bool shares;      // not zero

  JDA_INLINE Moves(const Samples<F>& samples, const Map& map, int64_t sample, int64_t scale, T down,
                   T right)
      : weight(nullptr), shares(samples.tangent_locations) {
    const int64_t point = samples.points[sample];
    if (shares) {
      const T* location = samples.tangent_locations + point * samples.location_stride;
      const T dh = location[samples.y_axis] * static_cast<T>(map.height);
      const T dw = location[1 - samples.y_axis] * static_cast<T>(map.width);
      share[0] = -dh * (1 - right) - dw * (1 - down);
      share[1] = -dh * right + dw * (1 - down);
      share[2] = dh * (1 - right) - dw * down;
      share[3] = dh * right + dw * down;
    }
    if (samples.tangent_weight)
      weight = samples.tangent_weight + point * samples.weight_stride + scale * samples.groups;
  }

  // The tangent of share * weight of corner j, for the groups from g on.
  template <int N>
  JDA_INLINE Vector<T, N> term(int j, T share_of, Vector<T, N> weight_of, int64_t g) const {
    Vector<T, N> sum{};
    if (shares) sum += share[j] * weight_of;
    if (weight) sum += share_of * load<N>(weight + g);
    return sum;
  }
};

template <int N, typename T>
JDA_INLINE void add(T* sum, Vector<T, N> term, bool to_what_is_there) {
  store<N>(sum, to_what_is_there ? load<N>(sum) + term : term);
}

// G groups, or any number of them where G is 0. Where many samples fall into few cells, a tile
// holds the number of each cell's entry; where they are sparse, each corner gets an entry of its
// own. With kTangent the tangents of the coefficients are summed likewise.
template <typename F, int G, bool kTangent>
int64_t merge(const Samples<F>& samples, int64_t row_offset, int64_t first, Tile& tile,
              Entries<Real<F>> entries) {
  using T = Real<F>;
  constexpr int N = G ? G : 1;
  const int64_t groups = G ? G : samples.groups, count = samples.count;
  const int64_t weights_of_point = samples.scales * groups;
  const F* weights[kItemPoints];
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = samples.weight + samples.points[i] * samples.weight_stride;
    __builtin_prefetch(weights[i]);
    __builtin_prefetch(weights[i] + weights_of_point - 1);
  }
  const Coordinates<T> coordinates(samples);
  int32_t last = 0;  // number of the last entry: they start with 1
  for (int64_t s = 0; s < samples.scales; ++s) {
    const Map map = samples.maps[s];
    const Cells<T> cells = coordinates.cells(map);
    const Range h = range(cells.h, coordinates.padded), w = range(cells.w, coordinates.padded);
    const bool inside =
        h.low >= 0 && w.low >= 0 && h.high < map.height - 1 && w.high < map.width - 1;
    const int64_t tile_width = int64_t{w.high} - w.low + 2;
    const int64_t tile_cells = (int64_t{h.high} - h.low + 2) * tile_width;
    const bool dense = tile_cells <= count * Tile::kCellsPerPoint;
    if (dense) {
      for (int64_t i = 0; i < tile_cells; ++i) tile.number[i] = 0;
      const int64_t begin = last * groups, end = begin + count * 4 * groups;
      for (int64_t i = begin; i < end; ++i) entries.coefficient[i] = 0;
      if constexpr (kTangent)
        for (int64_t i = begin; i < end; ++i) entries.tangent[i] = 0;
    }
    for (int64_t i = 0; i < count; ++i) {
      const F* weight = weights[i] + s * groups;
      const T down = cells.down[i], right = cells.right[i];
      const T share[4] = {(1 - down) * (1 - right), (1 - down) * right, down * (1 - right),
                          down * right};
      [[maybe_unused]] const Moves<F> moves(samples, map, i, s, down, right);
      const int64_t row = row_offset + map.start + int64_t{cells.h[i]} * map.width + cells.w[i];
      const int64_t place = (cells.h[i] - h.low) * tile_width + (cells.w[i] - w.low);
      uint32_t* corner = entries.corners ? entries.corners + (i * samples.scales + s) * 4 : nullptr;
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const int dh = j / 2, dw = j % 2;
        if (!inside &&
            !(within(cells.h[i] + dh, map.height) && within(cells.w[i] + dw, map.width))) {
          if (corner) corner[j] = 0;
          continue;
        }
        int32_t number;
        if (dense) {
          int32_t& here = tile.number[place + dh * tile_width + dw];
          last += here == 0;
          number = here = here == 0 ? last : here;
        } else {
          number = ++last;
        }
        entries.row[number - 1] = static_cast<int32_t>(row + dh * map.width + dw);
        const int64_t q = (number - 1) * groups;
        for (int64_t g = 0; g < groups; g += N) {
          const Vector<T, N> of_weight = load<N>(weight + g);
          add<N>(entries.coefficient + q + g, share[j] * of_weight, dense);
          if constexpr (kTangent)
            add<N>(entries.tangent + q + g, moves.template term<N>(j, share[j], of_weight, g),
                   dense);
        }
        if (corner) corner[j] = static_cast<uint32_t>(first + number);
      }
    }
  }
  return last;
}

template <typename F, int G>
void finish(const Samples<F>& samples, const uint32_t* corners, const Real<F>* dots,
            Real<F>* grad_locations, F* grad_weight) {
  using T = Real<F>;
  constexpr int N = G ? G : 1;
  const int64_t groups = G ? G : samples.groups;
  const Coordinates<T> coordinates(samples);
  Vector<T, N> dy[kItemPoints], dx[kItemPoints];
  for (int64_t i = 0; i < samples.count; ++i) dy[i] = dx[i] = Vector<T, N>{};
  for (int64_t s = 0; s < samples.scales; ++s) {
    const Map map = samples.maps[s];
    const T height = static_cast<T>(map.height), width = static_cast<T>(map.width);
    const Cells<T> cells = coordinates.cells(map);
    for (int64_t i = 0; i < samples.count; ++i) {
      const uint32_t* corner = corners + (i * samples.scales + s) * 4;
      const int64_t at = samples.points[i] * samples.weight_stride + s * groups;
      for (int64_t g = 0; g < groups; g += N) {
        const Vector<T, N> t00 = load<N>(dots + corner[0] * groups + g);
        const Vector<T, N> t01 = load<N>(dots + corner[1] * groups + g);
        const Vector<T, N> t10 = load<N>(dots + corner[2] * groups + g);
        const Vector<T, N> t11 = load<N>(dots + corner[3] * groups + g);
        const Vector<T, N> above = t01 - t00, below = t11 - t10;  // right minus left
        const Vector<T, N> top = t00 + cells.right[i] * above;
        const Vector<T, N> fall = t10 + cells.right[i] * below - top;  // bottom minus top
        if (grad_weight) store<N>(grad_weight + at + g, top + cells.down[i] * fall);
        if (grad_locations) {
          const Vector<T, N> weight = load<N>(samples.weight + at + g);
          dy[i] += height * weight * fall;
          dx[i] += width * weight * (above + cells.down[i] * (below - above));
        }
      }
    }
  }
  if (grad_locations)
    for (int64_t i = 0; i < samples.count; ++i) {
      T* grad = grad_locations + samples.points[i] * samples.location_stride;
      lane_sums<T, N, 1>(dy + i, grad + samples.y_axis);
      lane_sums<T, N, 1>(dx + i, grad + 1 - samples.y_axis);
    }
}

// ---- Choice -------------------------------------------------------------------------------------

template <typename F, typename Groups, int G>
Kernels<F> make_kernels() {
  return {merge<F, G, false>, merge<F, G, true>,       gather<F, Groups>, add_parts<F>,
          dot<F, Groups>,     row_gradient<F, Groups>, finish<F, G>};
}

template <typename F, typename Groups>
Kernels<F> with_groups(int64_t groups) {
  return groups == 8 ? make_kernels<F, Groups, 8>() : make_kernels<F, Groups, 0>();
}

template <typename F>
Kernels<F> kernels(int64_t channels, int64_t groups) {
  switch (channels / groups) {
    case 4:
      return with_groups<F, FixedGroups<4>>(groups);
    case 8:
      return with_groups<F, FixedGroups<8>>(groups);
    case 16:
      return with_groups<F, FixedGroups<16>>(groups);
    case 32:
      return with_groups<F, FixedGroups<32>>(groups);
    case 64:
      return with_groups<F, FixedGroups<64>>(groups);
    default:
      return with_groups<F, AnyGroups>(groups);
  }
}

#define JDA_INSTANTIATE(F) template Kernels<F> kernels(int64_t, int64_t);
JDA_FOR_TYPES(JDA_INSTANTIATE)

}  // namespace jda::JDA_ISA
