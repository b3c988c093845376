#include <algorithm>
#include <vector>

#include "operator.h"
#include "samples.h"
#include "scratch.h"

namespace jda {
namespace {

// Items that a member of the team takes at a time.
constexpr int64_t kItems = 4;

}  // namespace

template <typename T>
void forward(const Problem<T>& problem, Team& team) {
  const Plan plan = make_plan(problem, team);
  const Kernels<T> kernel = kernels<T>(problem.channels, problem.groups);
  const bool prefetch = far_memory(problem);
  const int64_t channels = problem.channels;
  Scratch<T> parts(plan.parts * channels);
  std::vector<Worker<T>> workers;
  for (int64_t i = 0; i < team.size(); ++i) workers.emplace_back(problem, false);

  team.for_ranges(plan.items.size(), kItems, [&](int64_t member, int64_t begin, int64_t end) {
    Worker<T>& worker = workers[member];
    for (int64_t i = begin; i < end; ++i) {
      const Item& item = plan.items[i];
      const Samples<T> samples = samples_of(problem, plan, item, worker.found);
      const int64_t count = kernel.merge(samples, 0, 0, worker.tile, worker.entries());
      const int64_t element = item.anchor / problem.anchors;
      kernel.gather(problem.feature_maps + element * problem.rows * channels, channels,
                    problem.groups, worker.row.get(), worker.coefficient.get(), count, prefetch,
                    item.part < 0 ? problem.out + item.anchor * channels
                                  : parts.get() + item.part * channels);
    }
  });

  // Anchors of several items: their parts in the plan's order. Anchors of none: zero.
  team.for_ranges(problem.batch * problem.anchors, 4, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a) {
      if (plan.pieces[a] == 1) continue;
      T* out = problem.out + a * channels;
      std::fill_n(out, channels, T(0));
      const T* part = parts.get() + plan.part[a] * channels;
      for (int32_t piece = 0; piece < plan.pieces[a]; ++piece, part += channels)
        for (int64_t c = 0; c < channels; ++c) out[c] += part[c];
    }
  });
}

template void forward(const Problem<float>&, Team&);
template void forward(const Problem<double>&, Team&);

}  // namespace jda
