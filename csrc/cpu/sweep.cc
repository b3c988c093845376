// Samples are sorted, stably, twice: by line within chunks of key points, before the sweep, and then, when
// their line is swept, by column. Those of a cell thus keep the order of the arguments, and sums do not
// depend on threads, bands or chunks. A sample below the last line of a band touches the first line of the
// next band: both take it, each for its own line.
#include "sweep.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <vector>

#include "between.h"
#include "gradient.h"
#include "passes.h"
#include "plan.h"
#include "scratch.h"

namespace jda {
namespace {

constexpr int64_t kChunk = 1 << 15;         // samples, at most, unless one key point has more
constexpr int64_t kLineBytes = 1 << 19;     // two lines of sums stay near a core
constexpr int64_t kFetchedBytes = 4 << 20;  // feature rows of larger maps are not near a core

// Bands of a scale, at most, unless they would have fewer lines than that.
constexpr int64_t kBands = 128, kFewestLines = 4;

// The lists of samples: each map's in turn, one for what is above the map and one for each line.
int64_t lists(const Sizes& sizes, const Map* maps) {
  int64_t lists = 0;
  for (int64_t i = 0; i < sizes.cameras * sizes.scales; ++i) lists += maps[i].height + 1;
  return lists;
}

// Rows between and behind the maps, [begin, end) of each, and whether maps share rows.
struct Gaps {
  std::vector<std::array<int64_t, 2>> rows;
  bool overlap = false;
};

Gaps gaps_of(const Sizes& sizes, const Map* maps) {
  std::vector<Map> sorted(maps, maps + sizes.cameras * sizes.scales);
  std::sort(sorted.begin(), sorted.end(),
            [](const Map& a, const Map& b) { return a.start < b.start; });
  Gaps gaps;
  int64_t end = 0;
  for (const Map& map : sorted) {
    if (map.start > end) gaps.rows.push_back({end, map.start});
    gaps.overlap |= map.start < end;
    end = std::max(end, map.start + int64_t{map.height} * map.width);
  }
  if (sizes.rows > end) gaps.rows.push_back({end, sizes.rows});
  return gaps;
}

// Key points of one batch element, counted over the batch.
struct Chunk {
  int64_t begin, end;
};

// The visible samples, chunk by chunk, within a chunk by list.
template <typename T>
struct Sorted {
  std::vector<int64_t> list;  // [cameras, scales]: each map's first
  int64_t stride = 1;         // of `begin`: all lists, and one more
  std::vector<Chunk> chunks;
  int64_t chunks_of_element = 0;
  std::vector<int64_t> first;  // [chunks + 1]: each chunk's first sample
  std::vector<int32_t> begin;  // [chunks, stride]: where a list begins, from the chunk's
  int64_t longest = 0;         // list
  Scratch<Placed<T>> samples;
};

// Calls use(key point, camera, location) for the visible ones of a chunk.
template <typename F, typename W, typename Use>
void each_visible(const Problem<F, W>& problem, const Chunk& chunk, const Use& use) {
  const Real<F>* location = problem.locations + chunk.begin * problem.cameras * 2;
  for (int64_t p = chunk.begin; p < chunk.end; ++p)
    for (int64_t k = 0; k < problem.cameras; ++k, location += 2)
      if (visible(location[0], location[1])) use(p, k, location);
}

// What a member of the team needs to sort a chunk.
template <typename T>
struct Unsorted {
  Scratch<Placed<T>> samples;
  Scratch<int32_t> list;
  std::vector<int32_t> next;
};

template <typename F, typename W, typename T = Real<F>>
void sort_chunk(const Problem<F, W>& problem, int64_t i, Unsorted<T>& from, Sorted<T>& sorted) {
  int64_t count = 0;
  each_visible(problem, sorted.chunks[i], [&](int64_t p, int64_t k, const T* location) {
    const T y = location[problem.y_axis], x = location[1 - problem.y_axis];
    for (int64_t m = k * problem.scales; m < (k + 1) * problem.scales; ++m, ++count) {
      const Map& map = problem.maps[m];
      const Between<T> line = pixels(y, map.height);
      const Between<T> column = pixels(x, map.width);
      from.samples[count] = {static_cast<int32_t>(p), column.low, line.rest, column.rest};
      from.list[count] = static_cast<int32_t>(sorted.list[m] + line.low + 1);
    }
  });
  int32_t* begin = sorted.begin.data() + i * sorted.stride;
  for (int64_t s = 0; s < count; ++s) ++begin[from.list[s] + 1];
  for (int64_t l = 1; l < sorted.stride; ++l) begin[l] += begin[l - 1];
  std::copy_n(begin, sorted.stride, from.next.begin());
  Placed<T>* to = sorted.samples.get() + sorted.first[i];
  for (int64_t s = 0; s < count; ++s) to[from.next[from.list[s]]++] = from.samples[s];
}

template <typename F, typename W, typename T = Real<F>>
Sorted<T> sort_samples(const Problem<F, W>& problem, Team& team) {
  Sorted<T> sorted;
  for (int64_t i = 0; i < problem.cameras * problem.scales; ++i) {
    sorted.list.push_back(sorted.stride - 1);
    sorted.stride += problem.maps[i].height + 1;
  }
  const int64_t points = problem.anchors * problem.points;
  const int64_t samples_of_point = std::max<int64_t>(1, problem.cameras * problem.scales);
  const int64_t span = std::max<int64_t>(1, kChunk / samples_of_point);
  for (int64_t b = 0; b < problem.batch; ++b)
    for (int64_t p = 0; p < points; p += span)
      sorted.chunks.push_back({b * points + p, b * points + std::min(points, p + span)});
  const int64_t chunks = sorted.chunks.size();
  sorted.chunks_of_element = problem.batch ? chunks / problem.batch : 0;

  sorted.first.resize(chunks + 1, 0);
  team.for_each(chunks, [&](int64_t, int64_t i) {
    each_visible(problem, sorted.chunks[i],
                 [&](int64_t, int64_t, const T*) { sorted.first[i + 1] += problem.scales; });
  });
  for (int64_t i = 0; i < chunks; ++i) sorted.first[i + 1] += sorted.first[i];
  sorted.samples = Scratch<Placed<T>>(sorted.first[chunks]);
  sorted.begin.resize(chunks * sorted.stride);

  std::vector<Unsorted<T>> unsorted;
  const int64_t most = std::min(span, points) * samples_of_point;
  for (int64_t i = 0; i < std::min(team.size(), chunks); ++i)
    unsorted.push_back(
        {Scratch<Placed<T>>(most), Scratch<int32_t>(most), std::vector<int32_t>(sorted.stride)});
  team.for_each(
      chunks, [&](int64_t member, int64_t i) { sort_chunk(problem, i, unsorted[member], sorted); });
  for (int64_t b = 0; b < problem.batch; ++b)
    for (int64_t l = 0; l + 1 < sorted.stride; ++l) {
      int64_t count = 0;
      for (int64_t i = b * sorted.chunks_of_element; i < (b + 1) * sorted.chunks_of_element; ++i) {
        const int32_t* begin = sorted.begin.data() + i * sorted.stride + l;
        count += begin[1] - begin[0];
      }
      sorted.longest = std::max(sorted.longest, count);
    }
  return sorted;
}

// What a member of the team needs to sweep.
template <typename F>
struct Sweeper {
  using T = Real<F>;

