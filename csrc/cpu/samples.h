// The samples of a cluster, as the kernels take them.
#pragma once

#include "kernels.h"
#include "plan.h"
#include "scratch.h"

namespace jda {

// Where, within the locations, the cluster's camera has its location of key point 0.
inline int64_t first_sample(const Sizes& sizes, const Cluster& cluster) {
  return cluster.anchor * sizes.points * sizes.cameras + cluster.camera;
}

template <typename T>
T* at(T* array, int64_t offset) {
  return array ? array + offset : nullptr;
}

template <typename F, typename W>
Samples<W> samples_of(const Problem<F, W>& problem, const Plan& plan, const Cluster& cluster,
                      int32_t* found) {
  const int64_t first = first_sample(problem, cluster), weights = problem.scales * problem.groups;
  return {key_points(problem, plan, cluster, found),
          cluster.count,
          problem.locations + first * 2,
          problem.weight + first * weights,
          problem.cameras * 2,
          problem.cameras * weights,
          problem.maps + cluster.camera * problem.scales,
          problem.scales,
          problem.groups,
          problem.y_axis,
          at(problem.tangent_locations, first * 2),
          at(problem.tangent_weight, first * weights)};
}

// Whether a batch element's feature maps are too large for the caches near a core.
template <typename F, typename W>
bool far_memory(const Problem<F, W>& problem) {
  return problem.rows * problem.channels * static_cast<int64_t>(sizeof(F)) > (int64_t{4} << 20);
}

// What a member of the team needs to work on one cluster at a time.
template <typename T>
struct Worker {
  enum Wanted { kCoefficients, kTangents, kCorners };

  Worker(const Sizes& sizes, Wanted wanted) {
    const int64_t most = kClusterPoints * sizes.scales * 4;
    row = Scratch<int32_t>(most);
    coefficient = Scratch<T>((most + 1) * sizes.groups);  // dots of no entry come before the others
    if (wanted == kTangents) tangent = Scratch<T>(most * sizes.groups);
    if (wanted == kCorners) corner = Scratch<uint32_t>(most);
  }

  Entries<T> entries() const { return {row.get(), coefficient.get(), tangent.get(), corner.get()}; }

  int32_t found[kClusterPoints];
  Tile tile;
  Scratch<int32_t> row;
  Scratch<T> coefficient, tangent;
  Scratch<uint32_t> corner;
};

}  // namespace jda
