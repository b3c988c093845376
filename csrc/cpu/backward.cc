// The gradients.
//
// A feature row gets contributions from many samples. Instead of scattering to rows, which needs
// atomic additions, entries are sorted by row, and each row of the gradient is then written once,
// by one thread, from registers:
//
//   collect   clusters -> entries, sorted within a chunk of clusters by bucket (a range of rows)
//   rows      buckets -> gradient of the feature maps; the dots of each entry with the features,
//             which are read here anyway, replace its coefficients
//   finish    clusters -> gradients of weight and locations, from the dots of the samples' corners
//
// Entries of a row keep the plan's order, so sums do not depend on threads or chunks. Where entries
// would be no fewer than corners, or no smaller than rows, sweep.cc does the same without them.
#include <algorithm>
#include <vector>

#include "gradient.h"
#include "operator.h"
#include "passes.h"
#include "samples.h"
#include "scratch.h"
#include "sweep.h"
#include "table.h"

namespace jda {
namespace {

// Bytes of the entries of a chunk of clusters, at most, unless one cluster alone has more.
constexpr int64_t kChunkBytes = 384 << 10;

// Zeroes the gradients of invisible samples, or of all if there is nothing to see.
template <typename F, typename W>
void zero_unseen(const Problem<F, W>& problem, Team& team) {
  const int64_t samples = problem.points * problem.cameras;
  const int64_t weights = problem.scales * problem.groups;
  const auto unseen = [&](int64_t i) {
    return problem.channels == 0 || problem.scales == 0 ||
           !visible(problem.locations[2 * i], problem.locations[2 * i + 1]);
  };
  const auto zero = [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!unseen(i)) continue;
      if (problem.grad_locations) std::fill_n(problem.grad_locations + 2 * i, 2, Real<F>(0));
      if (problem.grad_weight) std::fill_n(problem.grad_weight + i * weights, weights, W{});
    }
  };
  team.for_ranges(problem.batch * problem.anchors * samples, 4096, zero);
}

template <typename F, typename W>
void finish(const Problem<F, W>& problem, const SampleKernels<W>& kernel, const Cluster& cluster,
            const Samples<W>& samples, const uint32_t* corners, const Real<F>* dots) {
  kernel.finish(samples, corners, dots, at(problem.grad_locations, cluster.camera * 2),
                at(problem.grad_weight, cluster.camera * problem.scales * problem.groups));
}

// Gradients of weight and locations alone: nothing is shared between clusters.
template <typename F, typename W>
void backward_samples(const Problem<F, W>& problem, Team& team) {
  using T = Real<F>;
  const Plan plan = make_plan(problem, problem.locations, team);
  const RowKernels<F> of_rows = row_kernels<F>(problem.channels, problem.groups);
  const SampleKernels<W> of_samples = sample_kernels<W>(problem.groups);
  const int64_t ahead = entries_ahead<F>(problem.rows, problem.channels);
  const int64_t channels = problem.channels, groups = problem.groups;
  std::vector<Worker<W>> workers;
  for (int64_t i = 0; i < team.size(); ++i) workers.emplace_back(problem, Worker<W>::kCorners);

  team.for_each(plan.clusters.size(), [&](int64_t member, int64_t i) {
    Worker<W>& worker = workers[member];
    const Cluster& cluster = plan.clusters[i];
    const Samples<W> samples = samples_of(problem, plan, cluster, worker.found);
    of_samples.merge(samples, first_row(problem, plan, cluster), 0, worker.tile, worker.entries());
    T* dots = worker.coefficient.get();  // the coefficients are not needed any more
    std::fill_n(dots, groups, T(0));
    of_rows.dot(worker.visited(samples, ahead), problem.feature_maps, channels, groups,
                problem.cotangent, dots + groups);
    finish(problem, of_samples, cluster, samples, worker.corner.get(), dots);
  });
}

// Clusters that one thread collects: at least one, and as many as kChunkBytes allow.
struct Chunk {
  int64_t begin, end;
  int64_t entry;   // its first entry: no real one, its dots are those of corners outside the map
  int64_t sample;  // its first sample, counting key points times scales
};

