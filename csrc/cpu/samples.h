// The samples of an item, as the kernels take them.
#pragma once

#include "kernels.h"
#include "plan.h"
#include "scratch.h"

namespace jda {

// Where, within the locations, the item's camera has its location of key point 0.
template <typename T>
int64_t first_sample(const Problem<T>& problem, const Item& item) {
  return item.anchor * problem.points * problem.cameras + item.camera;
}

template <typename T>
Samples<T> samples_of(const Problem<T>& problem, const Plan& plan, const Item& item,
                      int32_t* found) {
  const int64_t first = first_sample(problem, item), weights = problem.scales * problem.groups;
  return {key_points(problem, plan, item, found),
          item.count,
          problem.locations + first * 2,
          problem.weight + first * weights,
          problem.cameras * 2,
          problem.cameras * weights,
          problem.maps + item.camera * problem.scales,
          problem.scales,
          problem.groups,
          problem.y_axis};
}

// Whether a batch element's feature maps are too large for the caches near a core.
template <typename T>
bool far_memory(const Problem<T>& problem) {
  return problem.rows * problem.channels * static_cast<int64_t>(sizeof(T)) > (int64_t{4} << 20);
}

// What a member of the team needs to work on one item at a time.
template <typename T>
struct Worker {
  Worker(const Problem<T>& problem, bool corners) {
    const int64_t most = kItemPoints * problem.scales * 4;
    row = Scratch<int32_t>(most);
    coefficient =
        Scratch<T>((most + 1) * problem.groups);  // dots of no entry come before the others
    if (corners) corner = Scratch<uint32_t>(most);
  }

  Entries<T> entries() const { return {row.get(), coefficient.get(), corner.get()}; }

  int32_t found[kItemPoints];
  Tile tile;
  Scratch<int32_t> row;
  Scratch<T> coefficient;
  Scratch<uint32_t> corner;
};

}  // namespace jda
