// From a call's types and values to a problem: what XLA's handlers and the C interface share.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "arguments.h"
#include "check.h"
#include "kernels.h"

namespace jda {

// Numbers of types; they are XLA's.
enum DType : int64_t { kFloat16 = 10, kFloat32 = 11, kFloat64 = 12, kBFloat16 = 16 };

template <typename F>
constexpr DType number_of() {
  return std::is_same_v<F, float>     ? kFloat32
         : std::is_same_v<F, double>  ? kFloat64
         : std::is_same_v<F, Float16> ? kFloat16
                                      : kBFloat16;
}

// The types of a call's feature maps and weights.
template <typename F, typename W>
struct Types {
  using Maps = F;
  using Weight = W;
};

// Calls use(Types<F, W>) for weights of the maps' type F, or of Real<F>.
template <typename F, typename Use>
void with_weights(int64_t weight, const Use& use) {
  if (weight == number_of<F>()) return use(Types<F, F>());
  require(sizeof(F) == 2 && weight == kFloat32,
          "weight must have the dtype of feature_maps, or be float32 where that has 16 bits");
  use(Types<F, Real<F>>());
}

// Calls use(Types<F, W>) for the types that two numbers stand for.
template <typename Use>
void with_types(int64_t feature_maps, int64_t weight, const Use& use) {
  switch (feature_maps) {
    case kFloat32:
      return with_weights<float>(weight, use);
    case kFloat64:
      return with_weights<double>(weight, use);
    case kBFloat16:
      return with_weights<BFloat16>(weight, use);
    case kFloat16:
      return with_weights<Float16>(weight, use);
    default:
      require(false, "feature_maps must be float32, float64, bfloat16 or float16");
  }
}

inline std::vector<Map> read_maps(const Sizes& sizes, const int32_t* shape, const int32_t* start) {
  require_none(wrong_maps(sizes, shape, start));
  std::vector<Map> maps(sizes.cameras * sizes.scales);
  for (size_t i = 0; i < maps.size(); ++i) maps[i] = {start[i], shape[2 * i], shape[2 * i + 1]};
  return maps;
}

// Rows, anchors, key points and the entries of a visit are counted in 32 bits.
inline void check_counts(const Sizes& sizes) {
  require_at_most(INT32_MAX, "feature_maps", "num_feat", sizes.rows);
  require_at_most(INT32_MAX, "sample_locations", "anchor", sizes.anchors);
  require_at_most(INT32_MAX, "sample_locations", "pts", sizes.points);
  require_at_most(INT32_MAX / (4 * kClusterPoints), "weight", "scale", sizes.scales);
}

// A problem of such sizes, without arrays.
template <typename F, typename W>
Problem<F, W> empty_problem(const Sizes& sizes, int64_t y_axis) {
  check_counts(sizes);
  Problem<F, W> problem{};
  static_cast<Sizes&>(problem) = sizes;
  problem.y_axis = read_y_axis(y_axis);
  return problem;
}

// Whether it is so little that the calling thread does it alone.
inline bool is_small(const Sizes& s) {
  constexpr double kWorthHelp = 2e5;  // multiply-adds, or elements that are written
  const double samples = 1.0 * s.anchors * s.points * s.cameras * s.scales;
  return s.batch * (samples + s.anchors + s.rows) * s.channels < kWorthHelp;
}

}  // namespace jda
