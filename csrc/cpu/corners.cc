#include "corners.h"

#include <algorithm>

#include "between.h"
#include "plan.h"
#include "scratch.h"

namespace jda {
namespace {

constexpr int64_t kStripes = 64;            // ranges of rows whose gradients have one owner each
constexpr int64_t kChunkCorners = 1 << 13;  // those of a few key points, done by one thread
constexpr int64_t kPassCorners = 1 << 20;   // what so many leave behind is kept, and then added up
constexpr int32_t kNone = -1;

// A sample and those of its corners that lie in its map.
template <typename T>
struct Sample {
  const Map& map;
  Between<T> h, w;

  Sample(const Map& map, const T* location, int y_axis)
      : map(map),
        h(pixels(location[y_axis], map.height)),
        w(pixels(location[1 - y_axis], map.width)) {}

  int32_t row_in_map(int corner) const { return h.low + corner / 2; }
  int32_t column(int corner) const { return w.low + corner % 2; }
  // kNone: outside. In a map of over 2^23 rows a coordinate can round up to the map's size.
  int32_t row(int corner) const {
    const int32_t y = row_in_map(corner), x = column(corner);
    if (y < 0 || y >= map.height || x < 0 || x >= map.width) return kNone;
    return static_cast<int32_t>(map.start + int64_t{y} * map.width + x);
  }
  T share(int corner) const { return h.share(corner / 2) * w.share(corner % 2); }
};

// Probabilities of a row in the two bins around a depth; zero where there is no bin.
template <typename T>
struct Bins {
  T low, high;

  Bins(const T* of_row, int32_t bin, int64_t bins)
      : low(bin < 0 ? 0 : of_row[bin]), high(bin + 1 < bins ? of_row[bin + 1] : 0) {}
  T at(const Between<T>& depth) const { return low * depth.share(0) + high * depth.share(1); }
};

// Calls use(camera, pair) for each camera in which a key point counts.
template <typename T, typename Use>
void each_seen(const CornersCall<T>& call, int64_t point, const Use& use) {
  for (int64_t k = 0; k < call.cameras; ++k) {
    const int64_t pair = point * call.cameras + k;
    const T* location = call.locations + pair * 2;
    const T depth = call.depth[pair];
    if (visible(location[0], location[1]) && depth > -1 && depth < static_cast<T>(call.channels))
      use(k, pair);
  }
}

// Where a corner's key point stands, counted in key points in one scale.
template <typename T>
int64_t place(const CornersCall<T>& call, int64_t point, int corner, int64_t camera,
              int64_t scale) {
  return ((point * kCorners + corner) * call.cameras + camera) * call.scales + scale;
}

template <typename T>
void write_corner(const CornersCall<T>& call, const Sample<T>& sample, int corner, T coefficient,
                  const T* weight, int64_t place) {
  T* centre = call.centres + place * 2;
  const T height = static_cast<T>(sample.map.height), width = static_cast<T>(sample.map.width);
  centre[call.y_axis] = (static_cast<T>(sample.row_in_map(corner)) + T(0.5)) / height;
  centre[1 - call.y_axis] = (static_cast<T>(sample.column(corner)) + T(0.5)) / width;
  T* weights = call.weights + place * call.groups;
  for (int64_t g = 0; g < call.groups; ++g) weights[g] = coefficient * weight[g];
}

template <typename T>
void write_corners(const CornersCall<T>& call, int64_t point) {
  const int64_t samples = call.cameras * call.scales, first = point * kCorners * samples;
  std::fill_n(call.centres + first * 2, kCorners * samples * 2, T(-1));  // where no map is
  std::fill_n(call.weights + first * call.groups, kCorners * samples * call.groups, T(0));
  const int64_t element = point / call.key_points();
  const T* depth_prob = call.depth_prob + element * call.rows * call.channels;
  each_seen(call, point, [&](int64_t k, int64_t pair) {
    const Between<T> depth(call.depth[pair]);
    for (int64_t s = 0; s < call.scales; ++s) {
      const Sample<T> sample(call.maps[k * call.scales + s], call.locations + pair * 2,
                             call.y_axis);
      const T* weight = call.weight + (pair * call.scales + s) * call.groups;
      for (int j = 0; j < kCorners; ++j) {
        const int32_t row = sample.row(j);
        if (row == kNone) continue;
        const Bins<T> bins(depth_prob + row * call.channels, depth.low, call.channels);
        write_corner(call, sample, j, sample.share(j) * bins.at(depth), weight,
                     place(call, point, j, k, s));
      }
    }
  });
}

// What a corner adds to the gradient of a row's probabilities: to the bin, and to the one above.
template <typename T>
struct Addition {
  int32_t row, bin;
  T low, high;
  int32_t next;  // of the same chunk and stripe; kNone: there are no more
};

// What the key points of one chunk add, as a list for each stripe.
template <typename T>
struct Additions {
  Addition<T>* all;
  int32_t* heads;  // [kStripes]
  int64_t stripe_rows;
  int32_t count = 0;