// Entries of all clusters, chunk by chunk, within a chunk by bucket.
template <typename T>
struct Sorted {
  std::vector<Chunk> chunks;
  int64_t widest = 0;  // entries of the largest chunk
  int shift = 6;       // a bucket is 2^shift rows
  int64_t buckets;
  std::vector<int32_t> begin;  // [chunks, buckets + 1]: first entry of a bucket, from the chunk's
  Scratch<int32_t> row;        // [entries]: over the batch, batch element * rows + row
  Scratch<int32_t> anchor;     // [entries]
  Scratch<T> coefficient;      // [entries, groups]
  Scratch<uint32_t> corner;    // [samples, 4]: entries, counted from the chunk's
};

// What the entry of a corner takes, if it shares it with none.
template <typename T>
int64_t corner_bytes(const Sizes& sizes) {
  return 3 * sizeof(int32_t) + sizes.groups * sizeof(T);
}

template <typename T>
Sorted<T> lay_out(const Sizes& problem, const Plan& plan, bool corners) {
  constexpr int64_t kBuckets = 2048;  // at most: each chunk counts all of them
  Sorted<T> sorted;
  const int64_t rows = problem.batch * problem.rows;
  while (rows >> sorted.shift >= kBuckets) ++sorted.shift;
  sorted.buckets = (rows >> sorted.shift) + 1;

  int64_t entries = 0, samples = 0;
  const int64_t clusters = plan.clusters.size();
  for (int64_t i = 0; i < clusters;) {
    Chunk chunk{i, i, entries, samples};
    do {
      samples += plan.clusters[i++].count * problem.scales;
    } while (i < clusters && (samples - chunk.sample + plan.clusters[i].count * problem.scales) *
                                     4 * corner_bytes<T>(problem) <=
                                 kChunkBytes);
    chunk.end = i;
    entries += 1 + (samples - chunk.sample) * 4;
    sorted.widest = std::max(sorted.widest, entries - chunk.entry);
    sorted.chunks.push_back(chunk);
  }
  sorted.begin.resize(sorted.chunks.size() * (sorted.buckets + 1));
  sorted.row = Scratch<int32_t>(entries);
  sorted.anchor = Scratch<int32_t>(entries);
  sorted.coefficient = Scratch<T>(entries * problem.groups);
  if (corners) sorted.corner = Scratch<uint32_t>(samples * 4);
  return sorted;
}

// A chunk's entries before they are sorted.
template <typename T>
struct Collector {
  Collector(int64_t entries, int64_t groups, int64_t buckets)
      : row(entries),
        anchor(entries),
        place(entries),
        coefficient(entries * groups),
        next(buckets) {}
  int32_t found[kClusterPoints], end[kClusterPoints];
  Tile tile;
  Scratch<int32_t> row, anchor, place;
  Scratch<T> coefficient;
  std::vector<int32_t> next;
};

template <typename F, typename W, typename T = Real<F>>
void collect(const Problem<F, W>& problem, const Plan& plan, const SampleKernels<W>& kernel,
             const Chunk& chunk, int32_t* begin, Collector<T>& local, Sorted<T>& sorted) {
  const int64_t groups = problem.groups;
  uint32_t* corners = sorted.corner.get() ? sorted.corner.get() + chunk.sample * 4 : nullptr;
  int64_t count = 0, samples = 0;
  for (int64_t i = chunk.begin; i < chunk.end; ++i) {
    const Cluster& cluster = plan.clusters[i];
    const Samples<W> of_cluster = samples_of(problem, plan, cluster, local.found);
    const int64_t more =
        kernel.merge(of_cluster, first_row(problem, plan, cluster), count, local.tile,
                     {local.row.get() + count, local.coefficient.get() + count * groups, nullptr,
                      corners ? corners + samples * 4 : nullptr, local.end});
    for (int64_t v = 0, begin = 0; v < cluster.visits; begin = local.end[v++])
      std::fill(local.anchor.get() + count + begin, local.anchor.get() + count + local.end[v],
                of_cluster.visits[v].anchor);
    count += more;
    samples += cluster.count * problem.scales;
  }

  // A stable counting sort by bucket. Place 0 is no entry.
  std::fill_n(begin, sorted.buckets + 1, 0);
  for (int64_t e = 0; e < count; ++e) ++begin[(local.row[e] >> sorted.shift) + 1];
  begin[0] = 1;
  for (int64_t b = 0; b < sorted.buckets; ++b) begin[b + 1] += begin[b];
  std::copy_n(begin, sorted.buckets, local.next.begin());
  std::fill_n(sorted.coefficient.get() + chunk.entry * groups, groups, T(0));
  for (int64_t e = 0; e < count; ++e) {
    const int32_t place = local.next[local.row[e] >> sorted.shift]++;
    local.place[e] = place;
    sorted.row[chunk.entry + place] = local.row[e];
    sorted.anchor[chunk.entry + place] = local.anchor[e];
    const T* from = local.coefficient.get() + e * groups;
    T* to = sorted.coefficient.get() + (chunk.entry + place) * groups;
    for (int64_t g = 0; g < groups; ++g) to[g] = from[g];
  }
  if (corners)
    for (int64_t i = 0; i < samples * 4; ++i)
      if (corners[i] > 0) corners[i] = local.place[corners[i] - 1];
}

