// The inner loops, which exist once for each instruction set.
//
// A sample of one key point at one scale touches up to four feature rows. Samples of a visit lie close
// together, so they share rows: `merge` first turns them into entries, one for each distinct row,
// with one coefficient for each channel group (the sum of bilinear coefficient times weight).
// Everything else works on entries:
//
//   forward    out[c]         = sum over entries e of coefficient[e, g(c)] * feature[row(e), c]
//   tangent    the same for the tangents of features, and for those of coefficients
//   backward   grad[row, c]  += coefficient[e, g(c)] * cotangent[c]
//              dots[e, g]     = sum over c in group g of cotangent[c] * feature[row(e), c]
//
// and the gradients of weight and location of a sample follow from the dots of its four corners. Where
// samples share so little that entries do not pay, `direct` sums them one by one, and `sweep` makes all
// gradients from them.
// Arrays of type F are widened to Real<F> when they are read; results are rounded to F once.
#pragma once

#include <cstdint>
#include <type_traits>

#include "arguments.h"

namespace jda {

// A cluster has at most this many key points.
constexpr int64_t kClusterPoints = 64;

// Visible key points of one anchor in one camera: all of them or, where they are many, a block of
// them that lies close together in the image.
struct Visit {
  int64_t listed;  // where the plan lists them; -1: not listed, they are all that are visible
  int64_t part;    // its row among the partial results; -1: it is all there is of its anchor
  int32_t anchor;  // counted over the batch: batch element * anchors + anchor
  int32_t count;   // of key points
  uint32_t place;  // of the first of them in the image, along the curve that work follows
};

// The visible samples of one cluster, visit by visit.
template <typename W>
struct Samples {
  const Visit* visits;
  int64_t visits_count;
  const int32_t* points;  // key points, counted over the batch
  int64_t count;
  const Real<W>* locations;  // of key point 0 in the cluster's camera
  const W* weight;           // likewise: [scales, groups]
  int64_t location_stride;   // from one key point to the next
  int64_t weight_stride;
  const Map* maps;  // of the cluster's camera
  int64_t scales, groups;
  int y_axis;
  const Real<W>* tangent_locations;  // like locations and weight; null where zero
  const W* tangent_weight;
};

// A work space of merge: the number of the entry of each cell under the samples.
struct Tile {
  static constexpr int64_t kCellsPerPoint = 16, kCells = kClusterPoints * kCellsPerPoint;
  int32_t number[kCells];
};

template <typename T>
struct Entries {
  int32_t* row;
  T* coefficient;     // [entries, groups], and 64 bytes that may be read
  T* tangent;         // likewise, of the coefficients; null if none is wanted
  uint32_t* corners;  // null, or [samples, scales, 4]: 1 + number of the corner's entry; 0: none
  int32_t* end;       // [visits]: one past the last entry of each
};

// The entries of the visits of a cluster.
struct Visited {
  const Visit* visits;
  const int32_t* end;  // [visits]: one past the last entry of each
  int64_t count;       // of visits
  const int32_t* row;  // of the entries
  int64_t ahead;       // rows of so many entries later are fetched into the caches; 0: none
};

// Sums over the rows of each visit's entries.
template <typename F>
struct Gathering {
  struct Term {
    const F* features;  // [rows, channels]; null: no such term
    const Real<F>* coefficient;
  };
  Term terms[2];
  Visited entries;
  F* out;          // [anchors, channels]: where a sum goes that is all there is,
  Real<F>* parts;  // [parts, channels]: or a part, not rounded
};

// Rows times the coefficients that each of some anchors has for them.
template <typename F>
struct Multiplication {
  const F* features;  // [rows, channels]
  int64_t rows;
  const Real<F>* coefficient;  // [anchors, rows, groups], and 64 bytes that may be read
  int64_t anchors;
  int64_t coefficient_stride;  // from one anchor to the next
  Real<F>* sums;               // [anchors, channels]
  int64_t sums_stride;
};

// One row of the gradient of the feature maps, and the dots of the entries that it is made of.
template <typename F>
struct RowGradient {
  const int64_t* entries;  // the row's, and further rows' behind them
  int64_t count;
  int64_t further;        // how many
  int64_t ahead;          // cotangents of so many entries later are fetched; 0: none
  const int32_t* anchor;  // [all entries]: row of the cotangent
  Real<F>* coefficient;   // [all entries, groups]: the dots replace them if they are wanted
  const F* cotangent;     // [anchors, channels]
  const F* feature;       // [channels]: the row itself; null: no dots wanted
  F* gradient;            // [channels]: written,
  Real<F>* sum;           // [channels]: or null, or the row is added to this instead
  bool past_caches;       // write it past the caches
  Real<F>* spare;         // [count, groups]
};

// All weights, as they lie in memory.
template <typename F>
struct Weights {
  const void* all;
  int64_t count;
  bool narrow;  // they are of F, not of Real<F>
};

// Those of a problem, from one of them on.
template <typename F, typename W>
Weights<F> weights_of(const Problem<F, W>& problem, int64_t first = 0) {
  const int64_t samples = problem.batch * problem.anchors * problem.points * problem.cameras;
  return {problem.weight + first, samples * problem.scales * problem.groups - first,
          std::is_same_v<W, F> && !std::is_same_v<F, Real<F>>};
}

// Anchors [begin, end), counted over the batch, whose samples are summed without a plan.
template <typename F>
struct Anchors : Sizes {
  int64_t begin, end;
  int y_axis;
  int64_t ahead;  // rows of so many samples later are fetched into the caches; 0: none
  const Map* maps;
  const F* features;
  const Real<F>* locations;
  Weights<F> weights;
  F* out;
};

// A sample whose corners are known.
template <typename F>
struct Sampled {
  const F* feature[4];
  Real<F> share[4];
  const Real<F>* weight;  // [groups], and 64 bytes that may be read
};

// A work space of direct. Up to so many anchors are listed at a time, of so many samples unless one anchor
// has more.
constexpr int64_t kDirectAnchors = 64, kDirectSamples = 128;
template <typename F>
struct DirectSpace {
  Sampled<F>* samples;
  int64_t samples_count;   // at least an anchor's
  const F* zeros;          // [channels]
  Real<F>* weights;        // [samples, weights_stride]
  int64_t weights_stride;  // groups, and 64 bytes
};

// A sample, as a sweep takes it.
template <typename T>
struct Placed {
  int32_t point;   // key point, counted over the batch
  int32_t column;  // left of it, from -1 on; the list that it is in says which line is above
  T down, right;   // distance from line and column
};

// Some lines of a map, which are its rows of pixels, and the samples around them.
template <typename F>
struct Band {
  using T = Real<F>;
  Map map;
  int32_t top, bottom;  // lines
  // Samples are sorted in chunks. That of number i has those below line l of the map, l = -1 first, in
  // samples[first[i] + begin[i * stride + l + 1]] to before the next line's.
  const Placed<T>* samples;
  const int64_t* first;
  const int32_t* begin;
  int64_t chunks, stride;

