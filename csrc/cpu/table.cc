#include "table.h"

#include <algorithm>
#include <vector>

#include "operator.h"
#include "passes.h"
#include "samples.h"
#include "scratch.h"

namespace jda {
namespace {

// When a table pays. Samples that are spread evenly have as many entries as rows where there are about 1.5
// corners a row; below, and where many of an anchor's rows are touched by no sample, merging does less
// (measured on AVX-512: from 0.8 times its time at two corners a row, to a third at four and 100 anchors).
// An anchor's table is filled by one thread: a few anchors would leave many threads idle.
constexpr double kCornersPerRow = 2, kRowsTouched = 0.5;
constexpr int64_t kFewestAnchors = 8;

// Rows whose sums are one partial result, and anchors that are multiplied with them at a time.
constexpr int64_t kBlockRows = 128, kBlockAnchors = 20;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool is_finite(float v) { return v - v == 0; }
bool is_finite(double v) { return v - v == 0; }
bool is_finite(BFloat16 v) { return (v.bits & 0x7f80) != 0x7f80; }
bool is_finite(Float16 v) { return (v.bits & 0x7c00) != 0x7c00; }

template <typename F>
bool are_finite(const F* values, int64_t count) {
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) finite &= is_finite(values[i]);
  return finite;
}

// Elements of one anchor's table.
int64_t table_size(const Sizes& sizes) { return (1 + sizes.rows) * sizes.groups; }

int64_t row_blocks(const Sizes& sizes) { return ceil_div(sizes.rows, kBlockRows); }

// About how many key points of an anchor are visible, and how many rows lie under them.
struct Reach {
  double visible = 0, rows = 0;
};

// By a hundred or two of its key points in each camera, and by the parts of the image, of 8 x 8, where they
// are.
template <typename F, typename W>
Reach reach_of(const Problem<F, W>& problem, int64_t anchor) {
  using T = Real<F>;
  constexpr int64_t kLook = 128;
  const int64_t step = std::max<int64_t>(1, problem.points / kLook);
  Reach reach;
  for (int64_t k = 0; k < problem.cameras; ++k) {
    uint64_t parts = 0;
    int64_t looks = 0, visible_looks = 0;
    const T* location = problem.locations + (anchor * problem.points * problem.cameras + k) * 2;
    for (int64_t p = 0; p < problem.points; p += step, location += step * problem.cameras * 2) {
      const bool seen = visible(location[0], location[1]);
      const T y = seen ? location[0] : T(0), x = seen ? location[1] : T(0);
      parts |= uint64_t{seen} << (static_cast<int>(y * 8) * 8 + static_cast<int>(x * 8));
      ++looks;
      visible_looks += seen;
    }
    if (looks > 0) reach.visible += 1.0 * problem.points * visible_looks / looks;
    double rows = 0;
    for (int64_t s = 0; s < problem.scales; ++s) {
      const Map& map = problem.maps[k * problem.scales + s];
      rows += 1.0 * map.height * map.width;
    }
    reach.rows += rows * __builtin_popcountll(parts) / 64;
  }
  return reach;
}

// Calls use(samples, camera) for the visible samples of an anchor, up to kClusterPoints at a time.
template <typename F, typename W, typename Use>
void over_samples(const Problem<F, W>& problem, int64_t anchor, const Use& use) {
  int32_t found[kClusterPoints];
  for (int64_t k = 0; k < problem.cameras; ++k) {
    int64_t count = 0;
    for (int64_t p = 0; p < problem.points; ++p) {
      const int64_t point = anchor * problem.points + p;
      const auto* location = problem.locations + (point * problem.cameras + k) * 2;
      found[count] = static_cast<int32_t>(point);
      count += visible(location[0], location[1]);
      if (count == 0 || (count < kClusterPoints && p + 1 < problem.points)) continue;
      use(samples_in(problem, k, found, count), k);
      count = 0;
    }
  }
}

// The tables of all anchors.
template <typename F, typename W>
Scratch<Real<F>> make_table(const Problem<F, W>& problem, const SampleKernels<W>& kernel,
                            Team& team) {
  const int64_t anchors = problem.batch * problem.anchors, size = table_size(problem);
  Scratch<Real<F>> table(anchors * size);
  team.for_each(anchors, [&](int64_t, int64_t a) {
    Real<F>* of_anchor = table.get() + a * size;
    std::fill_n(of_anchor, size, Real<F>(0));
    over_samples(problem, a, [&](const Samples<W>& samples, int64_t) {
      kernel.tabulate(samples, of_anchor, nullptr);
    });
  });
  return table;
}

// What a member of the team needs for one row of the gradient: the row's coefficients of all anchors,
// side by side.
template <typename T>
struct RowOfTable {
  RowOfTable(int64_t anchors, int64_t groups)
      : coefficient(anchors * groups), spare(anchors * groups), entry(anchors), anchor(anchors) {
    for (int64_t a = 0; a < anchors; ++a) entry[a] = anchor[a] = static_cast<int32_t>(a);
  }
  Scratch<T> coefficient, spare;
  Scratch<int64_t> entry;
  Scratch<int32_t> anchor;
};

// Writes one row of the gradient, or adds it to `sum`. The row's dots replace its coefficients.
template <typename F, typename W, typename T = Real<F>>
void write_row(const Problem<F, W>& problem, const RowKernels<F>& kernel, int64_t at_row, T* table,
               T* sum, bool past_caches, const RowOfTable<T>& row) {
  const int64_t element = at_row / problem.rows, groups = problem.groups;
  const int64_t first = element * problem.anchors, size = table_size(problem);
  T* place = table + first * size + (1 + at_row % problem.rows) * groups;
  for (int64_t a = 0; a < problem.anchors; ++a)
    for (int64_t g = 0; g < groups; ++g) row.coefficient[a * groups + g] = place[a * size + g];
  const bool dots = problem.grad_locations || problem.grad_weight;
  const int64_t c = at_row * problem.channels;
  kernel.row_gradient(
      {row.entry.get(), problem.anchors, 0, 0, row.anchor.get(), row.coefficient.get(),
       problem.cotangent + first * problem.channels, dots ? problem.feature_maps + c : nullptr,
       problem.grad_feature_maps + c, sum, past_caches, row.spare.get()},
      problem.channels, groups);
  if (dots)
    for (int64_t a = 0; a < problem.anchors; ++a)
      for (int64_t g = 0; g < groups; ++g) place[a * size + g] = row.coefficient[a * groups + g];
}

// Gradients of locations and weights from a table of dots.
template <typename F, typename W>
void finish_anchor(const Problem<F, W>& problem, const SampleKernels<W>& kernel, int64_t anchor,
                   Real<F>* dots, uint32_t* corners) {
  std::fill_n(dots, problem.groups, Real<F>(0));  // of corners outside
  over_samples(problem, anchor, [&](const Samples<W>& samples, int64_t k) {
    kernel.tabulate(samples, nullptr, corners);
    kernel.finish(samples, corners, dots, at(problem.grad_locations, k * 2),
                  at(problem.grad_weight, k * problem.scales * problem.groups));
  });
}

}  // namespace

