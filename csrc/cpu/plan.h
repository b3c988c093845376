// The order of work: which visible samples are processed together, and when.
#pragma once

#include <cstdint>
#include <vector>

#include "arguments.h"
#include "between.h"
#include "kernels.h"
#include "team.h"

namespace jda {

// Rows of fewer channels are not worth an order: what is read of an anchor is no less than what it
// samples.
constexpr int64_t kNarrow = 16;

// Where entries do not pay: a few key points of an anchor hardly share rows, and with one coefficient for
// so few channels an entry is as large as a row.
inline bool has_few_points(const Sizes& sizes) { return sizes.points <= 4; }
inline bool has_narrow_groups(const Sizes& sizes) { return sizes.channels < 4 * sizes.groups; }

// Visits that are processed together: several anchors of few visible key points each that lie close
// together, or a single visit.
struct Cluster {
  int64_t visit;   // the first of them
  int32_t visits;  // how many
  int32_t count;   // of visible key points
  int32_t camera;
};

struct Plan {
  // Work is done camera by camera and, within a camera, along a space-filling curve, so that visits
  // that follow each other read the same feature rows while a cache still holds them. Narrow rows
  // are read in the order of the anchors.
  std::vector<Cluster> clusters;
  std::vector<Visit> visits;
  std::vector<int32_t> points;  // those of the visits that are blocks, as key_points writes them
  std::vector<int32_t> pieces;  // [batch * anchors]: visits of each anchor
  std::vector<int64_t> part;    // [batch * anchors]: its first partial result, if pieces > 1
  int64_t parts = 0;            // partial results in all
};

// `locations` are those of a problem of such sizes.
template <typename T>
int64_t count_visible(const Sizes& sizes, const T* locations);

// The plan of a problem of such sizes needs at most so many bytes, and so many partial results.
int64_t plan_bytes(const Sizes& sizes);
int64_t most_parts(const Sizes& sizes);

// `locations` are those of a problem of such sizes, with batch * anchors * points below 2^31.
template <typename T>
Plan make_plan(const Sizes& sizes, const T* locations, Team& team);

// The key points of a cluster, as anchor * points + key point: listed by the plan, or found now and
// written to `found`, which has room for kClusterPoints.
template <typename F, typename W>
const int32_t* key_points(const Problem<F, W>& problem, const Plan& plan, const Cluster& cluster,
                          int32_t* found) {
  const Visit* visit = plan.visits.data() + cluster.visit;
  if (visit->listed >= 0) return plan.points.data() + visit->listed;
  int32_t* next = found;
  for (const Visit* end = visit + cluster.visits; visit < end; ++visit) {
    const int64_t first = visit->anchor * problem.points;
    const Real<F>* location = problem.locations + (first * problem.cameras + cluster.camera) * 2;
    for (int64_t p = 0; p < problem.points; ++p, location += problem.cameras * 2)
      if (visible(location[0], location[1])) *next++ = static_cast<int32_t>(first + p);
  }
  return found;
}

}  // namespace jda