// One bucket's entries by row.
template <typename T>
struct ByRow {
  ByRow(int64_t rows, int64_t entries, int64_t groups)
      : end(rows), order(entries), spare(entries * groups) {}
  std::vector<int64_t> end;  // where, in `order`, a row's entries end
  Scratch<int64_t> order;    // entries
  Scratch<T> spare;
};

template <typename T>
void order_by_row(const Sorted<T>& sorted, int64_t bucket, int64_t groups, ByRow<T>& by_row) {
  const int64_t first_row = bucket << sorted.shift;
  auto each = [&](auto use) {
    for (size_t i = 0; i < sorted.chunks.size(); ++i) {
      const int32_t* begin = sorted.begin.data() + i * (sorted.buckets + 1) + bucket;
      for (int64_t e = begin[0]; e < begin[1]; ++e) {
        const int64_t entry = sorted.chunks[i].entry + e;
        use(entry, by_row.end[sorted.row[entry] - first_row]);
      }
    }
  };
  std::fill(by_row.end.begin(), by_row.end.end(), 0);
  each([&](int64_t entry, int64_t& count) {
    ++count;
    __builtin_prefetch(sorted.coefficient.get() + entry * groups);
  });
  int64_t total = 0;
  for (int64_t& count : by_row.end) count = (total += count) - count;  // now where each row begins
  each([&](int64_t entry, int64_t& next) { by_row.order[next++] = entry; });
}

template <typename F>
void prefetch(const F* row, int64_t channels) {
  for (int64_t c = 0; c < channels; c += 64 / static_cast<int64_t>(sizeof(F)))
    __builtin_prefetch(row + c, 0, 2);
}

// What becomes of the rows of the gradient: they are written, or added to sums.
template <typename F>
struct Rows {
  F* gradient;
  Real<F>* sums;     // like gradient; null if this pass is the only one
  bool past_caches;  // write past the caches
  bool dots;         // find the dots, too
  int64_t ahead;     // cotangents of so many entries later are fetched
};

template <typename F, typename W, typename T = Real<F>>
void write_rows(const Problem<F, W>& problem, const RowKernels<F>& kernel, const Sorted<T>& sorted,
                int64_t bucket, const Rows<F>& to, ByRow<T>& by_row) {
  const int64_t channels = problem.channels;
  const int64_t first = bucket << sorted.shift;
  const int64_t rows = std::min(int64_t{1} << sorted.shift, problem.batch * problem.rows - first);
  order_by_row(sorted, bucket, problem.groups, by_row);
  if (by_row.end.back() == 0) {
    if (!to.sums) kernel.zero(to.gradient + first * channels, rows * channels, to.past_caches);
    return;
  }
  int64_t begin = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t end = by_row.end[r], at_row = (first + r) * channels;
    const F* feature = to.dots ? problem.feature_maps + at_row : nullptr;
    if (to.dots && r + 2 < rows && by_row.end[r + 2] > by_row.end[r + 1])
      prefetch(feature + 2 * channels, channels);
    if (end > begin)
      kernel.row_gradient(
          {by_row.order.get() + begin, end - begin, by_row.end.back() - end, to.ahead,
           sorted.anchor.get(), sorted.coefficient.get(), problem.cotangent, feature,
           to.gradient + at_row, at(to.sums, at_row), to.past_caches, by_row.spare.get()},
          channels, problem.groups);
    else if (!to.sums)
      kernel.zero(to.gradient + at_row, channels, to.past_caches);
    begin = end;
  }
}

