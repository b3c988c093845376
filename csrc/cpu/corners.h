// Aggregation with depth, up to what the operator itself does: corners of samples as key points.
//
// A corner's key point is the centre of its pixel. Its weights are the sample's times its bilinear
// coefficient times how probable its pixel is at the sample's depth, interpolated between two bins.
#pragma once

#include <cstdint>

#include "arguments.h"
#include "team.h"

namespace jda {

constexpr int64_t kCorners = 4;

// The sizes have bins as channels.
template <typename T>
struct CornersCall : Sizes {
  int y_axis;
  const Map* maps;      // [cameras, scales], each within `rows`
  const T* depth_prob;  // [batch, rows, bins]
  const T* locations;   // [batch, anchors, points, cameras, 2]
  const T* weight;      // [batch, anchors, points, cameras, scales, groups]
  const T* depth;       // [batch, anchors, points, cameras]

  T* centres = nullptr;  // [batch, anchors, points, corners, cameras, scales, 2]
  T* weights = nullptr;  // [..., groups]

  // The cotangent of the weights, and gradients; null where not wanted.
  const T* cotangent = nullptr;
  T* grad_depth_prob = nullptr;
  T* grad_locations = nullptr;
  T* grad_weight = nullptr;
  T* grad_depth = nullptr;

  int64_t key_points() const { return anchors * points; }  // of a batch element
};

// Writes centres and weights.
template <typename T>
void corners_forward(const CornersCall<T>& call, Team& team);

// Writes those of the gradients that are not null. They do not depend on the size of the team.
template <typename T>
void corners_backward(const CornersCall<T>& call, Team& team);

}  // namespace jda
