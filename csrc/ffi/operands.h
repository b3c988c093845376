// The arrays of every target, as XLA hands them over: named, decoded and checked once for both
// libraries. What is wrong is thrown as std::invalid_argument.
#ifndef JDA_FFI_OPERANDS_H_
#define JDA_FFI_OPERANDS_H_

#include <algorithm>
#include <cstdint>
#include <string>

#include "check.h"
#include "problem.h"
#include "xla/ffi/api/ffi.h"

namespace jda {

namespace ffi = xla::ffi;

// Those of the operands that have tangents and gradients, or these: one array for each.
struct Floating {
  ffi::AnyBuffer feature_maps, sample_locations, weight;
};

struct Operands {
  ffi::AnyBuffer feature_maps;       // [batch, rows, channels]
  ffi::AnyBuffer spatial_shape;      // [cameras, scales, 2]
  ffi::AnyBuffer scale_start_index;  // [cameras, scales]
  ffi::AnyBuffer sample_locations;   // [batch, anchors, points, cameras, 2]
  ffi::AnyBuffer weight;             // [batch, anchors, points, cameras, scales, groups]

  Floating floating() const { return {feature_maps, sample_locations, weight}; }
};
constexpr size_t kOperands = 5;  // the first arguments of every target
constexpr size_t kFloating = 3;

inline ffi::AnyBuffer array(const ffi::RemainingArgs& args, size_t i) {
  const auto found = args.get<ffi::AnyBuffer>(i);
  require(found.has_value(), "a target was called with too few arguments");
  return *found;
}

inline ffi::AnyBuffer array(const ffi::RemainingRets& results, size_t i) {
  auto found = results.get<ffi::AnyBuffer>(i);
  require(found.has_value(), "a target was called with too few results");
  return **found;
}

// XLA does not count what a target takes and gives as remaining arguments and results.
inline void require_count(const ffi::RemainingArgs& args, size_t count) {
  require(args.size() == count, "a target was called with too few or many arguments");
}

inline void require_count(const ffi::RemainingRets& results, size_t count) {
  require(results.size() == count, "a target was called with too few or many results");
}

// Of a call that has `others` arguments behind them.
inline Operands read_operands(const ffi::RemainingArgs& args, size_t others) {
  require_count(args, kOperands + others);
  return {array(args, 0), array(args, 1), array(args, 2), array(args, 3), array(args, 4)};
}

// Those that start at the `first` of a call's arguments or results.
template <typename Arrays>
Floating read_floating(const Arrays& arrays, size_t first) {
  return {array(arrays, first), array(arrays, first + 1), array(arrays, first + 2)};
}

// The sizes of a call whose operands fit each other, but for the groups. Their floating dtypes are the
// library's to check.
inline Sizes read_shapes(const Operands& operands) {
  const auto maps = operands.feature_maps.dimensions(), weight = operands.weight.dimensions();
  const auto locations = operands.sample_locations.dimensions();
  const auto &shapes = operands.spatial_shape, &starts = operands.scale_start_index;
  require(maps.size() == 3 && weight.size() == 6 && locations.size() == 5,
          "feature_maps, sample_locations and weight must have 3, 5 and 6 dimensions");
  require(std::equal(locations.begin(), locations.begin() + 4, weight.begin()) &&
              maps[0] == weight[0] && locations[4] == 2,
          "feature_maps, sample_locations and weight must agree in their sizes");
  const Sizes sizes{maps[0],   maps[1],   maps[2],   weight[1],
                    weight[2], weight[3], weight[4], weight[5]};
  const auto pyramids = static_cast<size_t>(sizes.cameras * sizes.scales);
  require(shapes.element_type() == ffi::S32 && starts.element_type() == ffi::S32,
          "spatial_shape and scale_start_index must be int32");
  require(shapes.element_count() == 2 * pyramids && starts.element_count() == pyramids,
          "spatial_shape and scale_start_index must describe the cameras and scales of weight");
  return sizes;
}

inline Sizes read_sizes(const Operands& operands) {
  const Sizes sizes = read_shapes(operands);
  require_none(wrong_groups(sizes));
  return sizes;
}

template <typename T>
T* data(ffi::AnyBuffer buffer) {
  return static_cast<T*>(buffer.untyped_data());
}

// A tangent or a gradient. It is as large as its argument, or has no elements: then it is zero, or not
// wanted, and the pointer is null.
template <typename T>
T* data_if_any(ffi::AnyBuffer buffer, ffi::AnyBuffer argument) {
  require(buffer.element_type() == argument.element_type() &&
              (buffer.element_count() == 0 || buffer.element_count() == argument.element_count()),
          "a tangent or gradient must have its argument's dtype, and its size or no elements");
  return buffer.element_count() == 0 ? nullptr : data<T>(buffer);
}

// The result, its tangent or its cotangent.
template <typename T>
T* data_like_result(ffi::AnyBuffer buffer, const Operands& operands, const Sizes& sizes) {
  require(buffer.element_type() == operands.feature_maps.element_type() &&
              static_cast<int64_t>(buffer.element_count()) ==
                  sizes.batch * sizes.anchors * sizes.channels,
          "the result, its tangent and its cotangent must be [bs, anchor, c]");
  return data<T>(buffer);
}

inline ffi::Error failure(ffi::ErrorCode code, const std::string& what) {
  return {code, "jda: " + what};
}

// What `work` returns; exceptions become errors.
template <typename Work>
ffi::Error reported(const Work& work) {
  ffi::Error found;
  const Failure failed = failure_of([&] { found = work(); });
  return failed.code ? failure(static_cast<ffi::ErrorCode>(failed.code), failed.what) : found;
}

}  // namespace jda

// Of every binding; array() names what it binds.
#define JDA_BIND_ARRAYS .RemainingArgs().RemainingRets()

#endif  // JDA_FFI_OPERANDS_H_
