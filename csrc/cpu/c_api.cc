#include "c_api.h"

#include <string>
#include <utility>
#include <vector>

#include "call.h"
#include "operator.h"
#include "pool.h"
#include "scratch.h"

namespace jda {
namespace {

thread_local std::string last_error;

void check_sizes(const Sizes& s) {
  for (const int64_t size : {s.batch, s.rows, s.channels, s.anchors, s.points, s.cameras, s.scales})
    require(size >= 0, "sizes must not be negative");
  require_none(wrong_groups(s));
}

template <typename T>
const T* data(const void* array) {
  return static_cast<const T*>(array);
}

// An array that the caller has just allocated; null if it is, or has no elements.
template <typename T>
T* fresh(void* array, int64_t count) {
  if (!array || count == 0) return nullptr;
  prefer_large_pages(array, count * sizeof(T));
  return static_cast<T*>(array);
}

template <typename F, typename W>
void run_forward(Problem<F, W>& problem, const jda_cpu_arrays& arrays, Team& team) {
  problem.out = fresh<F>(arrays.out, problem.batch * problem.anchors * problem.channels);
  forward(problem, team);
}

template <typename F, typename W>
void run_backward(Problem<F, W>& problem, const jda_cpu_arrays& arrays, Team& team) {
  const int64_t pairs = problem.batch * problem.anchors * problem.points * problem.cameras;
  problem.cotangent = data<F>(arrays.cotangent);
  problem.grad_feature_maps =
      fresh<F>(arrays.grad_feature_maps, problem.batch * problem.rows * problem.channels);
  problem.grad_locations = fresh<Real<F>>(arrays.grad_sample_locations, pairs * 2);
  problem.grad_weight = fresh<W>(arrays.grad_weight, pairs * problem.scales * problem.groups);
  backward(problem, team);
}

template <typename F, typename W>
void run(Operation operation, const jda_cpu_problem& call, const jda_cpu_arrays& arrays) {
  Problem<F, W> problem = empty_problem<F, W>(call.sizes, call.y_axis);
  const std::vector<Map> maps =
      read_maps(call.sizes, arrays.spatial_shape, arrays.scale_start_index);
  problem.maps = maps.data();
  problem.feature_maps = data<F>(arrays.feature_maps);
  problem.locations = data<Real<F>>(arrays.sample_locations);
  problem.weight = data<W>(arrays.weight);
  Team team = pool_team(is_small(problem) ? 1 : call.threads);
  if (operation == Operation::kForward) {
    run_forward(problem, arrays, team);
  } else {
    run_backward(problem, arrays, team);
  }
}

int compute(Operation operation, const jda_cpu_problem& call, const jda_cpu_arrays& arrays) {
  Failure failed = failure_of([&] {
    check_sizes(call.sizes);
    with_types(call.feature_maps_dtype, call.weight_dtype, [&](auto types) {
      using Of = decltype(types);
      run<typename Of::Maps, typename Of::Weight>(operation, call, arrays);
    });
  });
  last_error = std::move(failed.what);
  return failed.code;
}

}  // namespace
}  // namespace jda

int jda_cpu_compute_forward(const jda_cpu_problem* problem, const jda_cpu_arrays* arrays) {
  return jda::compute(jda::Operation::kForward, *problem, *arrays);
}

int jda_cpu_compute_backward(const jda_cpu_problem* problem, const jda_cpu_arrays* arrays) {
  return jda::compute(jda::Operation::kBackward, *problem, *arrays);
}

const char* jda_cpu_error() { return jda::last_error.c_str(); }
