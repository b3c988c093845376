// XLA's doors to the launcher. The device handlers get arrays on the card and the stream to work on;
// the host handlers get arrays of the CPU and bring them to the card and back.

#include "xla/ffi/api/ffi.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "launcher.h"

namespace jda_ascend {
namespace {

namespace ffi = xla::ffi;

struct Arguments {
  ffi::AnyBuffer feature_maps, spatial_shape, scale_start_index, sample_locations, weight;
};

// What is wrong with the arguments, or null.
const char* CheckArguments(const Arguments& a, int64_t y_axis) {
  const auto maps = a.feature_maps.dimensions(), weight = a.weight.dimensions();
  const auto locations = a.sample_locations.dimensions();
  for (const auto& buffer : {a.feature_maps, a.sample_locations, a.weight}) {
    if (buffer.element_type() != ffi::F32) {
      return "feature_maps, sample_locations and weight must be float32 on Ascend";
    }
  }
  if (a.spatial_shape.element_type() != ffi::S32 ||
      a.scale_start_index.element_type() != ffi::S32) {
    return "spatial_shape and scale_start_index must be int32";
  }
  if (maps.size() != 3 || weight.size() != 6 || locations.size() != 5) {
    return "feature_maps, sample_locations and weight must have 3, 5 and 6 dimensions";
  }
  if (!std::equal(locations.begin(), locations.begin() + 4, weight.begin()) ||
      maps[0] != weight[0] || locations[4] != 2) {
    return "feature_maps, sample_locations and weight must agree in their sizes";
  }
  const auto pairs = static_cast<size_t>(weight[3] * weight[4]);
  if (a.spatial_shape.element_count() != 2 * pairs ||
      a.scale_start_index.element_count() != pairs) {
    return "spatial_shape and scale_start_index must describe the cameras and scales of weight";
  }
  if (y_axis != 0 && y_axis != 1) return "y_axis must be 0 or 1";
  return nullptr;
}

jda_ascend_problem ProblemOf(const Arguments& a, int64_t y_axis, int64_t deterministic) {
  const auto maps = a.feature_maps.dimensions(), weight = a.weight.dimensions();
  return {maps[0],   maps[1],   maps[2],   weight[1], weight[2],
          weight[3], weight[4], weight[5], y_axis,    deterministic};
}

jda_ascend_arrays ArraysOf(const Arguments& a) {
  jda_ascend_arrays arrays = {};
  arrays.feature_maps = static_cast<const float*>(a.feature_maps.untyped_data());
  arrays.spatial_shape = static_cast<const int32_t*>(a.spatial_shape.untyped_data());
  arrays.scale_start_index = static_cast<const int32_t*>(a.scale_start_index.untyped_data());
  arrays.sample_locations = static_cast<const float*>(a.sample_locations.untyped_data());
  arrays.weight = static_cast<const float*>(a.weight.untyped_data());
  return arrays;
}

bool IsLikeOut(ffi::AnyBuffer buffer, const jda_ascend_problem& p) {
  return buffer.element_type() == ffi::F32 &&
         static_cast<int64_t>(buffer.element_count()) == p.batch * p.anchors * p.channels;
}

// A gradient must be as large as its argument if it is wanted.
bool Fits(ffi::Result<ffi::AnyBuffer>& gradient, ffi::AnyBuffer argument) {
  return gradient->element_type() == ffi::F32 &&
         (gradient->element_count() == 0 || gradient->element_count() == argument.element_count());
}

// A result to write, or null if it is not wanted: then it has no elements.
float* ResultOf(ffi::Result<ffi::AnyBuffer>& buffer) {
  return buffer->element_count() == 0 ? nullptr : static_cast<float*>(buffer->untyped_data());
}

ffi::Error Invalid(const char* what) {
  return {ffi::ErrorCode::kInvalidArgument, std::string("jda: ") + what};
}

ffi::Error ErrorOf(int code) {
  if (code == JDA_ASCEND_OK) return ffi::Error::Success();
  return {static_cast<ffi::ErrorCode>(code), std::string("jda: ") + jda_ascend_error()};
}

template <typename Call>
ffi::Error Forward(const Arguments& arguments, ffi::Result<ffi::AnyBuffer> out, int64_t y_axis,
                   int64_t deterministic, const Call& call) {
  if (const char* wrong = CheckArguments(arguments, y_axis)) return Invalid(wrong);
  const jda_ascend_problem problem = ProblemOf(arguments, y_axis, deterministic);
  if (!IsLikeOut(*out, problem)) return Invalid("the result must be [bs, anchor, c]");
  jda_ascend_arrays arrays = ArraysOf(arguments);
  arrays.out = ResultOf(out);
  return ErrorOf(call(&problem, &arrays));
}

template <typename Call>
ffi::Error Backward(const Arguments& arguments, ffi::AnyBuffer cotangent,
                    ffi::Result<ffi::AnyBuffer> grad_feature_maps,
                    ffi::Result<ffi::AnyBuffer> grad_sample_locations,
                    ffi::Result<ffi::AnyBuffer> grad_weight, int64_t y_axis, int64_t deterministic,
                    const Call& call) {
  if (const char* wrong = CheckArguments(arguments, y_axis)) return Invalid(wrong);
  const jda_ascend_problem problem = ProblemOf(arguments, y_axis, deterministic);
  if (!IsLikeOut(cotangent, problem)) return Invalid("the cotangent must be [bs, anchor, c]");
  if (!Fits(grad_feature_maps, arguments.feature_maps) ||
      !Fits(grad_sample_locations, arguments.sample_locations) ||
      !Fits(grad_weight, arguments.weight)) {
    return Invalid("a gradient must have its argument's size, or no elements if it is not wanted");
  }
  jda_ascend_arrays arrays = ArraysOf(arguments);
  arrays.cotangent = static_cast<const float*>(cotangent.untyped_data());
  arrays.grad_feature_maps = ResultOf(grad_feature_maps);
  arrays.grad_sample_locations = ResultOf(grad_sample_locations);
  arrays.grad_weight = ResultOf(grad_weight);
  return ErrorOf(call(&problem, &arrays));
}

ffi::Error HostForward(ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                       ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                       ffi::AnyBuffer weight, ffi::Result<ffi::AnyBuffer> out, int64_t y_axis,
                       int64_t deterministic) {
  return Forward({feature_maps, spatial_shape, scale_start_index, sample_locations, weight}, out,
                 y_axis, deterministic, jda_ascend_compute_forward);
}

ffi::Error HostBackward(ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                        ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                        ffi::AnyBuffer weight, ffi::AnyBuffer cotangent,
                        ffi::Result<ffi::AnyBuffer> grad_feature_maps,
                        ffi::Result<ffi::AnyBuffer> grad_sample_locations,
                        ffi::Result<ffi::AnyBuffer> grad_weight, int64_t y_axis,
                        int64_t deterministic) {
  return Backward({feature_maps, spatial_shape, scale_start_index, sample_locations, weight},
                  cotangent, grad_feature_maps, grad_sample_locations, grad_weight, y_axis,
                  deterministic, jda_ascend_compute_backward);
}

ffi::Error DeviceForward(void* stream, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                         ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                         ffi::AnyBuffer weight, ffi::Result<ffi::AnyBuffer> out, int64_t y_axis,
                         int64_t deterministic) {
  return Forward({feature_maps, spatial_shape, scale_start_index, sample_locations, weight}, out,
                 y_axis, deterministic, [stream](const auto* problem, const auto* arrays) {
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
                  cotangent, grad_feature_maps, grad_sample_locations, grad_weight, y_axis,
                  deterministic, [stream](const auto* problem, const auto* arrays) {
                    return jda_ascend_enqueue_backward(problem, arrays, stream);
                  });
}

}  // namespace
}  // namespace jda_ascend

#define JDA_OPERANDS                                                                           \
  .Arg<xla::ffi::AnyBuffer>()     /* feature_maps      [batch, rows, channels] */              \
      .Arg<xla::ffi::AnyBuffer>() /* spatial_shape     [cameras, scales, 2] */                 \
      .Arg<xla::ffi::AnyBuffer>() /* scale_start_index [cameras, scales] */                    \
      .Arg<xla::ffi::AnyBuffer>() /* sample_locations  [batch, anchors, points, cameras, 2] */ \
      .Arg<xla::ffi::AnyBuffer>() /* weight [batch, anchors, points, cameras, scales, groups] */

#define JDA_FORWARD_RESULT .Ret<xla::ffi::AnyBuffer>() /* out */

#define JDA_BACKWARD_RESULTS                                  \
  .Arg<xla::ffi::AnyBuffer>()     /* cotangent, like out */   \
      .Ret<xla::ffi::AnyBuffer>() /* grad_feature_maps */     \
      .Ret<xla::ffi::AnyBuffer>() /* grad_sample_locations */ \
      .Ret<xla::ffi::AnyBuffer>() /* grad_weight */

#define JDA_ATTRIBUTES .Attr<int64_t>("y_axis").Attr<int64_t>("deterministic")

#define JDA_HOST xla::ffi::Ffi::Bind()
#define JDA_DEVICE xla::ffi::Ffi::Bind().Ctx<xla::ffi::PlatformStream<void*>>()

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_host_forward, jda_ascend::HostForward,
                              JDA_HOST JDA_OPERANDS JDA_FORWARD_RESULT JDA_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_host_backward, jda_ascend::HostBackward,
                              JDA_HOST JDA_OPERANDS JDA_BACKWARD_RESULTS JDA_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_device_forward, jda_ascend::DeviceForward,
                              JDA_DEVICE JDA_OPERANDS JDA_FORWARD_RESULT JDA_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_ascend_device_backward, jda_ascend::DeviceBackward,
                              JDA_DEVICE JDA_OPERANDS JDA_BACKWARD_RESULTS JDA_ATTRIBUTES);

#pragma GCC visibility pop
