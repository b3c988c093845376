// Gradients of locations and weights, from the dots of the corners.
#pragma once

#include "cells.h"
#include "formats.h"
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

template <typename F, int G>
void finish(const Samples<F>& samples, const uint32_t* corners, const Real<F>* dots,
            Real<F>* grad_locations, F* grad_weight) {
  using T = Real<F>;
  constexpr int N = G ? G : 1;
  const int64_t groups = G ? G : samples.groups;
  const Coordinates<T> coordinates(samples);
  Vector<T, N> dy[kClusterPoints], dx[kClusterPoints];
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

}  // namespace jda::JDA_ISA
