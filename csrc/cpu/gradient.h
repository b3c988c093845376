// How the gradient of the feature maps gets into memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "arguments.h"
#include "kernels.h"
#include "scratch.h"
#include "team.h"

namespace jda {

// Whether rows of the gradient should and can be written past the caches: it is too large for anybody
// to find it there.
template <typename F, typename W>
bool goes_past_caches(const Problem<F, W>& problem) {
  constexpr int64_t kLarge = int64_t{4} << 20;
  const int64_t row = problem.channels * static_cast<int64_t>(sizeof(F));
  return problem.batch * problem.rows * row > kLarge && row % 64 == 0 &&
         reinterpret_cast<uintptr_t>(problem.grad_feature_maps) % 64 == 0;
}

template <typename T>
void fill_zeros(T* array, int64_t count, Team& team) {
  team.for_ranges(count, 1 << 16, [&](int64_t, int64_t begin, int64_t end) {
    std::fill(array + begin, array + end, T{});
  });
}

// Calls add(sums) where several passes add to rows of the gradient of one batch element. The sums, zero
// at first, are the gradient itself or, if that has 16 bits, apart and rounded at the end.
template <typename F, typename W, typename Add>
void in_sums(const Problem<F, W>& problem, Team& team, const Add& add) {
  using T = Real<F>;
  const int64_t count = problem.rows * problem.channels;
  if constexpr (std::is_same_v<F, T>) {
    fill_zeros(problem.grad_feature_maps, count, team);
    add(problem.grad_feature_maps);
  } else {
    const Scratch<T> apart(count);
    T* sums = apart.get();
    fill_zeros(sums, count, team);
    add(sums);
    const RowKernels<F> kernel = row_kernels<F>(problem.channels, problem.groups);
    team.for_ranges(count, 1 << 16, [&](int64_t, int64_t begin, int64_t end) {
      kernel.add_parts(sums + begin, 1, end - begin, problem.grad_feature_maps + begin);
    });
  }
}

}  // namespace jda
