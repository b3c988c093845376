// XLA's doors to the launcher. The device handlers get arrays on the card and the stream to work on;
// the host handlers get arrays of the CPU and bring them to the card and back.

#include <cstdint>
#include <stdexcept>

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
  for (const auto& buffer : {operands.feature_maps, operands.sample_locations, operands.weight}) {
    jda::require(buffer.element_type() == ffi::F32,
                 "feature_maps, sample_locations and weight must be float32 on Ascend");
  }
  return {jda::read_sizes(operands), jda::read_y_axis(options.y_axis), options.deterministic};
}

jda_ascend_arrays ArraysOf(const Operands& operands) {
  jda_ascend_arrays arrays = {};
  arrays.feature_maps = jda::data<float>(operands.feature_maps);
  arrays.spatial_shape = jda::data<int32_t>(operands.spatial_shape);
  arrays.scale_start_index = jda::data<int32_t>(operands.scale_start_index);
  arrays.sample_locations = jda::data<float>(operands.sample_locations);
  arrays.weight = jda::data<float>(operands.weight);
  return arrays;
}

// Calls the launcher with what `add` adds to the operands' arrays.
template <typename Add, typename Call>
ffi::Error Run(const Operands& operands, const Options& options, const Add& add, const Call& call) {
  try {
    const jda_ascend_problem problem = ReadProblem(operands, options);
    jda_ascend_arrays arrays = ArraysOf(operands);
    add(problem.sizes, arrays);
    const int code = call(&problem, &arrays);
    if (code == JDA_ASCEND_OK) return ffi::Error::Success();
    return jda::failure(static_cast<ffi::ErrorCode>(code), jda_ascend_error());
  } catch (const std::invalid_argument& error) {
    return jda::failure(ffi::ErrorCode::kInvalidArgument, error.what());
  }
}

template <typename Call>
ffi::Error Forward(const Operands& operands, ffi::AnyBuffer out, const Options& options,
                   const Call& call) {
  const auto add = [&](const jda::Sizes& sizes, jda_ascend_arrays& arrays) {
    arrays.out = jda::data_like_result<float>(out, operands, sizes);
  };
  return Run(operands, options, add, call);
}

struct Gradients {
  ffi::AnyBuffer feature_maps, sample_locations, weight;
};

template <typename Call>
ffi::Error Backward(const Operands& operands, ffi::AnyBuffer cotangent, const Gradients& gradients,
                    const Options& options, const Call& call) {
  const auto add = [&](const jda::Sizes& sizes, jda_ascend_arrays& arrays) {
    arrays.cotangent = jda::data_like_result<float>(cotangent, operands, sizes);
    arrays.grad_feature_maps =
        jda::data_if_any<float>(gradients.feature_maps, operands.feature_maps);
    arrays.grad_sample_locations =
        jda::data_if_any<float>(gradients.sample_locations, operands.sample_locations);
    arrays.grad_weight = jda::data_if_any<float>(gradients.weight, operands.weight);
  };
  return Run(operands, options, add, call);
}

ffi::Error HostForward(ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                       ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                       ffi::AnyBuffer weight, ffi::Result<ffi::AnyBuffer> out, int64_t y_axis,
                       int64_t deterministic) {
  return Forward({feature_maps, spatial_shape, scale_start_index, sample_locations, weight}, *out,
                 {y_axis, deterministic}, jda_ascend_compute_forward);
}

ffi::Error HostBackward(ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                        ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                        ffi::AnyBuffer weight, ffi::AnyBuffer cotangent,
                        ffi::Result<ffi::AnyBuffer> grad_feature_maps,
                        ffi::Result<ffi::AnyBuffer> grad_sample_locations,
                        ffi::Result<ffi::AnyBuffer> grad_weight, int64_t y_axis,
                        int64_t deterministic) {
  return Backward({feature_maps, spatial_shape, scale_start_index, sample_locations, weight},
                  cotangent, {*grad_feature_maps, *grad_sample_locations, *grad_weight},
                  {y_axis, deterministic}, jda_ascend_compute_backward);
}

ffi::Error DeviceForward(void* stream, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                         ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                         ffi::AnyBuffer weight, ffi::Result<ffi::AnyBuffer> out, int64_t y_axis,
                         int64_t deterministic) {
  return Forward({feature_maps, spatial_shape, scale_start_index, sample_locations, weight}, *out,
                 {y_axis, deterministic}, [stream](const auto* problem, const auto* arrays) {
                   return jda_ascend_enqueue_forward(problem, arrays, stream);
                 });
}

ffi::Error DeviceBackward(void* stream, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                          ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                          ffi::AnyBuffer weight, ffi::AnyBuffer cotangent,
                          ffi::Result<ffi::AnyBuffer> grad_feature_maps,
                          ffi::Result<ffi::AnyBuffer> grad_sample_locations,
                          ffi::Result<ffi::AnyBuffer> grad_weight, int64_t y_axis,
                          int64_t deterministic) {
  return Backward({feature_maps, spatial_shape, scale_start_index, sample_locations, weight},
                  cotangent, {*grad_feature_maps, *grad_sample_locations, *grad_weight},
                  {y_axis, deterministic}, [stream](const auto* problem, const auto* arrays) {
                    return jda_ascend_enqueue_backward(problem, arrays, stream);
                  });
}

}  // namespace
}  // namespace jda_ascend

#define JDA_BIND_HOST xla::ffi::Ffi::Bind()
#define JDA_BIND_DEVICE xla::ffi::Ffi::Bind().Ctx<xla::ffi::PlatformStream<void*>>()
#define JDA_BIND_OPTIONS .Attr<int64_t>("y_axis").Attr<int64_t>("deterministic")

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_host_forward, jda_ascend::HostForward,
                              JDA_BIND_HOST JDA_BIND_OPERANDS JDA_BIND_RESULT JDA_BIND_OPTIONS);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_host_backward, jda_ascend::HostBackward,
                              JDA_BIND_HOST JDA_BIND_OPERANDS JDA_BIND_BACKWARD JDA_BIND_OPTIONS);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_device_forward, jda_ascend::DeviceForward,
                              JDA_BIND_DEVICE JDA_BIND_OPERANDS JDA_BIND_RESULT JDA_BIND_OPTIONS);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_device_backward, jda_ascend::DeviceBackward,
                              JDA_BIND_DEVICE JDA_BIND_OPERANDS JDA_BIND_BACKWARD JDA_BIND_OPTIONS);

#pragma GCC visibility pop
