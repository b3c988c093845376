// The order of work: which visible samples are processed together, and when.
#pragma once

#include <cstdint>
#include <vector>

#include "arguments.h"
#include "kernels.h"
#include "team.h"

namespace jda {

// Samples that are processed together: the visible key points of one anchor in one camera, or,
// where they are many, a block of them that lies close together in the image.
struct Cluster {
  int64_t anchor;  // counted over the batch: batch element * anchors + anchor
  int32_t camera;
  int32_t count;   // of visible key points
  uint32_t place;  // of the first of them in the image, along the curve that work follows
  int64_t listed;  // where Plan::points lists them; -1: not listed, they are all that are visible
  int64_t part;    // its row among the partial results; -1: it is all there is of its anchor
};

struct Plan {
  // Work is done camera by camera and, within a camera, along a space-filling curve, so that clusters
  // that follow each other read the same feature rows while a cache still holds them.
  std::vector<Cluster> clusters;
  std::vector<int32_t> points;  // key points of the clusters that are blocks
  std::vector<int32_t> pieces;  // [batch * anchors]: clusters of each anchor
  std::vector<int64_t> part;    // [batch * anchors]: its first partial result, if pieces > 1
  int64_t parts = 0;            // partial results in all
};

template <typename T>
inline bool visible(T y, T x) {
  return y > 0 && y < 1 && x > 0 && x < 1;  // false for NaN
}

// `locations` are those of a problem of such sizes.
template <typename T>
Plan make_plan(const Sizes& sizes, const T* locations, Team& team);

// The key points of a cluster: listed by the plan, or found now and written to `found`, which has
// room for kClusterPoints.
template <typename F, typename W>
const int32_t* key_points(const Problem<F, W>& problem, const Plan& plan, const Cluster& cluster,
                          int32_t* found) {
  if (cluster.listed >= 0) return plan.points.data() + cluster.listed;
  const Real<F>* location =
      problem.locations + (cluster.anchor * problem.points * problem.cameras + cluster.camera) * 2;
  int32_t* next = found;
  for (int64_t p = 0; p < problem.points; ++p, location += problem.cameras * 2)
    if (visible(location[0], location[1])) *next++ = static_cast<int32_t>(p);
  return found;
}

}  // namespace jda
