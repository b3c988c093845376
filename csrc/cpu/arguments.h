// What one call asks for: sizes, arguments and results, as in the operator's contract.
#pragma once

#include <cstdint>

#include "problem.h"
#include "types.h"

namespace jda {

// One camera's feature map of one scale: height x width rows from `start` on.
struct Map {
  int64_t start;
  int32_t height, width;
};

template <typename F, typename W = F>
struct Problem : Sizes {
  int y_axis;  // where y stands in the last axis of the locations: 0 or 1

  const Map* maps;           // [cameras, scales], each within `rows`
  const F* feature_maps;     // [batch, rows, channels]
  const Real<F>* locations;  // [batch, anchors, points, cameras, 2]
  const W* weight;           // [batch, anchors, points, cameras, scales, groups]

  // The forward's result, or the tangent of that.
  F* out = nullptr;  // [batch, anchors, channels]

  // The arguments' tangents; null where zero.
  const F* tangent_feature_maps = nullptr;
  const Real<F>* tangent_locations = nullptr;
  const W* tangent_weight = nullptr;

  // The backward's argument and the arguments' gradients; null where not wanted.
  const F* cotangent = nullptr;  // like out
  F* grad_feature_maps = nullptr;
  Real<F>* grad_locations = nullptr;
  W* grad_weight = nullptr;
};

}  // namespace jda