  void add(Addition<T> addition) {
    int32_t& head = heads[addition.row / stripe_rows];
    addition.next = head;
    all[head = count++] = addition;
  }
};

// The gradients of the key points' own arguments, and, if `additions`, what they add to others'.
template <typename T>
class Differentiation {
 public:
  Differentiation(const CornersCall<T>& call, int64_t point, Additions<T>* additions)
      : call_(call), point_(point), additions_(additions) {
    const int64_t element = point / call.key_points();
    depth_prob_ = call.depth_prob + element * call.rows * call.channels;
  }

  void run() {
    const int64_t pair = point_ * call_.cameras, weights = call_.scales * call_.groups;
    if (call_.grad_locations) std::fill_n(call_.grad_locations + pair * 2, call_.cameras * 2, T(0));
    if (call_.grad_depth) std::fill_n(call_.grad_depth + pair, call_.cameras, T(0));
    if (call_.grad_weight)
      std::fill_n(call_.grad_weight + pair * weights, call_.cameras * weights, T(0));
    each_seen(call_, point_, [&](int64_t k, int64_t pair) {
      for (int64_t s = 0; s < call_.scales; ++s) differentiate(k, pair, s);
    });
  }

 private:
  void differentiate(int64_t k, int64_t pair, int64_t s) {
    const Sample<T> sample(call_.maps[k * call_.scales + s], call_.locations + pair * 2,
                           call_.y_axis);
    const Between<T> depth(call_.depth[pair]);
    T to_h = 0, to_w = 0, to_depth = 0;
    for (int j = 0; j < kCorners; ++j) {
      const int32_t row = sample.row(j);
      if (row == kNone) continue;
      const Bins<T> bins(depth_prob_ + row * call_.channels, depth.low, call_.channels);
      const T share = sample.share(j), probability = bins.at(depth);
      const T dot = add_weight_gradient(j, k, pair, s, share * probability);
      const T to_share = dot * probability, to_probability = dot * share;
      to_h += (j / 2 ? to_share : -to_share) * sample.w.share(j % 2);
      to_w += (j % 2 ? to_share : -to_share) * sample.h.share(j / 2);
      to_depth += to_probability * (bins.high - bins.low);
      if (additions_)
        additions_->add({row, depth.low, to_probability * depth.share(0),
                         to_probability * depth.share(1), kNone});
    }
    if (call_.grad_locations) {
      T* gradient = call_.grad_locations + pair * 2;
      gradient[call_.y_axis] += to_h * static_cast<T>(sample.map.height);
      gradient[1 - call_.y_axis] += to_w * static_cast<T>(sample.map.width);
    }
    if (call_.grad_depth) call_.grad_depth[pair] += to_depth;
  }

  // Returns the cotangent's product with the weights: the gradient of the corner's coefficient.
  T add_weight_gradient(int corner, int64_t k, int64_t pair, int64_t s, T coefficient) {
    const T* cotangent = call_.cotangent + place(call_, point_, corner, k, s) * call_.groups;
    const int64_t first = (pair * call_.scales + s) * call_.groups;
    if (call_.grad_weight)
      for (int64_t g = 0; g < call_.groups; ++g)
        call_.grad_weight[first + g] += coefficient * cotangent[g];
    T dot = 0;
    for (int64_t g = 0; g < call_.groups; ++g) dot += cotangent[g] * call_.weight[first + g];
    return dot;
  }

