// XLA's door to the CPU kernels: decode, check, call.
#include "xla/ffi/api/ffi.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels.h"
#include "operator.h"
#include "scratch.h"

namespace jda {
namespace {

namespace ffi = xla::ffi;

// Less work than this many multiply-adds is left to the calling thread.
constexpr double kWorthHelp = 2e5;

void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

// The maps, each checked: whatever the kernels read and write follows from them.
std::vector<Map> read_maps(ffi::AnyBuffer shapes, ffi::AnyBuffer starts, int64_t cameras,
                           int64_t scales, int64_t rows) {
  require(shapes.element_type() == ffi::S32 && starts.element_type() == ffi::S32,
          "spatial_shape and scale_start_index must be int32");
  require(static_cast<int64_t>(shapes.element_count()) == cameras * scales * 2 &&
              static_cast<int64_t>(starts.element_count()) == cameras * scales,
          "spatial_shape and scale_start_index must describe the cameras and scales of weight");
  const int32_t* shape = shapes.typed_data<int32_t>();
  const int32_t* start = starts.typed_data<int32_t>();
  std::vector<Map> maps(cameras * scales);
  for (int64_t i = 0; i < cameras * scales; ++i) {
    const Map map{start[i], shape[2 * i], shape[2 * i + 1]};
    const bool positive = map.height > 0 && map.width > 0;
    if (!positive || map.start < 0 ||
        map.start + static_cast<int64_t>(map.height) * map.width > rows)
      throw std::invalid_argument(
          "the map of camera " + std::to_string(i / scales) + ", scale " +
          std::to_string(i % scales) + " has spatial_shape (" + std::to_string(map.height) + ", " +
          std::to_string(map.width) + ") and scale_start_index " + std::to_string(map.start) +
          (positive ? ", which is not within num_feat=" + std::to_string(rows)
                    : ", but sizes must be positive"));
    maps[i] = map;
  }
  return maps;
}

struct Call {
  ffi::ThreadPool pool;
  ffi::AnyBuffer feature_maps, spatial_shape, scale_start_index, sample_locations, weight;
  int64_t y_axis;
};

// Checks all but the maps.
template <typename F>
Problem<F> make_problem(const Call& call) {
  const auto maps = call.feature_maps.dimensions(), weight = call.weight.dimensions();
  const auto locations = call.sample_locations.dimensions();
  require(maps.size() == 3 && weight.size() == 6 && locations.size() == 5,
          "feature_maps, sample_locations and weight must have 3, 5 and 6 dimensions");
  require(std::equal(locations.begin(), locations.begin() + 4, weight.begin()) &&
              maps[0] == weight[0] && locations[4] == 2,
          "feature_maps, sample_locations and weight must agree in their sizes");
  require(weight[5] > 0 && maps[2] % weight[5] == 0, "group must divide c");
  require(maps[1] <= INT32_MAX && weight[1] <= INT32_MAX && weight[2] <= INT32_MAX,
          "num_feat, anchor and pts must be below 2^31");
  require(call.y_axis == 0 || call.y_axis == 1, "y_axis must be 0 or 1");
  require(call.weight.element_type() == call.feature_maps.element_type(),
          "feature_maps and weight must have one dtype");
  const bool wide = std::is_same_v<Real<F>, double>;
  require(call.sample_locations.element_type() == (wide ? ffi::F64 : ffi::F32),
          wide ? "sample_locations must be float64" : "sample_locations must be float32");
  Problem<F> problem{};
  problem.batch = maps[0];
  problem.rows = maps[1];
  problem.channels = maps[2];
  problem.anchors = weight[1];
  problem.points = weight[2];
  problem.cameras = weight[3];
  problem.scales = weight[4];
  problem.groups = weight[5];
  problem.y_axis = static_cast<int>(call.y_axis);
  problem.feature_maps = static_cast<const F*>(call.feature_maps.untyped_data());
  problem.locations = static_cast<const Real<F>*>(call.sample_locations.untyped_data());
  problem.weight = static_cast<const F*>(call.weight.untyped_data());
  return problem;
}

Team make_team(const Sizes& s, ffi::ThreadPool& pool) {
  const double work = 1.0 * s.batch * s.anchors * s.points * s.cameras * s.scales * s.channels;
  return Team(work < kWorthHelp ? 1 : std::max<int64_t>(1, pool.num_threads()),
              [&pool](std::function<void()> task) { pool.Schedule(std::move(task)); });
}

template <typename F, typename Work>
void run_typed(Call& call, const Work& work) {
  Problem<F> problem = make_problem<F>(call);
  const std::vector<Map> maps = read_maps(call.spatial_shape, call.scale_start_index,
                                          problem.cameras, problem.scales, problem.rows);
  problem.maps = maps.data();
  Team team = make_team(problem, call.pool);
  work(problem, team);
}

// Runs work(problem, team) for the type of the features; exceptions become errors.
template <typename Work>
ffi::Error run(Call call, const Work& work) {
  try {
    switch (call.feature_maps.element_type()) {
      case ffi::F32:
        run_typed<float>(call, work);
        break;
      case ffi::F64:
        run_typed<double>(call, work);
        break;
      case ffi::BF16:
        run_typed<BFloat16>(call, work);
        break;
      case ffi::F16:
        run_typed<Float16>(call, work);
        break;
      default:
        throw std::invalid_argument("feature_maps must be float32, float64, bfloat16 or float16");
    }
  } catch (const std::invalid_argument& error) {
    return {ffi::ErrorCode::kInvalidArgument, std::string("jda: ") + error.what()};
  } catch (const std::bad_alloc&) {
    return {ffi::ErrorCode::kResourceExhausted, "jda: no memory for the scratch of a CPU kernel"};
  } catch (const std::exception& error) {
    return {ffi::ErrorCode::kInternal, std::string("jda: ") + error.what()};
  }
  return ffi::Error::Success();
}

// Points to a tangent or a gradient. It is as large as its argument, or has no elements: then it is
// zero, or not wanted, and the pointer stays null.
template <typename T>
void point(T*& pointer, ffi::AnyBuffer buffer, ffi::AnyBuffer argument) {
  require(buffer.element_type() == argument.element_type() &&
              (buffer.element_count() == 0 || buffer.element_count() == argument.element_count()),
          "a tangent or gradient must have its argument's dtype, and its size or no elements");
  if (buffer.element_count() > 0) pointer = static_cast<T*>(buffer.untyped_data());
}

// Points to the result, its tangent or its cotangent.
template <typename T>
void point_like_result(T*& pointer, ffi::AnyBuffer buffer, const Call& call, const Sizes& sizes) {
  require(buffer.element_type() == call.feature_maps.element_type() &&
              static_cast<int64_t>(buffer.element_count()) ==
                  sizes.batch * sizes.anchors * sizes.channels,
          "the result, its tangent and its cotangent must be [bs, anchor, c]");
  pointer = static_cast<T*>(buffer.untyped_data());
}

ffi::AnyBuffer fresh(ffi::Result<ffi::AnyBuffer>& result) {
  prefer_large_pages(result->untyped_data(), result->size_bytes());
  return *result;
}

ffi::Error Forward(ffi::ThreadPool pool, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                   ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                   ffi::AnyBuffer weight, ffi::Result<ffi::AnyBuffer> out, int64_t y_axis) {
  const Call call{pool,   feature_maps, spatial_shape, scale_start_index, sample_locations,
                  weight, y_axis};
  return run(call, [&](auto& problem, Team& team) {
    point_like_result(problem.out, fresh(out), call, problem);
    forward(problem, team);
  });
}

ffi::Error Tangent(ffi::ThreadPool pool, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                   ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                   ffi::AnyBuffer weight, ffi::AnyBuffer tangent_feature_maps,
                   ffi::AnyBuffer tangent_sample_locations, ffi::AnyBuffer tangent_weight,
                   ffi::Result<ffi::AnyBuffer> out, int64_t y_axis) {
  const Call call{pool,   feature_maps, spatial_shape, scale_start_index, sample_locations,
                  weight, y_axis};
  return run(call, [&](auto& problem, Team& team) {
    point(problem.tangent_feature_maps, tangent_feature_maps, feature_maps);
    point(problem.tangent_locations, tangent_sample_locations, sample_locations);
    point(problem.tangent_weight, tangent_weight, weight);
    point_like_result(problem.out, fresh(out), call, problem);
    tangent(problem, team);
  });
}

ffi::Error Backward(ffi::ThreadPool pool, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                    ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                    ffi::AnyBuffer weight, ffi::AnyBuffer cotangent,
                    ffi::Result<ffi::AnyBuffer> grad_feature_maps,
                    ffi::Result<ffi::AnyBuffer> grad_sample_locations,
                    ffi::Result<ffi::AnyBuffer> grad_weight, int64_t y_axis) {
  const Call call{pool,   feature_maps, spatial_shape, scale_start_index, sample_locations,
                  weight, y_axis};
  return run(call, [&](auto& problem, Team& team) {
    point_like_result(problem.cotangent, cotangent, call, problem);
    point(problem.grad_feature_maps, fresh(grad_feature_maps), feature_maps);
    point(problem.grad_locations, fresh(grad_sample_locations), sample_locations);
    point(problem.grad_weight, fresh(grad_weight), weight);
    backward(problem, team);
  });
}

}  // namespace
}  // namespace jda

