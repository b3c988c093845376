#include <vector>

#include "operator.h"
#include "samples.h"
#include "scratch.h"

namespace jda {
namespace {

// Items that a member of the team takes at a time.
constexpr int64_t kItems = 4;

// Writes, to problem.out, the sum over the entries of an anchor's clusters of
//     coefficient * features[row] + tangent of the coefficient * features_of_tangents[row]
// without the term whose features are null.
template <typename F, typename W>
void aggregate(const Problem<F, W>& problem, const F* features, const F* features_of_tangents,
               Team& team) {
  using T = Real<F>;
  const Plan plan = make_plan(problem, problem.locations, team);
  const RowKernels<F> kernel = row_kernels<F>(problem.channels, problem.groups);
  const SampleKernels<W> of_samples = sample_kernels<W>(problem.groups);
  const auto merge = features_of_tangents ? of_samples.merge_tangent : of_samples.merge;
  const bool prefetch = far_memory(problem);
  const int64_t channels = problem.channels;
  Scratch<T> parts(plan.parts * channels);
  std::vector<Worker<T>> workers;
  for (int64_t i = 0; i < team.size(); ++i)
    workers.emplace_back(problem,
                         features_of_tangents ? Worker<T>::kTangents : Worker<T>::kCoefficients);

  team.for_ranges(plan.clusters.size(), kItems, [&](int64_t member, int64_t begin, int64_t end) {
    Worker<T>& worker = workers[member];
    for (int64_t i = begin; i < end; ++i) {
      const Cluster& cluster = plan.clusters[i];
      const Samples<W> samples = samples_of(problem, plan, cluster, worker.found);
      const int64_t count = merge(samples, 0, 0, worker.tile, worker.entries());
      const int64_t element = cluster.anchor / problem.anchors * problem.rows * channels;
      kernel.gather({{{at(features, element), worker.coefficient.get()},
                      {at(features_of_tangents, element), worker.tangent.get()}},
                     worker.row.get(),
                     count,
                     prefetch,
                     problem.out + cluster.anchor * channels,
                     cluster.part < 0 ? nullptr : parts.get() + cluster.part * channels},
                    channels, problem.groups);
    }
  });

  // Anchors of several clusters: their parts in the plan's order. Anchors of none: zero.
  team.for_ranges(problem.batch * problem.anchors, 4, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a)
      if (plan.pieces[a] != 1)
        kernel.add_parts(parts.get() + plan.part[a] * channels, plan.pieces[a], channels,
                         problem.out + a * channels);
  });
}

}  // namespace

template <typename F, typename W>
void forward(const Problem<F, W>& problem, Team& team) {
  aggregate<F, W>(problem, problem.feature_maps, nullptr, team);
}

template <typename F, typename W>
void tangent(const Problem<F, W>& problem, Team& team) {
  const bool coefficients_move = problem.tangent_locations || problem.tangent_weight;
  aggregate(problem, problem.tangent_feature_maps,
            coefficients_move ? problem.feature_maps : nullptr, team);
}

#define JDA_INSTANTIATE(F, W)                         \
  template void forward(const Problem<F, W>&, Team&); \
  template void tangent(const Problem<F, W>&, Team&);
JDA_FOR_PAIRS(JDA_INSTANTIATE)

}  // namespace jda
