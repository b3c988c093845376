#include <vector>

#include "operator.h"
#include "passes.h"
#include "samples.h"
#include "scratch.h"
#include "table.h"

namespace jda {
namespace {

// Clusters, or anchors, that a member of the team takes at a time.
constexpr int64_t kAtATime = 4;

// Writes, to problem.out, the sum over the entries of an anchor's visits of
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
  const int64_t ahead = entries_ahead<F>(problem.rows, problem.channels);
  const int64_t channels = problem.channels;
  Scratch<T> parts(plan.parts * channels);
  std::vector<Worker<W>> workers;
  for (int64_t i = 0; i < team.size(); ++i)
    workers.emplace_back(problem,
                         features_of_tangents ? Worker<W>::kTangents : Worker<W>::kCoefficients);

  team.for_ranges(plan.clusters.size(), kAtATime, [&](int64_t member, int64_t begin, int64_t end) {
    Worker<W>& worker = workers[member];
    for (int64_t i = begin; i < end; ++i) {
      const Cluster& cluster = plan.clusters[i];
      const Samples<W> samples = samples_of(problem, plan, cluster, worker.found);
      merge(samples, first_row(problem, plan, cluster), 0, worker.tile, worker.entries());
      kernel.gather(
          {{{features, worker.coefficient.get()}, {features_of_tangents, worker.tangent.get()}},
           worker.visited(samples, ahead),
           problem.out,
           parts.get()},
          channels, problem.groups);
    }
  });

  // Anchors of several visits: their parts in the plan's order. Anchors of none: zero.
  team.for_ranges(problem.batch * problem.anchors, kAtATime,
                  [&](int64_t, int64_t begin, int64_t end) {
                    for (int64_t a = begin; a < end; ++a)
                      if (plan.pieces[a] != 1)
                        kernel.add_parts(parts.get() + plan.part[a] * channels, plan.pieces[a],
                                         channels, problem.out + a * channels);
                  });
}

// Whether samples are better summed one by one, in the order of the arguments, than by a plan. Entries
// must not pay, an anchor must not be more work than one thread should do, nor its weights more than a
// cache holds, and rows that many anchors read must be short or in a cache all the time. In floating point:
// without an array, sizes may be absurd.
template <typename F, typename W>
bool direct_pays(const Problem<F, W>& problem) {
  constexpr double kShortRow = 256, kCached = 32 << 20;  // bytes
  constexpr double kWeights = 1 << 17;
  const bool narrow = has_narrow_groups(problem) && problem.points <= kClusterPoints;
  const double samples = 1.0 * problem.points * problem.cameras * problem.scales;
  const double row = 1.0 * problem.channels * sizeof(F);
  return (has_few_points(problem) || narrow) && samples * (problem.groups + 16) <= kWeights &&
         (row <= kShortRow || problem.rows * row <= kCached);
}

// What a member of the team needs to sum samples one by one.
template <typename F>
struct Lister {
  using T = Real<F>;

  explicit Lister(const Sizes& sizes) : zeros(sizes.channels) {
    constexpr int64_t kWeights = 1 << 14;  // with an anchor's, so many are in a cache near the core
    space.samples_count = std::min(kDirectSamples, kWeights / sizes.groups) +
                          sizes.points * sizes.cameras * sizes.scales;
    space.weights_stride = sizes.groups + 64 / static_cast<int64_t>(sizeof(T));
    samples = Scratch<Sampled<F>>(space.samples_count);
    weights = Scratch<T>(space.samples_count * space.weights_stride);
    std::fill_n(zeros.get(), sizes.channels, F{});
    space.samples = samples.get();
    space.weights = weights.get();
    space.zeros = zeros.get();
  }

  Scratch<F> zeros;
  Scratch<Sampled<F>> samples;
  Scratch<T> weights;
  DirectSpace<F> space;
};

template <typename F, typename W>
void sum_directly(const Problem<F, W>& problem, Team& team) {
  constexpr int64_t kTogether = 2048;  // samples, about, that a member of the team takes at a time
  const int64_t all = problem.batch * problem.anchors;
  if (all == 0) return;  // no array says then that sizes are not absurd
  const RowKernels<F> kernel = row_kernels<F>(problem.channels, problem.groups);
  Anchors<F> anchors{problem,
                     0,
                     0,
                     problem.y_axis,
                     (entries_ahead<F>(problem.rows, problem.channels) + 3) / 4,
                     problem.maps,
                     problem.feature_maps,
                     problem.locations,
                     weights_of(problem),
                     problem.out};
  std::vector<Lister<F>> listers;
  for (int64_t i = 0; i < team.size(); ++i) listers.emplace_back(problem);
  const int64_t samples = std::max<int64_t>(1, problem.points * problem.cameras * problem.scales);
  team.for_ranges(all, std::max<int64_t>(1, kTogether / samples),
                  [&](int64_t member, int64_t begin, int64_t end) {
                    Anchors<F> some = anchors;
                    some.begin = begin;
                    some.end = end;
                    kernel.direct(some, listers[member].space);
                  });
}

// Bytes that a pass needs for its plan and its partial results.
template <typename F, typename W>
int64_t bytes_of(const Problem<F, W>& problem) {
  const int64_t row = problem.channels * static_cast<int64_t>(sizeof(Real<F>));
  return plan_bytes(problem) + most_parts(problem) * row;
}

// Runs a pass over some anchors at a time.
template <typename F, typename W, typename Run>
void over_anchors(const Problem<F, W>& problem, int64_t pass_bytes, const Run& run) {
  in_passes(problem, pass_bytes + share_of_arguments(problem), {&Sizes::batch, &Sizes::anchors},
            bytes_of<F, W>, run);
}

}  // namespace

template <typename F, typename W>
void forward(const Problem<F, W>& problem, Team& team, int64_t pass_bytes) {
  const auto sum = [&](const Problem<F, W>& whole) {
    if (direct_pays(whole)) return sum_directly(whole, team);
    over_anchors(whole, pass_bytes, [&](const auto& pass, bool) {
      aggregate<F, W>(pass, pass.feature_maps, nullptr, team);
    });
  };
  if (!table_pays(problem, team)) return sum(problem);
  in_passes(problem, pass_bytes + share_of_arguments(problem), {&Sizes::batch, &Sizes::anchors},
            table_bytes<F, W>, [&](const auto& pass, bool fits) {
              if (!fits || !forward_by_table(pass, team)) sum(pass);
            });
}

template <typename F, typename W>
void tangent(const Problem<F, W>& problem, Team& team, int64_t pass_bytes) {
  over_anchors(problem, pass_bytes, [&](const auto& pass, bool) {
    const bool coefficients_move = pass.tangent_locations || pass.tangent_weight;
    aggregate(pass, pass.tangent_feature_maps, coefficients_move ? pass.feature_maps : nullptr,
              team);
  });
}

#define JDA_INSTANTIATE(F, W)                                  \
  template void forward(const Problem<F, W>&, Team&, int64_t); \
  template void tangent(const Problem<F, W>&, Team&, int64_t);
JDA_FOR_PAIRS(JDA_INSTANTIATE)

}  // namespace jda