// All gradients. That of the feature maps is written, or added to sums if there are any.
template <typename F, typename W>
void backward_features(const Problem<F, W>& problem, Real<F>* sums, int64_t most, bool past_caches,
                       Team& team) {
  if (table_pays(problem, team) && backward_by_table(problem, sums, most, past_caches, team))
    return;
  using T = Real<F>;
  const bool dots = problem.grad_locations || problem.grad_weight;
  const Plan plan = make_plan(problem, problem.locations, team);
  const RowKernels<F> of_rows = row_kernels<F>(problem.channels, problem.groups);
  const SampleKernels<W> of_samples = sample_kernels<W>(problem.groups);
  Sorted<T> sorted = lay_out<T>(problem, plan, dots);
  const int64_t channels = problem.channels;
  const int64_t chunks = sorted.chunks.size(), buckets = sorted.buckets;

  std::vector<Collector<T>> collectors;
  for (int64_t i = 0; i < team.size(); ++i)
    collectors.emplace_back(sorted.widest, problem.groups, buckets);
  team.for_each(chunks, [&](int64_t member, int64_t i) {
    collect(problem, plan, of_samples, sorted.chunks[i], sorted.begin.data() + i * (buckets + 1),
            collectors[member], sorted);
  });

  std::vector<int64_t> totals(buckets, 0);
  for (int64_t i = 0; i < chunks; ++i)
    for (int64_t b = 0; b < buckets; ++b) {
      const int32_t* begin = sorted.begin.data() + i * (buckets + 1) + b;
      totals[b] += begin[1] - begin[0];
    }
  const int64_t fullest = *std::max_element(totals.begin(), totals.end());
  const Rows<F> to{problem.grad_feature_maps, sums, past_caches && !sums, dots,
                   entries_ahead<F>(problem.batch * problem.anchors, channels)};
  std::vector<ByRow<T>> by_row;
  for (int64_t i = 0; i < team.size(); ++i)
    by_row.emplace_back(int64_t{1} << sorted.shift, fullest, problem.groups);
  team.for_each(buckets, [&](int64_t member, int64_t b) {
    write_rows(problem, of_rows, sorted, b, to, by_row[member]);
#if defined(__x86_64__)
    if (to.past_caches) __builtin_ia32_sfence();
#endif
  });

  if (dots)
    team.for_each(chunks, [&](int64_t, int64_t i) {
      const Chunk& chunk = sorted.chunks[i];
      int32_t found[kClusterPoints];
      const uint32_t* corners = sorted.corner.get() + chunk.sample * 4;
      for (int64_t j = chunk.begin; j < chunk.end; ++j) {
        const Cluster& cluster = plan.clusters[j];
        finish(problem, of_samples, cluster, samples_of(problem, plan, cluster, found), corners,
               sorted.coefficient.get() + chunk.entry * problem.groups);
        corners += cluster.count * problem.scales * 4;
      }
    });
}

// Bytes that a pass needs for its plan and the entries of its samples.
template <typename F, typename W>
int64_t bytes_of(const Problem<F, W>& problem) {
  return plan_bytes(problem) + count_visible(problem, problem.locations) * problem.scales * 4 *
                                   corner_bytes<Real<F>>(problem);
}

}  // namespace

template <typename F, typename W>
void backward(const Problem<F, W>& problem, Team& team, int64_t pass_bytes) {
  const bool of_samples = problem.grad_locations || problem.grad_weight;
  const int64_t most = pass_bytes + share_of_arguments(problem);
  if (of_samples) zero_unseen(problem, team);
  if (!problem.grad_feature_maps) {
    if (of_samples && problem.channels > 0)
      in_passes(problem, most, {&Sizes::batch, &Sizes::anchors}, plan_bytes,
                [&](const auto& pass, bool) { backward_samples(pass, team); });
    return;
  }
  if (sweep_pays(problem)) return backward_by_sweep(problem, most, team);
  const bool past_caches = goes_past_caches(problem);
  in_passes(problem, most, {&Sizes::batch}, bytes_of<F, W>, [&](const auto& pass, bool fits) {
    if (fits) return backward_features(pass, nullptr, most, past_caches, team);
    in_sums(pass, team, [&](Real<F>* sums) {
      in_passes(pass, most, {&Sizes::anchors, &Sizes::points}, bytes_of<F, W>,
                [&](const auto& part, bool) { backward_features(part, sums, most, false, team); });
    });
  });
}

#define JDA_INSTANTIATE(F, W) template void backward(const Problem<F, W>&, Team&, int64_t);
JDA_FOR_PAIRS(JDA_INSTANTIATE)

}  // namespace jda
