// What one call asks for: sizes, arguments and results, as in the operator's contract.
#pragma once

#include <cstdint>

namespace jda {

// One camera's feature map of one scale: height x width rows from `start` on.
struct Map {
  int64_t start;
  int32_t height, width;
};

template <typename T>
struct Problem {
  int64_t batch, rows, channels, anchors, points, cameras, scales, groups;
  int y_axis;  // where y stands in the last axis of the locations: 0 or 1

  const Map* maps;        // [cameras, scales], each within `rows`
  const T* feature_maps;  // [batch, rows, channels]
  const T* locations;     // [batch, anchors, points, cameras, 2]
  const T* weight;        // [batch, anchors, points, cameras, scales, groups]

  T* out = nullptr;  // [batch, anchors, channels]: the forward's result

  const T* cotangent = nullptr;    // like out: the backward's argument
  T* grad_feature_maps = nullptr;  // like the arguments; null where not wanted
  T* grad_locations = nullptr;
  T* grad_weight = nullptr;
};

}  // namespace jda
