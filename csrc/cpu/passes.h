// Passes: a problem that needs much memory is done in parts, one after the other.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "arguments.h"

namespace jda {

// A sixteenth of what a problem's arguments and their gradients take: a pass may need so much more.
template <typename F, typename W>
int64_t share_of_arguments(const Problem<F, W>& problem) {
  const int64_t maps = problem.batch * problem.rows * problem.channels;
  const int64_t samples = problem.batch * problem.anchors * problem.points * problem.cameras;
  const int64_t weights = samples * problem.scales * problem.groups;
  const int64_t bytes = maps * sizeof(F) + samples * 2 * sizeof(Real<F>) + weights * sizeof(W);
  return (problem.cotangent ? 2 : 1) * bytes / 16;
}

template <typename T>
T* at(T* array, int64_t offset) {
  return array ? array + offset : nullptr;
}

// A problem's arrays from some batch element, anchor and key point on, each counted over the batch.
template <typename F, typename W>
Problem<F, W> from(Problem<F, W> problem, int64_t element, int64_t anchor, int64_t point) {
  const int64_t maps = element * problem.rows * problem.channels;
  const int64_t results = anchor * problem.channels;
  const int64_t locations = point * problem.cameras * 2;
  const int64_t weights = point * problem.cameras * problem.scales * problem.groups;
  problem.feature_maps = at(problem.feature_maps, maps);
  problem.tangent_feature_maps = at(problem.tangent_feature_maps, maps);
  problem.grad_feature_maps = at(problem.grad_feature_maps, maps);
  problem.out = at(problem.out, results);
  problem.cotangent = at(problem.cotangent, results);
  problem.locations = at(problem.locations, locations);
  problem.tangent_locations = at(problem.tangent_locations, locations);
  problem.grad_locations = at(problem.grad_locations, locations);
  problem.weight = at(problem.weight, weights);
  problem.tangent_weight = at(problem.tangent_weight, weights);
  problem.grad_weight = at(problem.grad_weight, weights);
  return problem;
}

using Axis = int64_t Sizes::*;

// Both halves of a problem along an axis: its batch elements, the anchors of its only element, or the
// key points of its only anchor.
template <typename F, typename W>
std::array<Problem<F, W>, 2> halves(const Problem<F, W>& problem, Axis axis) {
  const int64_t half = problem.*axis / 2;
  const int64_t elements = axis == &Sizes::batch ? half : 0;
  const int64_t anchors = axis == &Sizes::anchors ? half : elements * problem.anchors;
  const int64_t points = axis == &Sizes::points ? half : anchors * problem.points;
  Problem<F, W> first = problem, second = from(problem, elements, anchors, points);
  first.*axis = half;
  second.*axis -= half;
  return {first, second};
}

// Whether what is counted over the batch fits 32 bits.
inline bool is_countable(const Sizes& sizes) {
  const auto below = [](double product) { return product < INT32_MAX; };
  return below(1.0 * sizes.batch * sizes.rows) &&
         below(1.0 * sizes.batch * sizes.anchors * sizes.points);
}

// Calls run(part, fits) for parts of a problem, in order. A part that needs more than `most` bytes, by
// bytes(part), is cut along the first of the axes that has something to cut; if none has, it does
// not fit.
template <typename P, typename Bytes, typename Run>
void in_passes(const P& problem, int64_t most, std::initializer_list<Axis> axes, const Bytes& bytes,
               const Run& run) {
  const bool fits = is_countable(problem) && bytes(problem) <= most;
  if (!fits)
    for (const Axis axis : axes)
      if (problem.*axis > 1) {
        for (const P& half : halves(problem, axis)) in_passes(half, most, axes, bytes, run);
        return;
      }
  run(problem, fits);
}

}  // namespace jda