  const CornersCall<T>& call_;
  const int64_t point_;
  Additions<T>* const additions_;
  const T* depth_prob_;
};

// Key points of one batch element, chunk by chunk, and then the rows that they add to, stripe by
// stripe: each sum is taken in one order, whoever takes it.
template <typename T>
class Gradients {
 public:
  Gradients(const CornersCall<T>& call, Team& team)
      : call_(call),
        team_(team),
        of_point_(std::max<int64_t>(1, kCorners * call.cameras * call.scales)),
        span_(std::max<int64_t>(1, kChunkCorners / of_point_)),
        chunks_(std::max<int64_t>(1, kPassCorners / (span_ * of_point_))),
        stripe_rows_(std::max<int64_t>(1, (call.rows + kStripes - 1) / kStripes)) {
    chunks_ = std::min(chunks_, (call.key_points() + span_ - 1) / span_);
    if (!call.grad_depth_prob) return;
    additions_ = Scratch<Addition<T>>(chunks_ * span_ * of_point_);
    heads_ = Scratch<int32_t>(chunks_ * kStripes);
  }

  void run() {
    for (int64_t b = 0; b < call_.batch; ++b) {
      const int64_t first = b * call_.key_points(), last = first + call_.key_points();
      int64_t begin = first;
      do {
        const int64_t end = std::min(last, begin + chunks_ * span_);
        differentiate(begin, end);
        if (call_.grad_depth_prob) add_up(b, (end - begin + span_ - 1) / span_, begin == first);
        begin = end;
      } while (begin < last);
    }
  }

 private:
  void differentiate(int64_t begin, int64_t end) {
    team_.for_ranges(end - begin, span_, [&](int64_t, int64_t from, int64_t to) {
      Additions<T> additions{};
      if (call_.grad_depth_prob) {
        additions = {additions_.get() + from * of_point_, heads_.get() + from / span_ * kStripes,
                     stripe_rows_};
        std::fill_n(additions.heads, kStripes, kNone);
      }
      for (int64_t p = begin + from; p < begin + to; ++p)
        Differentiation<T>(call_, p, additions.all ? &additions : nullptr).run();
    });
  }

  void add_up(int64_t element, int64_t chunks, bool is_first) {
    const int64_t bins = call_.channels;
    T* gradient = call_.grad_depth_prob + element * call_.rows * bins;
    team_.for_ranges(call_.rows, stripe_rows_, [&](int64_t, int64_t from, int64_t to) {
      if (is_first) std::fill_n(gradient + from * bins, (to - from) * bins, T(0));
      for (int64_t c = 0; c < chunks; ++c) {
        const Addition<T>* all = additions_.get() + c * span_ * of_point_;
        for (int32_t i = heads_[c * kStripes + from / stripe_rows_]; i != kNone; i = all[i].next) {
          T* of_row = gradient + all[i].row * bins;
          if (all[i].bin >= 0) of_row[all[i].bin] += all[i].low;
          if (all[i].bin + 1 < bins) of_row[all[i].bin + 1] += all[i].high;
        }
      }
    });
  }

  const CornersCall<T>& call_;
  Team& team_;
  const int64_t of_point_;  // corners of a key point
  const int64_t span_;      // key points of a chunk
  int64_t chunks_;          // of a pass
  const int64_t stripe_rows_;
  Scratch<Addition<T>> additions_;  // [chunks_, span_, of_point_]
  Scratch<int32_t> heads_;          // [chunks_, kStripes]
};

}  // namespace

template <typename T>
void corners_forward(const CornersCall<T>& call, Team& team) {
  const int64_t span = 16;  // key points
  team.for_ranges(call.batch * call.key_points(), span, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) write_corners(call, p);
  });
}

template <typename T>
void corners_backward(const CornersCall<T>& call, Team& team) {
  Gradients<T>(call, team).run();
}

template void corners_forward(const CornersCall<float>&, Team&);
template void corners_forward(const CornersCall<double>&, Team&);
template void corners_backward(const CornersCall<float>&, Team&);
template void corners_backward(const CornersCall<double>&, Team&);

}  // namespace jda