#define JDA_ARGUMENTS                                                                          \
  xla::ffi::Ffi::Bind()                                                                        \
      .Ctx<xla::ffi::ThreadPool>()                                                             \
      .Arg<xla::ffi::AnyBuffer>() /* feature_maps      [batch, rows, channels] */              \
      .Arg<xla::ffi::AnyBuffer>() /* spatial_shape     [cameras, scales, 2] */                 \
      .Arg<xla::ffi::AnyBuffer>() /* scale_start_index [cameras, scales] */                    \
      .Arg<xla::ffi::AnyBuffer>() /* sample_locations  [batch, anchors, points, cameras, 2] */ \
      .Arg<xla::ffi::AnyBuffer>() /* weight [batch, anchors, points, cameras, scales, groups] */

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_forward, jda::Forward,
                              JDA_ARGUMENTS
                                  .Ret<xla::ffi::AnyBuffer>()  // out
                                  .Attr<int64_t>("y_axis"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_tangent, jda::Tangent,
                              JDA_ARGUMENTS
                                  .Arg<xla::ffi::AnyBuffer>()  // tangent_feature_maps
                                  .Arg<xla::ffi::AnyBuffer>()  // tangent_sample_locations
                                  .Arg<xla::ffi::AnyBuffer>()  // tangent_weight
                                  .Ret<xla::ffi::AnyBuffer>()  // tangent of out
                                  .Attr<int64_t>("y_axis"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_backward, jda::Backward,
                              JDA_ARGUMENTS
                                  .Arg<xla::ffi::AnyBuffer>()  // cotangent, like out
                                  .Ret<xla::ffi::AnyBuffer>()  // grad_feature_maps
                                  .Ret<xla::ffi::AnyBuffer>()  // grad_sample_locations
                                  .Ret<xla::ffi::AnyBuffer>()  // grad_weight
                                  .Attr<int64_t>("y_axis"));

// The instruction set in use, or null if JDA_CPU_ISA names none.
extern "C" const char* jda_cpu_isa() { return jda::isa_is_known() ? jda::isa_name() : nullptr; }

#pragma GCC visibility pop
