// XLA's doors to the launcher. The device handlers get arrays on the card and the stream to work on;
// the host handlers get arrays of the CPU and bring them to the card and back.

#include <cstdint>

#include "ffi/operands.h"
#include "launcher.h"

namespace jda_ascend {
namespace {

namespace ffi = xla::ffi;
using jda::Operands;

struct Options {
  int64_t y_axis, deterministic;
};

jda_ascend_problem ReadProblem(const Operands& operands, const Options& options) {
  jda::require(operands.sample_locations.element_type() == ffi::F32,
               "sample_locations must be float32 on Ascend");
  return {jda::read_sizes(operands), jda::read_y_axis(options.y_axis),
          static_cast<int64_t>(operands.feature_maps.element_type()),
          static_cast<int64_t>(operands.weight.element_type()), options.deterministic};
}

jda_ascend_arrays ArraysOf(const Operands& operands) {
  jda_ascend_arrays arrays = {};
  arrays.feature_maps = jda::data<void>(operands.feature_maps);
  arrays.spatial_shape = jda::data<int32_t>(operands.spatial_shape);
  arrays.scale_start_index = jda::data<int32_t>(operands.scale_start_index);
  arrays.sample_locations = jda::data<float>(operands.sample_locations);
  arrays.weight = jda::data<void>(operands.weight);
  return arrays;
}

// What the launcher's code says.
ffi::Error Told(int code) {
  if (code == JDA_ASCEND_OK) return ffi::Error::Success();
  return jda::failure(static_cast<ffi::ErrorCode>(code), jda_ascend_error());
}

// A call as the launcher takes it; the arrays beside the operands are added to it.
struct Call {
  Operands operands;
  jda_ascend_problem problem;
  jda_ascend_arrays arrays;

  Call(const ffi::RemainingArgs& args, size_t others, const Options& options)
      : operands(jda::read_operands(args, others)),
        problem(ReadProblem(operands, options)),
        arrays(ArraysOf(operands)) {}

  void* LikeResult(const ffi::AnyBuffer& buffer) const {
    return jda::data_like_result<void>(buffer, operands, problem.sizes);
  }
};

template <typename Compute>
ffi::Error Forward(const ffi::RemainingArgs& args, const ffi::RemainingRets& results,
                   const Options& options, const Compute& compute) {
  return jda::reported([&] {
    Call call(args, 0, options);
    jda::require_count(results, 1);
    call.arrays.out = call.LikeResult(jda::array(results, 0));
    return Told(compute(&call.problem, &call.arrays));
  });
}

template <typename Compute>
ffi::Error Backward(const ffi::RemainingArgs& args, const ffi::RemainingRets& results,
                    const Options& options, const Compute& compute) {
  return jda::reported([&] {
    Call call(args, 1, options);
    jda::require_count(results, jda::kFloating);
    const jda::Floating of = call.operands.floating(), grads = jda::read_floating(results, 0);
    call.arrays.cotangent = call.LikeResult(jda::array(args, jda::kOperands));
    call.arrays.grad_feature_maps = jda::data_if_any<void>(grads.feature_maps, of.feature_maps);
    call.arrays.grad_sample_locations =
        jda::data_if_any<float>(grads.sample_locations, of.sample_locations);
    call.arrays.grad_weight = jda::data_if_any<void>(grads.weight, of.weight);
    return Told(compute(&call.problem, &call.arrays));
  });
}

ffi::Error HostForward(ffi::RemainingArgs args, ffi::RemainingRets results, int64_t y_axis,
                       int64_t deterministic) {
  return Forward(args, results, {y_axis, deterministic}, jda_ascend_compute_forward);
}

ffi::Error HostBackward(ffi::RemainingArgs args, ffi::RemainingRets results, int64_t y_axis,
                        int64_t deterministic) {
  return Backward(args, results, {y_axis, deterministic}, jda_ascend_compute_backward);
}

ffi::Error DeviceForward(void* stream, ffi::RemainingArgs args, ffi::RemainingRets results,
                         int64_t y_axis, int64_t deterministic) {
  return Forward(args, results, {y_axis, deterministic},
                 [stream](const auto* problem, const auto* arrays) {
                   return jda_ascend_enqueue_forward(problem, arrays, stream);
                 });
}

ffi::Error DeviceBackward(void* stream, ffi::RemainingArgs args, ffi::RemainingRets results,
                          int64_t y_axis, int64_t deterministic) {
  return Backward(args, results, {y_axis, deterministic},
                  [stream](const auto* problem, const auto* arrays) {
                    return jda_ascend_enqueue_backward(problem, arrays, stream);
                  });
}

}  // namespace
}  // namespace jda_ascend

#define JDA_BIND_OPTIONS .Attr<int64_t>("y_axis").Attr<int64_t>("deterministic")
#define JDA_BIND_HOST xla::ffi::Ffi::Bind() JDA_BIND_ARRAYS JDA_BIND_OPTIONS
#define JDA_BIND_DEVICE \
  xla::ffi::Ffi::Bind().Ctx<xla::ffi::PlatformStream<void*>>() JDA_BIND_ARRAYS JDA_BIND_OPTIONS

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_host_forward, jda_ascend::HostForward, JDA_BIND_HOST);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_host_backward, jda_ascend::HostBackward, JDA_BIND_HOST);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_device_forward, jda_ascend::DeviceForward,
                              JDA_BIND_DEVICE);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_device_backward, jda_ascend::DeviceBackward,
                              JDA_BIND_DEVICE);

#pragma GCC visibility pop