  Sweeper(const Sizes& sizes, int64_t width, int64_t longest)
      : samples(longest),
        weights(sizes.groups),
        dots(sizes.groups),
        zeros(sizes.channels),
        blocks(sizes.channels * kBlockBytes + kMoreBlockBytes),
        touched(1 + 2 * width),
        next(width + 2) {
    const int64_t stride = (sizes.channels + 3) / 4 * 4;
    sums = Scratch<T>((1 + 2 * width) * stride);
    std::fill_n(sums.get(), (1 + 2 * width) * stride, T(0));
    std::fill_n(zeros.get(), sizes.channels, F{});
    space = {stride,      sums.get(),    touched.data(), samples.get(), next.data(),
             zeros.get(), weights.get(), dots.get(),     blocks.get()};
  }

  Scratch<Placed<T>> samples;
  Scratch<T> weights, dots, sums;
  Scratch<F> zeros;
  Scratch<unsigned char> blocks;
  std::vector<unsigned char> touched;
  std::vector<int32_t> next;
  SweepSpace<F> space;
};

// The lines [top, bottom) of a map of one batch element.
struct Piece {
  int64_t element, map;
  int32_t top, bottom;
};

std::vector<Piece> pieces_of(const Sizes& sizes, const Map* maps, int64_t scale) {
  int64_t lines = 0;
  for (int64_t k = 0; k < sizes.cameras; ++k) lines += maps[k * sizes.scales + scale].height;
  const int64_t most = std::max(kFewestLines, lines * sizes.batch / kBands);
  std::vector<Piece> pieces;
  for (int64_t b = 0; b < sizes.batch; ++b)
    for (int64_t k = 0; k < sizes.cameras; ++k) {
      const int64_t map = k * sizes.scales + scale, height = maps[map].height;
      for (int64_t top = 0; top < height; top += most)
        pieces.push_back({b, map, static_cast<int32_t>(top),
                          static_cast<int32_t>(std::min(height, top + most))});
    }
  return pieces;
}

template <typename F, typename W>
Band<F> band_of(const Problem<F, W>& problem, const Sorted<Real<F>>& sorted, const Piece& piece,
                Real<F>* sums, bool past_caches) {
  const Map& map = problem.maps[piece.map];
  const int64_t camera = piece.map / problem.scales;
  const int64_t row = (piece.element * problem.rows + map.start) * problem.channels;
  const int64_t chunk = piece.element * sorted.chunks_of_element;
  const int64_t weights = problem.cameras * problem.scales * problem.groups;
  const int64_t weight = piece.map * problem.groups;
  const int64_t row_bytes = problem.channels * static_cast<int64_t>(sizeof(F));
  Band<F> band;
  band.map = map;
  band.top = piece.top;
  band.bottom = piece.bottom;
  band.samples = sorted.samples.get();
  band.first = sorted.first.data() + chunk;
  band.begin = sorted.begin.data() + chunk * sorted.stride + sorted.list[piece.map];
  band.chunks = sorted.chunks_of_element;
  band.stride = sorted.stride;
  band.channels = problem.channels;
  band.groups = problem.groups;
  band.points = problem.points;
  band.features = problem.feature_maps + row;
  band.cotangent = problem.cotangent;
  band.weights = weights_of(problem, weight);
  band.weight_stride = weights;
  band.location_stride = problem.cameras * 2;
  band.fetch = int64_t{map.height} * map.width * row_bytes > kFetchedBytes && row_bytes >= 256;
  band.y_axis = problem.y_axis;
  band.gradient = problem.grad_feature_maps + row;
  band.sums = at(sums, row);
  band.past_caches = past_caches;
  band.grad_locations = at(problem.grad_locations, camera * 2);
  band.first_scale = piece.map % problem.scales == 0;
  band.grad_weight = at(problem.grad_weight, weight);
  return band;
}

// The gradients of a pass; rows are written, or added to sums if there are any.
template <typename F, typename W>
void sweep(const Problem<F, W>& problem, Real<F>* sums, bool past_caches, Team& team) {
  const RowKernels<F> kernel = row_kernels<F>(problem.channels, problem.groups);
  const Sorted<Real<F>> sorted = sort_samples(problem, team);
  int64_t width = 0;
  for (int64_t i = 0; i < problem.cameras * problem.scales; ++i)
    width = std::max<int64_t>(width, problem.maps[i].width);
  std::vector<Sweeper<F>> sweepers;
  // Scales one after the other: each adds to the gradient of the locations.
  for (int64_t s = 0; s < problem.scales; ++s) {
    const std::vector<Piece> pieces = pieces_of(problem, problem.maps, s);
    const int64_t count = pieces.size();
    while (static_cast<int64_t>(sweepers.size()) < std::min(team.size(), count))
      sweepers.emplace_back(problem, width, sorted.longest);
    team.for_each(count, [&](int64_t member, int64_t i) {
      kernel.sweep(band_of(problem, sorted, pieces[i], sums, past_caches), sweepers[member].space);
#if defined(__x86_64__)
      if (past_caches) __builtin_ia32_sfence();
#endif
    });
  }
}

// Bytes that a pass needs: each sample, once more while its line is sorted, and where lists begin.
template <typename F, typename W>
int64_t bytes_of(const Problem<F, W>& problem) {
  const int64_t points = problem.batch * problem.anchors * problem.points;
  const int64_t chunks = problem.batch + points * problem.cameras * problem.scales / kChunk;
  const int64_t samples = count_visible(problem, problem.locations) * problem.scales;
  return samples * 2 * static_cast<int64_t>(sizeof(Placed<Real<F>>)) +
         chunks * lists(problem, problem.maps) * static_cast<int64_t>(sizeof(int32_t));
}

}  // namespace

template <typename F, typename W>
bool sweep_pays(const Problem<F, W>& problem) {
  if (problem.channels == 0) return false;
  if (!has_few_points(problem) && !has_narrow_groups(problem)) return false;
  const int64_t row_bytes = problem.channels * static_cast<int64_t>(sizeof(Real<F>));
  for (int64_t i = 0; i < problem.cameras * problem.scales; ++i)
    if (problem.maps[i].width * row_bytes > kLineBytes) return false;
  return lists(problem, problem.maps) <= kChunk && !gaps_of(problem, problem.maps).overlap;
}

template <typename F, typename W>
void backward_by_sweep(const Problem<F, W>& problem, int64_t most, Team& team) {
  const Gaps gaps = gaps_of(problem, problem.maps);
  const bool past_caches = goes_past_caches(problem);
  in_passes(problem, most, {&Sizes::batch}, bytes_of<F, W>, [&](const auto& pass, bool fits) {
    if (!fits)
      return in_sums(pass, team, [&](Real<F>* sums) {
        in_passes(pass, most, {&Sizes::anchors, &Sizes::points}, bytes_of<F, W>,
                  [&](const auto& part, bool) { sweep(part, sums, false, team); });
      });
    for (int64_t b = 0; b < pass.batch; ++b)
      for (const auto& [begin, end] : gaps.rows)
        fill_zeros(pass.grad_feature_maps + (b * pass.rows + begin) * pass.channels,
                   (end - begin) * pass.channels, team);
    sweep<F, W>(pass, nullptr, past_caches, team);
  });
}

#define JDA_INSTANTIATE(F, W)                     \
  template bool sweep_pays(const Problem<F, W>&); \
  template void backward_by_sweep(const Problem<F, W>&, int64_t, Team&);
JDA_FOR_PAIRS(JDA_INSTANTIATE)

}  // namespace jda
