// Where in a map samples lie.
#pragma once

#include "between.h"
#include "formats.h"
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

// A sample lies between rows h, h+1 and columns w, w+1 of a map.
template <typename T>
struct Cell {
  int32_t h, w;
  T down, right;  // distance from row h and column w
};

template <typename T>
JDA_INLINE Cell<T> cell_at(T y, T x, const Map& map) {
  const Between<T> h = pixels(y, map.height), w = pixels(x, map.width);
  return {h.low, w.low, h.rest, w.rest};
}

// The samples of a cluster at one scale.
template <typename T>
struct Cells {
  int32_t h[kClusterPoints], w[kClusterPoints];
  T down[kClusterPoints], right[kClusterPoints];

  JDA_INLINE Cell<T> operator[](int64_t i) const { return {h[i], w[i], down[i], right[i]}; }
};

// The locations of a cluster, in plain arrays and padded to whole vectors with copies of the first.
template <typename T>
struct Coordinates {
  static constexpr int64_t kPad = 16;
  T y[kClusterPoints], x[kClusterPoints];
  int64_t padded;

  template <typename F>
  explicit Coordinates(const Samples<F>& samples) {
    padded = (samples.count + kPad - 1) / kPad * kPad;
    for (int64_t i = 0; i < padded; ++i) {
      const int64_t p = samples.points[i < samples.count ? i : 0];
      const T* location = samples.locations + p * samples.location_stride;
      y[i] = location[samples.y_axis];
      x[i] = location[1 - samples.y_axis];
    }
  }

  JDA_INLINE Cells<T> cells(const Map& map) const {
    Cells<T> cells;
    for (int64_t i = 0; i < padded; ++i) locate(y[i], map.height, cells.h[i], cells.down[i]);
    for (int64_t i = 0; i < padded; ++i) locate(x[i], map.width, cells.w[i], cells.right[i]);
    return cells;
  }

  JDA_INLINE Cell<T> cell(int64_t i, const Map& map) const { return cell_at(y[i], x[i], map); }

 private:
  static JDA_INLINE void locate(T location, int32_t size, int32_t& cell, T& distance) {
    const Between<T> between = pixels(location, size);
    cell = between.low;
    distance = between.rest;
  }
};

struct Range {
  int32_t low, high;
};
JDA_INLINE Range range(const int32_t* v, int64_t count) {
  Range r{v[0], v[0]};
  for (int64_t i = 1; i < count; ++i) {
    r.low = v[i] < r.low ? v[i] : r.low;
    r.high = v[i] > r.high ? v[i] : r.high;
  }
  return r;
}

// In maps of over 2^23 rows a float32 coordinate can round up to the map's size: all sides are
// tested.
JDA_INLINE bool within(int32_t v, int32_t size) {
  return static_cast<uint32_t>(v) < static_cast<uint32_t>(size);
}

}  // namespace jda::JDA_ISA