template <typename F, typename W>
bool table_pays(const Problem<F, W>& problem, Team& team) {
  const int64_t anchors = problem.batch * problem.anchors;
  const double corners = 4.0 * problem.scales, rows = 1.0 * problem.rows;
  if (problem.channels == 0 || anchors < kFewestAnchors ||
      corners * problem.points * problem.cameras < kCornersPerRow * rows)
    return false;  // for most problems, without a look at their locations
  std::vector<Reach> reach(anchors);
  team.for_each(anchors, [&](int64_t, int64_t a) { reach[a] = reach_of(problem, a); });
  Reach all;
  for (const Reach& of_anchor : reach) {
    all.visible += of_anchor.visible;
    all.rows += of_anchor.rows;
  }
  return corners * all.visible >= kCornersPerRow * rows * anchors &&
         all.rows >= kRowsTouched * rows * anchors;
}

template <typename F, typename W>
int64_t table_bytes(const Problem<F, W>& problem) {
  const int64_t of_anchor = table_size(problem) + row_blocks(problem) * problem.channels;
  return problem.batch * problem.anchors * of_anchor * static_cast<int64_t>(sizeof(Real<F>));
}

template <typename F, typename W>
bool forward_by_table(const Problem<F, W>& problem, Team& team) {
  using T = Real<F>;
  const SampleKernels<W> of_samples = sample_kernels<W>(problem.groups);
  const RowKernels<F> of_rows = row_kernels<F>(problem.channels, problem.groups);
  const Scratch<T> table = make_table(problem, of_samples, team);
  const int64_t channels = problem.channels, size = table_size(problem);
  const int64_t blocks = row_blocks(problem), anchors = problem.batch * problem.anchors;
  Scratch<T> parts(anchors * blocks * channels);  // [anchors, blocks, channels]

  const int64_t tiles = ceil_div(problem.anchors, kBlockAnchors);
  team.for_each(problem.batch * tiles * blocks, [&](int64_t, int64_t i) {
    const int64_t block = i % blocks, tile = i / blocks % tiles, element = i / blocks / tiles;
    const int64_t row = block * kBlockRows, anchor = tile * kBlockAnchors;
    const int64_t first = element * problem.anchors + anchor;
    of_rows.multiply({problem.feature_maps + (element * problem.rows + row) * channels,
                      std::min(kBlockRows, problem.rows - row),
                      table.get() + first * size + (1 + row) * problem.groups,
                      std::min(kBlockAnchors, problem.anchors - anchor), size,
                      parts.get() + (first * blocks + block) * channels, blocks * channels},
                     channels, problem.groups);
  });
  team.for_ranges(anchors, 4, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a)
      of_rows.add_parts(parts.get() + a * blocks * channels, blocks, channels,
                        problem.out + a * channels);
  });
  return are_finite(parts.get(), anchors * blocks * channels);
}

