// XLA's door to the CPU kernels: decode, check, call.
#include <algorithm>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "handler.h"
#include "kernels.h"
#include "operator.h"

namespace jda {
namespace {

// Less work than this many multiply-adds is left to the calling thread.
constexpr double kWorthHelp = 2e5;

std::vector<Map> read_maps(const Operands& operands, const Sizes& sizes) {
  const int32_t* shape = operands.spatial_shape.typed_data<int32_t>();
  const int32_t* start = operands.scale_start_index.typed_data<int32_t>();
  require_none(wrong_maps(sizes, shape, start));
  std::vector<Map> maps(sizes.cameras * sizes.scales);
  for (size_t i = 0; i < maps.size(); ++i) maps[i] = {start[i], shape[2 * i], shape[2 * i + 1]};
  return maps;
}

template <typename F>
void check_dtypes(const Operands& operands) {
  require(operands.weight.element_type() == operands.feature_maps.element_type(),
          "feature_maps and weight must have one dtype");
  const bool wide = std::is_same_v<Real<F>, double>;
  require(operands.sample_locations.element_type() == (wide ? ffi::F64 : ffi::F32),
          wide ? "sample_locations must be float64" : "sample_locations must be float32");
}

// A call's operands and options; what it works on and with.
struct Call {
  ffi::ThreadPool pool;
  Operands operands;
  int64_t y_axis;
};

template <typename F>
Problem<F> make_problem(const Call& call) {
  const Sizes sizes = read_sizes(call.operands);
  require(sizes.rows <= INT32_MAX && sizes.anchors <= INT32_MAX && sizes.points <= INT32_MAX,
          "num_feat, anchor and pts must be below 2^31");
  check_dtypes<F>(call.operands);
  Problem<F> problem{};
  static_cast<Sizes&>(problem) = sizes;
  problem.y_axis = read_y_axis(call.y_axis);
  problem.feature_maps = data<F>(call.operands.feature_maps);
  problem.locations = data<Real<F>>(call.operands.sample_locations);
  problem.weight = data<F>(call.operands.weight);
  return problem;
}

double work_of(const Sizes& s) {
  return 1.0 * s.batch * s.anchors * s.points * s.cameras * s.scales * s.channels;
}

template <typename F, typename Work>
void run_typed(Call& call, const Work& work) {
  Problem<F> problem = make_problem<F>(call);
  const std::vector<Map> maps = read_maps(call.operands, problem);
  problem.maps = maps.data();
  Team team = make_team(call.pool, work_of(problem) < kWorthHelp);
  work(problem, team);
}

// Runs work(problem, team) for the type of the features; exceptions become errors.
template <typename Work>
ffi::Error run(Call call, const Work& work) {
  try {
    switch (call.operands.feature_maps.element_type()) {
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
    return failure(ffi::ErrorCode::kInvalidArgument, error.what());
  } catch (const std::bad_alloc&) {
    return failure(ffi::ErrorCode::kResourceExhausted, "no memory for the scratch of a CPU kernel");
  } catch (const std::exception& error) {
    return failure(ffi::ErrorCode::kInternal, error.what());
  }
  return ffi::Error::Success();
}

ffi::Error Forward(ffi::ThreadPool pool, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                   ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                   ffi::AnyBuffer weight, ffi::Result<ffi::AnyBuffer> out, int64_t y_axis) {
  const Operands operands{feature_maps, spatial_shape, scale_start_index, sample_locations, weight};
  return run({pool, operands, y_axis}, [&](auto& problem, Team& team) {
    using F = std::decay_t<decltype(*problem.out)>;
    problem.out = data_like_result<F>(fresh(out), operands, problem);
    forward(problem, team);
  });
}

ffi::Error Tangent(ffi::ThreadPool pool, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                   ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                   ffi::AnyBuffer weight, ffi::AnyBuffer tangent_feature_maps,
                   ffi::AnyBuffer tangent_sample_locations, ffi::AnyBuffer tangent_weight,
                   ffi::Result<ffi::AnyBuffer> out, int64_t y_axis) {
  const Operands operands{feature_maps, spatial_shape, scale_start_index, sample_locations, weight};
  return run({pool, operands, y_axis}, [&](auto& problem, Team& team) {
    using F = std::decay_t<decltype(*problem.out)>;
    problem.tangent_feature_maps = data_if_any<F>(tangent_feature_maps, feature_maps);
    problem.tangent_locations = data_if_any<Real<F>>(tangent_sample_locations, sample_locations);
    problem.tangent_weight = data_if_any<F>(tangent_weight, weight);
    problem.out = data_like_result<F>(fresh(out), operands, problem);
    tangent(problem, team);
  });
}

ffi::Error Backward(ffi::ThreadPool pool, ffi::AnyBuffer feature_maps, ffi::AnyBuffer spatial_shape,
                    ffi::AnyBuffer scale_start_index, ffi::AnyBuffer sample_locations,
                    ffi::AnyBuffer weight, ffi::AnyBuffer cotangent,
                    ffi::Result<ffi::AnyBuffer> grad_feature_maps,
                    ffi::Result<ffi::AnyBuffer> grad_sample_locations,
                    ffi::Result<ffi::AnyBuffer> grad_weight, int64_t y_axis) {
  const Operands operands{feature_maps, spatial_shape, scale_start_index, sample_locations, weight};
  return run({pool, operands, y_axis}, [&](auto& problem, Team& team) {
    using F = std::decay_t<decltype(*problem.out)>;
    problem.cotangent = data_like_result<F>(cotangent, operands, problem);
    problem.grad_feature_maps = data_if_any<F>(fresh(grad_feature_maps), feature_maps);
    problem.grad_locations = data_if_any<Real<F>>(fresh(grad_sample_locations), sample_locations);
    problem.grad_weight = data_if_any<F>(fresh(grad_weight), weight);
    backward(problem, team);
  });
}

}  // namespace
}  // namespace jda

#define JDA_BIND xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
#define JDA_BIND_OPTIONS .Attr<int64_t>("y_axis")

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_forward, jda::Forward,
                              JDA_BIND JDA_BIND_OPERANDS JDA_BIND_RESULT JDA_BIND_OPTIONS);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_tangent, jda::Tangent,
                              JDA_BIND JDA_BIND_OPERANDS JDA_BIND_TANGENTS JDA_BIND_RESULT
                                  JDA_BIND_OPTIONS);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_backward, jda::Backward,
                              JDA_BIND JDA_BIND_OPERANDS JDA_BIND_BACKWARD JDA_BIND_OPTIONS);

// The instruction set in use, or null if JDA_CPU_ISA names none.
extern "C" const char* jda_cpu_isa() { return jda::isa_is_known() ? jda::isa_name() : nullptr; }

#pragma GCC visibility pop