  int64_t channels, groups, points;
  const F* features;                       // of the map's first row
  const F* cotangent;                      // [anchors, channels]
  Weights<F> weights;                      // from key point 0 in this map on
  int64_t weight_stride, location_stride;  // from one key point to the next
  bool fetch;                              // feature rows are fetched into the caches
  int y_axis;

  F* gradient;        // of the map's first row: written,
  T* sums;            // or null, or the rows are added to this instead
  bool past_caches;   // write them past the caches
  T* grad_locations;  // of key point 0; null: not wanted
  bool first_scale;   // written, not added to
  void* grad_weight;  // of key point 0 in this map; null: not wanted
};

// A work space of sweep. Row 0 of `sums` is that of corners which do not count.
template <typename F>
struct SweepSpace {
  using T = Real<F>;
  int64_t stride;          // channels, and a few more
  T* sums;                 // [1 + 2 lines, stride]: zero before and after, but for row 0
  unsigned char* touched;  // [1 + 2 lines]: likewise
  Placed<T>* samples;      // as many as a line has at most
  int32_t* next;           // [width + 2]
  const F* zeros;          // [channels]
  T *weights, *dots;       // [groups], and 64 bytes
  void* blocks;            // kBlockBytes for each channel, and kMoreBlockBytes
};
constexpr int64_t kBlockBytes = 32, kMoreBlockBytes = 2048;

// What reads weights.
template <typename W>
struct SampleKernels {
  using T = Real<W>;
  // Writes the entries of `samples` and returns how many they are. `row_offset` is added to their
  // rows, and `first` to their numbers in `corners`.
  int64_t (*merge)(const Samples<W>& samples, int64_t row_offset, int64_t first, Tile& tile,
                   Entries<T> entries);
  // Likewise, with the tangents of the coefficients.
  int64_t (*merge_tangent)(const Samples<W>& samples, int64_t row_offset, int64_t first, Tile& tile,
                           Entries<T> entries);
  // Gradients of the samples from the dots of their corners; dots[0] is that of corners outside.
  // `grad_locations` and `grad_weight` are laid out as in `samples`; null where not wanted.
  void (*finish)(const Samples<W>& samples, const uint32_t* corners, const T* dots,
                 T* grad_locations, W* grad_weight);
  // Adds the samples' coefficients to those of their rows in table[1 + row, groups], and writes where in
  // it their corners are, [samples, scales, 4]. Corners outside are in place 0. Either may be null.
  void (*tabulate)(const Samples<W>& samples, T* table, uint32_t* corners);
};

// What reads and writes rows of channels.
template <typename F>
struct RowKernels {
  using T = Real<F>;
  // For each visit, the sum over terms and entries of coefficient * features[row, c].
  void (*gather)(const Gathering<F>& gathering, int64_t channels, int64_t groups);
  // out[c] = sum over `count` parts.
  void (*add_parts)(const T* parts, int64_t count, int64_t channels, F* out);
  // Writes `count` zeros; past the caches only to an aligned place.
  void (*zero)(F* to, int64_t count, bool past_caches);
  // dots[e, g] = sum over the channels of group g of cotangent[anchor, c] * features[row(e), c].
  void (*dot)(const Visited& entries, const F* features, int64_t channels, int64_t groups,
              const F* cotangent, T* dots);
  void (*row_gradient)(const RowGradient<F>& row, int64_t channels, int64_t groups);
  // sums[a, c] = sum over rows r of coefficient[a, r, g(c)] * features[r, c].
  void (*multiply)(const Multiplication<F>& of, int64_t channels, int64_t groups);
  // out[a, c] = sum over the samples and corners of anchor a of share * weight[g(c)] * feature[c].
  void (*direct)(const Anchors<F>& anchors, const DirectSpace<F>& space);
  // The gradients of a band's lines, and of the samples that begin there.
  void (*sweep)(const Band<F>& band, const SweepSpace<F>& space);
};

// The widest instruction set of this machine, or what the environment variable JDA_CPU_ISA names.
enum class Isa { kBaseline, kAvx2, kAvx512 };
Isa isa();
const char* isa_name();
bool isa_is_known();  // false if the variable names none

// The kernels for so many channels and groups.
template <typename W>
SampleKernels<W> sample_kernels(int64_t groups);
template <typename F>
RowKernels<F> row_kernels(int64_t channels, int64_t groups);

}  // namespace jda
