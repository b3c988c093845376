// Merging: the corners of a cluster's samples as entries, one for each distinct row.
#pragma once

#include "cells.h"
#include "formats.h"
#include "groups.h"
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

// The tangent of a sample's shares and of its weight at one scale.
template <typename W>
struct Moves {
  using T = Real<W>;
  T share[4];
  const W* weight;  // null: zero
  bool shares;      // not zero

  JDA_INLINE Moves(const Samples<W>& samples, const Map& map, int64_t sample, int64_t scale, T down,
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
  JDA_INLINE Vector<T, N> term(int j, T share_of, Vector<T, N> weight_of, int64_t g,
                               int used) const {
    Vector<T, N> sum{};
    if (shares) sum += share[j] * weight_of;
    if (weight) sum += share_of * load<N>(weight + g, used);
    return sum;
  }
};

template <int N, typename T>
JDA_INLINE void add(T* sum, Vector<T, N> term, bool to_what_is_there, int used) {
  store<N>(sum, to_what_is_there ? load<N>(sum, used) + term : term, used);
}

// Turns the samples of a cluster into entries. G groups, or any number of them where G is 0. With
// kTangent the tangents of the coefficients are summed likewise.
//
// Samples of one visit are taken scale by scale: where many of them fall into few cells, a tile holds
// the number of each cell's entry; where they are sparse, each corner gets an entry of its own. So it
// does in a cluster of several visits, which have too few samples each to share rows.
template <typename W, int G, bool kTangent>
class Merge {
 public:
  using T = Real<W>;

  JDA_INLINE Merge(const Samples<W>& samples, int64_t row_offset, int64_t first, Tile& tile,
                   const Entries<T>& entries)
      : samples_(samples),
        groups_(G ? G : samples.groups),
        row_offset_(row_offset),
        first_(first),
        tile_(tile),
        entries_(entries),
        coordinates_(samples) {
    const int64_t weights_of_point = samples.scales * groups_;
    for (int64_t i = 0; i < samples.count; ++i) {
      weights_[i] = samples.weight + samples.points[i] * samples.weight_stride;
      __builtin_prefetch(weights_[i]);
      __builtin_prefetch(weights_[i] + weights_of_point - 1);
    }
  }

  // Returns how many entries there are.
  JDA_INLINE int64_t run() {
    if (samples_.visits_count > 1) {
      for (int64_t v = 0, i = 0; v < samples_.visits_count; ++v) {
        for (const int64_t end = i + samples_.visits[v].count; i < end; ++i) spread_sample(i);
        entries_.end[v] = last_;
      }
    } else {
      for (int64_t s = 0; s < samples_.scales; ++s) merge_scale(s);
      entries_.end[0] = last_;
    }
    return last_;
  }

 private:
  // What the samples of one scale have in common.
  struct Scale {
    int64_t number;
    Map map;
    Range h, w;
    bool inside;  // no corner lies outside the map
    bool dense;   // the tile is in use
    int64_t tile_width;
  };

  JDA_INLINE void spread_sample(int64_t i) {
    for (int64_t s = 0; s < samples_.scales; ++s) {
      const Map map = samples_.maps[s];
      const Cell<T> cell = coordinates_.cell(i, map);
      const bool inside =
          cell.h >= 0 && cell.w >= 0 && cell.h < map.height - 1 && cell.w < map.width - 1;
      merge_sample({s, map, {}, {}, inside, false, 0}, cell, i);
    }
  }

  JDA_INLINE void merge_scale(int64_t s) {
    const Map map = samples_.maps[s];
    const Cells<T> cells = coordinates_.cells(map);
    const Range h = range(cells.h, coordinates_.padded), w = range(cells.w, coordinates_.padded);
    const bool inside =
        h.low >= 0 && w.low >= 0 && h.high < map.height - 1 && w.high < map.width - 1;
    const int64_t tile_width = int64_t{w.high} - w.low + 2;
    const int64_t tile_cells = (int64_t{h.high} - h.low + 2) * tile_width;
    const bool dense = tile_cells <= samples_.count * Tile::kCellsPerPoint;
    if (dense) clear(tile_cells);
    const Scale scale{s, map, h, w, inside, dense, tile_width};
    for (int64_t i = 0; i < samples_.count; ++i) merge_sample(scale, cells[i], i);
  }

  // The tile, and the coefficients that its entries may have.
  JDA_INLINE void clear(int64_t tile_cells) {
    for (int64_t i = 0; i < tile_cells; ++i) tile_.number[i] = 0;
    const int64_t begin = last_ * groups_, end = begin + samples_.count * 4 * groups_;
    for (int64_t i = begin; i < end; ++i) entries_.coefficient[i] = 0;
    if constexpr (kTangent)
      for (int64_t i = begin; i < end; ++i) entries_.tangent[i] = 0;
  }

  JDA_INLINE void merge_sample(const Scale& scale, const Cell<T>& cell, int64_t i) {
    const Map& map = scale.map;
    const W* weight = weights_[i] + scale.number * groups_;
    const auto [h, w, down, right] = cell;
    const T share[4] = {(1 - down) * (1 - right), (1 - down) * right, down * (1 - right),
                        down * right};
    [[maybe_unused]] const Moves<W> moves(samples_, map, i, scale.number, down, right);
    const int64_t row = row_offset_ + map.start + int64_t{h} * map.width + w;
    const int64_t place = (h - scale.h.low) * scale.tile_width + (w - scale.w.low);
    uint32_t* corner =
        entries_.corners ? entries_.corners + (i * samples_.scales + scale.number) * 4 : nullptr;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const int dh = j / 2, dw = j % 2;
      if (!scale.inside && !(within(h + dh, map.height) && within(w + dw, map.width))) {
        if (corner) corner[j] = 0;
        continue;
      }
      const int32_t number = number_of(scale, place + dh * scale.tile_width + dw);
      entries_.row[number - 1] = static_cast<int32_t>(row + dh * map.width + dw);
      const int64_t q = (number - 1) * groups_;
      over_groups<G>(groups_, [&](auto lanes, int64_t g, int used) {
        constexpr int N = decltype(lanes)::kCount;
        const Vector<T, N> of_weight = load<N>(weight + g, used);
        add<N>(entries_.coefficient + q + g, share[j] * of_weight, scale.dense, used);
        if constexpr (kTangent)
          add<N>(entries_.tangent + q + g, moves.template term<N>(j, share[j], of_weight, g, used),
                 scale.dense, used);
      });
      if (corner) corner[j] = static_cast<uint32_t>(first_ + number);
    }
  }

  // The number of the entry of a cell of the tile; they start with 1.
  JDA_INLINE int32_t number_of(const Scale& scale, int64_t cell) {
    if (!scale.dense) return ++last_;
    int32_t& here = tile_.number[cell];
    last_ += here == 0;
    return here = here == 0 ? last_ : here;
  }

  const Samples<W>& samples_;
  const int64_t groups_, row_offset_, first_;
  Tile& tile_;
  const Entries<T> entries_;
  const Coordinates<T> coordinates_;
  const W* weights_[kClusterPoints];
  int32_t last_ = 0;  // number of the last entry
};

template <typename W, int G, bool kTangent>
int64_t merge(const Samples<W>& samples, int64_t row_offset, int64_t first, Tile& tile,
              Entries<Real<W>> entries) {
  return Merge<W, G, kTangent>(samples, row_offset, first, tile, entries).run();
}

}  // namespace jda::JDA_ISA