template <typename F, typename W>
bool backward_by_table(const Problem<F, W>& problem, Real<F>* sums, int64_t most, bool past_caches,
                       Team& team) {
  using T = Real<F>;
  const int64_t anchors = problem.batch * problem.anchors, size = table_size(problem);
  if (table_bytes(problem) > most || !are_finite(problem.cotangent, anchors * problem.channels))
    return false;
  const SampleKernels<W> of_samples = sample_kernels<W>(problem.groups);
  const RowKernels<F> of_rows = row_kernels<F>(problem.channels, problem.groups);
  const Scratch<T> table = make_table(problem, of_samples, team);

  std::vector<RowOfTable<T>> row_of;
  for (int64_t i = 0; i < team.size(); ++i) row_of.emplace_back(problem.anchors, problem.groups);
  team.for_ranges(problem.batch * problem.rows, kBlockRows,
                  [&](int64_t member, int64_t begin, int64_t end) {
                    for (int64_t r = begin; r < end; ++r)
                      write_row(problem, of_rows, r, table.get(), at(sums, r * problem.channels),
                                past_caches && !sums, row_of[member]);
#if defined(__x86_64__)
                    if (past_caches) __builtin_ia32_sfence();
#endif
                  });
  if (!problem.grad_locations && !problem.grad_weight) return true;

  const int64_t corners = kClusterPoints * problem.scales * 4;
  Scratch<uint32_t> corner(team.size() * corners);
  team.for_each(anchors, [&](int64_t member, int64_t a) {
    finish_anchor(problem, of_samples, a, table.get() + a * size, corner.get() + member * corners);
  });
  return true;
}

#define JDA_INSTANTIATE(F, W)                                  \
  template bool table_pays(const Problem<F, W>&, Team&);       \
  template int64_t table_bytes(const Problem<F, W>&);          \
  template bool forward_by_table(const Problem<F, W>&, Team&); \
  template bool backward_by_table(const Problem<F, W>&, Real<F>*, int64_t, bool, Team&);
JDA_FOR_PAIRS(JDA_INSTANTIATE)

}  // namespace jda
