// Tabulation: the corners of samples straight into a table that has a place for every row.
#pragma once

#include "cells.h"
#include "formats.h"
#include "groups.h"
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

// The four corners of the samples of one scale: place in the table and bilinear coefficient.
template <typename T>
struct TableCorners {
  uint32_t place[4][kClusterPoints];
  T share[4][kClusterPoints];

  JDA_INLINE TableCorners(const Coordinates<T>& coordinates, const Map& map) {
    const Cells<T> cells = coordinates.cells(map);
    for (int j = 0; j < 4; ++j) {
      const int dh = j / 2, dw = j % 2;
      for (int64_t i = 0; i < coordinates.padded; ++i) {
        const int32_t h = cells.h[i] + dh, w = cells.w[i] + dw;
        const uint32_t row = static_cast<uint32_t>(map.start) +
                             static_cast<uint32_t>(h) * static_cast<uint32_t>(map.width) +
                             static_cast<uint32_t>(w);
        place[j][i] = within(h, map.height) & within(w, map.width) ? row + 1 : 0;
        share[j][i] =
            (dh ? cells.down[i] : 1 - cells.down[i]) * (dw ? cells.right[i] : 1 - cells.right[i]);
      }
    }
  }
};

template <typename W, int G>
void tabulate(const Samples<W>& samples, Real<W>* table, uint32_t* corners) {
  using T = Real<W>;
  const int64_t groups = G ? G : samples.groups;
  const Coordinates<T> coordinates(samples);
  for (int64_t s = 0; s < samples.scales; ++s) {
    const TableCorners<T> of(coordinates, samples.maps[s]);
    if (corners)
      for (int64_t i = 0; i < samples.count; ++i)
        for (int j = 0; j < 4; ++j) corners[(i * samples.scales + s) * 4 + j] = of.place[j][i];
    if (!table) continue;
    for (int64_t i = 0; i < samples.count; ++i) {
      const W* weight = samples.weight + samples.points[i] * samples.weight_stride + s * groups;
      over_groups<G>(groups, [&](auto lanes, int64_t g, int used) {
        constexpr int N = decltype(lanes)::kCount;
        const Vector<T, N> of_weight = load<N>(weight + g, used);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          T* sum = table + int64_t{of.place[j][i]} * groups + g;
          store<N>(sum, load<N>(sum, used) + of.share[j][i] * of_weight, used);
        }
      });
    }
  }
}

}  // namespace jda::JDA_ISA
