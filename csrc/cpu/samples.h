// The samples of a cluster, as the kernels take them.
#pragma once

#include <algorithm>

#include "kernels.h"
#include "passes.h"
#include "plan.h"
#include "scratch.h"

namespace jda {

// Those of some key points in one camera, which belong to no visit.
template <typename F, typename W>
Samples<W> samples_in(const Problem<F, W>& problem, int64_t camera, const int32_t* points,
                      int64_t count) {
  const int64_t weights = problem.scales * problem.groups;
  return {nullptr,
          0,
          points,
          count,
          problem.locations + camera * 2,
          problem.weight + camera * weights,
          problem.cameras * 2,
          problem.cameras * weights,
          problem.maps + camera * problem.scales,
          problem.scales,
          problem.groups,
          problem.y_axis,
          at(problem.tangent_locations, camera * 2),
          at(problem.tangent_weight, camera * weights)};
}

template <typename F, typename W>
Samples<W> samples_of(const Problem<F, W>& problem, const Plan& plan, const Cluster& cluster,
                      int32_t* found) {
  Samples<W> samples =
      samples_in(problem, cluster.camera, key_points(problem, plan, cluster, found), cluster.count);
  samples.visits = plan.visits.data() + cluster.visit;
  samples.visits_count = cluster.visits;
  return samples;
}

// The first feature row of the batch element that a cluster belongs to.
inline int64_t first_row(const Sizes& sizes, const Plan& plan, const Cluster& cluster) {
  return plan.visits[cluster.visit].anchor / sizes.anchors * sizes.rows;
}

// How many entries before it is used a row is fetched into the caches. Not at all where all of them fit
// those near a core.
template <typename F>
int64_t entries_ahead(int64_t rows, int64_t channels) {
  constexpr int64_t kNear = int64_t{1} << 20, kFetched = 4096;  // bytes
  const int64_t row = std::max<int64_t>(1, channels) * sizeof(F);
  return rows * row <= kNear ? 0 : std::clamp<int64_t>(kFetched / row, 4, 32);
}

// What a member of the team needs to work on one cluster at a time.
template <typename W>
struct Worker {
  using T = Real<W>;
  enum Wanted { kCoefficients, kTangents, kCorners };

  Worker(const Sizes& sizes, Wanted wanted) {
    const int64_t most = kClusterPoints * sizes.scales * 4;
    row = Scratch<int32_t>(most);
    coefficient = Scratch<T>((most + 1) * sizes.groups);  // dots of no entry come before the others
    if (wanted == kTangents) tangent = Scratch<T>(most * sizes.groups);
    if (wanted == kCorners) corner = Scratch<uint32_t>(most);
  }

  Entries<T> entries() { return {row.get(), coefficient.get(), tangent.get(), corner.get(), end}; }
  Visited visited(const Samples<W>& samples, int64_t ahead) const {
    return {samples.visits, end, samples.visits_count, row.get(), ahead};
  }

  int32_t found[kClusterPoints], end[kClusterPoints];
  Tile tile;
  Scratch<int32_t> row;
  Scratch<T> coefficient, tangent;
  Scratch<uint32_t> corner;
};

}  // namespace jda
