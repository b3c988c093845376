// XLA's door to the CPU kernels: decode, check, call.
#include "xla/ffi/api/ffi.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
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

struct Arguments {
  ffi::AnyBuffer feature_maps, spatial_shape, scale_start_index, sample_locations, weight;
};

template <typename T>
Problem<T> make_problem(const Arguments& args, int64_t y_axis) {
  const auto maps = args.feature_maps.dimensions(), weight = args.weight.dimensions();
  const auto locations = args.sample_locations.dimensions();
  require(maps.size() == 3 && weight.size() == 6 && locations.size() == 5,
          "feature_maps, sample_locations and weight must have 3, 5 and 6 dimensions");
  require(std::equal(locations.begin(), locations.begin() + 4, weight.begin()) &&
              maps[0] == weight[0] && locations[4] == 2,
          "feature_maps, sample_locations and weight must agree in their sizes");
  require(weight[5] > 0 && maps[2] % weight[5] == 0, "group must divide c");
  require(maps[1] <= INT32_MAX && weight[1] <= INT32_MAX && weight[2] <= INT32_MAX,
          "num_feat, anchor and pts must be below 2^31");
  require(y_axis == 0 || y_axis == 1, "y_axis must be 0 or 1");
  for (const auto& buffer : {args.sample_locations, args.weight})
    require(buffer.element_type() == args.feature_maps.element_type(),
            "feature_maps, sample_locations and weight must have one dtype");
  Problem<T> problem{};
  problem.batch = maps[0];
  problem.rows = maps[1];
  problem.channels = maps[2];
  problem.anchors = weight[1];
  problem.points = weight[2];
  problem.cameras = weight[3];
  problem.scales = weight[4];
  problem.groups = weight[5];
  problem.y_axis = static_cast<int>(y_axis);
  problem.feature_maps = args.feature_maps.typed_data<T>();
  problem.locations = args.sample_locations.typed_data<T>();
  problem.weight = args.weight.typed_data<T>();
  return problem;
}

template <typename T>
Team make_team(const Problem<T>& p, ffi::ThreadPool& pool) {
  const double work = 1.0 * p.batch * p.anchors * p.points * p.cameras * p.scales * p.channels;
  return Team(work < kWorthHelp ? 1 : std::max<int64_t>(1, pool.num_threads()),
              [&pool](std::function<void()> task) { pool.Schedule(std::move(task)); });
}

// A result to write, or null if it is not wanted: then it has no elements.
template <typename T>
T* result(ffi::Result<ffi::AnyBuffer>& buffer) {
  if (buffer->element_count() == 0) return nullptr;
  prefer_large_pages(buffer->untyped_data(), buffer->size_bytes());
  return buffer->typed_data<T>();
}

// A gradient must be as large as its argument if it is wanted.
bool fits(ffi::Result<ffi::AnyBuffer>& gradient, ffi::AnyBuffer argument) {
  return gradient->element_type() == argument.element_type() &&
         (gradient->element_count() == 0 || gradient->element_count() == argument.element_count());
}

// Runs call(float or double) by the type of the features; exceptions become errors.
template <typename Call>
ffi::Error run(const Arguments& args, const Call& call) {
  try {
    switch (args.feature_maps.element_type()) {
      case ffi::F32:
        call(float{});
        break;
      case ffi::F64:
        call(double{});
        break;
      default:
        throw std::invalid_argument("feature_maps must be float32 or float64");
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

ffi::Error Forward(ffi::ThreadPool pool, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                   ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                   ffi::AnyBuffer weight, ffi::Result<ffi::AnyBuffer> out, int64_t y_axis) {
  const Arguments args{feature_maps, spatial_shape, scale_start_index, sample_locations, weight};
  return run(args, [&](auto type) {
    using T = decltype(type);
    Problem<T> problem = make_problem<T>(args, y_axis);
    const std::vector<Map> maps =
        read_maps(spatial_shape, scale_start_index, problem.cameras, problem.scales, problem.rows);
    problem.maps = maps.data();
    require(out->element_type() == feature_maps.element_type() &&
                static_cast<int64_t>(out->element_count()) ==
                    problem.batch * problem.anchors * problem.channels,
            "the result must be [bs, anchor, c]");
    problem.out = result<T>(out);
    Team team = make_team(problem, pool);
    if (problem.out) forward(problem, team);
  });
}

ffi::Error Cotangent(ffi::ThreadPool pool, ffi::AnyBuffer feature_maps,
                     ffi::AnyBuffer spatial_shape, ffi::AnyBuffer scale_start_index,
                     ffi::AnyBuffer sample_locations, ffi::AnyBuffer weight,
                     ffi::AnyBuffer cotangent, ffi::Result<ffi::AnyBuffer> grad_feature_maps,
                     ffi::Result<ffi::AnyBuffer> grad_sample_locations,
                     ffi::Result<ffi::AnyBuffer> grad_weight, int64_t y_axis) {
  const Arguments args{feature_maps, spatial_shape, scale_start_index, sample_locations, weight};
  return run(args, [&](auto type) {
    using T = decltype(type);
    Problem<T> problem = make_problem<T>(args, y_axis);
    const std::vector<Map> maps =
        read_maps(spatial_shape, scale_start_index, problem.cameras, problem.scales, problem.rows);
    problem.maps = maps.data();
    require(cotangent.element_type() == feature_maps.element_type() &&
                static_cast<int64_t>(cotangent.element_count()) ==
                    problem.batch * problem.anchors * problem.channels,
            "the cotangent must be [bs, anchor, c]");
    require(fits(grad_feature_maps, feature_maps) &&
                fits(grad_sample_locations, sample_locations) && fits(grad_weight, weight),
            "a gradient must have its argument's size, or no elements if it is not wanted");
    problem.cotangent = cotangent.typed_data<T>();
    problem.grad_feature_maps = result<T>(grad_feature_maps);
    problem.grad_locations = result<T>(grad_sample_locations);
    problem.grad_weight = result<T>(grad_weight);
    Team team = make_team(problem, pool);
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

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_cotangent, jda::Cotangent,
                              JDA_ARGUMENTS
                                  .Arg<xla::ffi::AnyBuffer>()  // cotangent, like out
                                  .Ret<xla::ffi::AnyBuffer>()  // grad_feature_maps
                                  .Ret<xla::ffi::AnyBuffer>()  // grad_sample_locations
                                  .Ret<xla::ffi::AnyBuffer>()  // grad_weight
                                  .Attr<int64_t>("y_axis"));

extern "C" const char* jda_cpu_isa() { return jda::isa_name(); }

#pragma GCC visibility pop
