// XLA's door to the corners of aggregation with depth: decode, check, call.
#include <cstdint>
#include <vector>

#include "call.h"
#include "corners.h"
#include "handler.h"

namespace jda {
namespace {

// depth_prob stands where the operator has its feature maps, and depth is behind its operands.
template <typename T>
CornersCall<T> make_call(const Operands& operands, ffi::AnyBuffer depth, int64_t y_axis) {
  const auto type = operands.feature_maps.element_type();
  CornersCall<T> call{};
  static_cast<Sizes&>(call) = read_shapes(operands);
  require(operands.sample_locations.element_type() == type &&
              operands.weight.element_type() == type && depth.element_type() == type,
          "sample_locations, weight and depth must have the dtype of depth_prob");
  require(2 * depth.element_count() == operands.sample_locations.element_count(),
          "depth must have one number for each of sample_locations");
  require_at_most(INT32_MAX, "depth_prob", "num_feat", call.rows);
  require_at_most(INT32_MAX, "depth_prob", "bins", call.channels);
  require_at_most(INT32_MAX / kCorners, "weight", "cam * scale", call.cameras * call.scales);
  call.y_axis = read_y_axis(y_axis);
  call.depth_prob = data<T>(operands.feature_maps);
  call.locations = data<T>(operands.sample_locations);
  call.weight = data<T>(operands.weight);
  call.depth = data<T>(depth);
  return call;
}

// The weights of corners, or their cotangent.
template <typename T>
T* data_of_corners(ffi::AnyBuffer buffer, const Operands& operands) {
  require(buffer.element_type() == operands.weight.element_type() &&
              buffer.element_count() == kCorners * operands.weight.element_count(),
          "the weights of corners must have four times the elements of weight");
  return data<T>(buffer);
}

struct Forward {
  static constexpr size_t kOthers = 1, kResults = 2;
  template <typename T>
  static void run(CornersCall<T>& call, const Operands& operands, const ffi::RemainingArgs&,
                  const ffi::RemainingRets& results, Team& team) {
    const ffi::AnyBuffer centres = fresh(array(results, 0)), weights = fresh(array(results, 1));
    call.weights = data_of_corners<T>(weights, operands);
    require(centres.element_type() == weights.element_type() &&
                static_cast<int64_t>(centres.element_count()) ==
                    kCorners * call.scales *
                        static_cast<int64_t>(operands.sample_locations.element_count()),
            "the centres of corners must be two numbers for each corner of a sample");
    call.centres = data<T>(centres);
    corners_forward(call, team);
  }
};

struct Backward {
  static constexpr size_t kOthers = 2, kResults = 4;
  template <typename T>
  static void run(CornersCall<T>& call, const Operands& operands, const ffi::RemainingArgs& args,
                  const ffi::RemainingRets& results, Team& team) {
    const auto gradient = [&](size_t i, ffi::AnyBuffer argument) {
      return data_if_any<T>(fresh(array(results, i)), argument);
    };
    call.cotangent = data_of_corners<T>(array(args, kOperands + 1), operands);
    call.grad_depth_prob = gradient(0, operands.feature_maps);
    call.grad_locations = gradient(1, operands.sample_locations);
    call.grad_weight = gradient(2, operands.weight);
    call.grad_depth = gradient(3, array(args, kOperands));
    corners_backward(call, team);
  }
};

template <typename Target, typename T>
void run(ffi::ThreadPool& pool, const Operands& operands, const ffi::RemainingArgs& args,
         const ffi::RemainingRets& results, int64_t y_axis) {
  CornersCall<T> call = make_call<T>(operands, array(args, kOperands), y_axis);
  const std::vector<Map> maps = read_maps(call, operands.spatial_shape.typed_data<int32_t>(),
                                          operands.scale_start_index.typed_data<int32_t>());
  call.maps = maps.data();
  Team team = make_team(pool, is_small(call));
  Target::run(call, operands, args, results, team);
}

template <typename Target>
ffi::Error handle(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets results,
                  int64_t y_axis) {
  return reported([&] {
    const Operands operands = read_operands(args, Target::kOthers);
    require_count(results, Target::kResults);
    switch (operands.feature_maps.element_type()) {
      case ffi::F32:
        run<Target, float>(pool, operands, args, results, y_axis);
        break;
      case ffi::F64:
        run<Target, double>(pool, operands, args, results, y_axis);
        break;
      default:
        require(false, "depth_prob must be float32 or float64");
    }
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace jda

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_corners, jda::handle<jda::Forward>, JDA_BIND_SAMPLING);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_corners_backward, jda::handle<jda::Backward>,
                              JDA_BIND_SAMPLING);

#pragma GCC visibility pop
