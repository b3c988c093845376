// Gradients of locations and weights, from the dots of the corners.
#pragma once

#include "cells.h"
#include "formats.h"
#include "groups.h"
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

// What the groups of one sample add to its gradients.
template <typename W>
struct SampleGradient {
  using T = Real<W>;
  const T* dots;
  const uint32_t* corner;  // numbers of the four dots
  int64_t groups;
  T down, right, height, width;
  const W* weight;
  W* grad_weight;  // null where not wanted

  // For the groups from g on, their shares of the location's gradient are added to dy and dx.
  template <int N>
  JDA_INLINE void add(int64_t g, int used, Vector<T, N>& dy, Vector<T, N>& dx) const {
    const Vector<T, N> t00 = load<N>(dots + corner[0] * groups + g, used);
    const Vector<T, N> t01 = load<N>(dots + corner[1] * groups + g, used);
    const Vector<T, N> t10 = load<N>(dots + corner[2] * groups + g, used);
    const Vector<T, N> t11 = load<N>(dots + corner[3] * groups + g, used);
    const Vector<T, N> above = t01 - t00, below = t11 - t10;  // right minus left
    const Vector<T, N> top = t00 + right * above;
    const Vector<T, N> fall = t10 + right * below - top;  // bottom minus top
    if (grad_weight) store<N>(grad_weight + g, top + down * fall, used);
    const Vector<T, N> of_weight = load<N>(weight + g, used);
    dy += height * of_weight * fall;
    dx += width * of_weight * (above + down * (below - above));
  }
};

template <typename W, int G>
void finish(const Samples<W>& samples, const uint32_t* corners, const Real<W>* dots,
            Real<W>* grad_locations, W* grad_weight) {
  using T = Real<W>;
  constexpr int kWide = kGroupLanes<G>;
  const int64_t groups = G ? G : samples.groups;
  const Coordinates<T> coordinates(samples);
  Vector<T, kWide> dy[kClusterPoints], dx[kClusterPoints];
  for (int64_t i = 0; i < samples.count; ++i) dy[i] = dx[i] = Vector<T, kWide>{};
  for (int64_t s = 0; s < samples.scales; ++s) {
    const Map map = samples.maps[s];
    const Cells<T> cells = coordinates.cells(map);
    for (int64_t i = 0; i < samples.count; ++i) {
      const int64_t at = samples.points[i] * samples.weight_stride + s * groups;
      const SampleGradient<W> sample{dots,
                                     corners + (i * samples.scales + s) * 4,
                                     groups,
                                     cells.down[i],
                                     cells.right[i],
                                     static_cast<T>(map.height),
                                     static_cast<T>(map.width),
                                     samples.weight + at,
                                     grad_weight ? grad_weight + at : nullptr};
      over_groups<G>(groups, [&](auto lanes, int64_t g, int used) {
        constexpr int N = decltype(lanes)::kCount;
        if constexpr (N == kWide) {
          sample.template add<N>(g, used, dy[i], dx[i]);
        } else {
          Vector<T, N> y{}, x{};
          sample.template add<N>(g, used, y, x);
          for (int j = 0; j < N; ++j) {
            dy[i][j] += y[j];
            dx[i][j] += x[j];
          }
        }
      });
    }
  }
  if (grad_locations)
    for (int64_t i = 0; i < samples.count; ++i) {
      T* grad = grad_locations + samples.points[i] * samples.location_stride;
      lane_sums<T, kWide, 1>(dy + i, grad + samples.y_axis);
      lane_sums<T, kWide, 1>(dx + i, grad + 1 - samples.y_axis);
    }
}

}  // namespace jda::JDA_ISA
