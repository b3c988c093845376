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

template <typename F, typename W>
Problem<F, W> make_problem(const Operands& operands, int64_t y_axis) {
  const Sizes sizes = read_sizes(operands);
  require(sizes.rows <= INT32_MAX && sizes.anchors <= INT32_MAX && sizes.points <= INT32_MAX,
          "num_feat, anchor and pts must be below 2^31");
  const bool wide = std::is_same_v<Real<F>, double>;
  require(operands.sample_locations.element_type() == (wide ? ffi::F64 : ffi::F32),
          wide ? "sample_locations must be float64" : "sample_locations must be float32");
  Problem<F, W> problem{};
  static_cast<Sizes&>(problem) = sizes;
  problem.y_axis = read_y_axis(y_axis);
  problem.feature_maps = data<F>(operands.feature_maps);
  problem.locations = data<Real<F>>(operands.sample_locations);
  problem.weight = data<W>(operands.weight);
  return problem;
}

double work_of(const Sizes& s) {
  return 1.0 * s.batch * s.anchors * s.points * s.cameras * s.scales * s.channels;
}

// The arrays of a target's call.
struct Call {
  Operands operands;
  ffi::RemainingArgs args;
  ffi::RemainingRets results;
};

struct Forward {
  static constexpr size_t kOthers = 0;  // arguments behind the operands
  static constexpr size_t kResults = 1;
  template <typename F, typename W>
  static void run(Problem<F, W>& problem, const Call& call, Team& team) {
    problem.out = data_like_result<F>(fresh(array(call.results, 0)), call.operands, problem);
    forward(problem, team);
  }
};

struct Tangent {
  static constexpr size_t kOthers = kFloating;  // arguments behind the operands
  static constexpr size_t kResults = 1;
  template <typename F, typename W>
  static void run(Problem<F, W>& problem, const Call& call, Team& team) {
    const Floating of = call.operands.floating(), tangents = read_floating(call.args, kOperands);
    problem.tangent_feature_maps = data_if_any<F>(tangents.feature_maps, of.feature_maps);
    problem.tangent_locations =
        data_if_any<Real<F>>(tangents.sample_locations, of.sample_locations);
    problem.tangent_weight = data_if_any<W>(tangents.weight, of.weight);
    problem.out = data_like_result<F>(fresh(array(call.results, 0)), call.operands, problem);
    tangent(problem, team);
  }
};

struct Backward {
  static constexpr size_t kOthers = 1;  // arguments behind the operands
  static constexpr size_t kResults = kFloating;
  template <typename F, typename W>
  static void run(Problem<F, W>& problem, const Call& call, Team& team) {
    const Floating of = call.operands.floating(), grads = read_floating(call.results, 0);
    const ffi::AnyBuffer cotangent = array(call.args, kOperands);
    problem.cotangent = data_like_result<F>(cotangent, call.operands, problem);
    problem.grad_feature_maps = data_if_any<F>(fresh(grads.feature_maps), of.feature_maps);
    problem.grad_locations =
        data_if_any<Real<F>>(fresh(grads.sample_locations), of.sample_locations);
    problem.grad_weight = data_if_any<W>(fresh(grads.weight), of.weight);
    backward(problem, team);
  }
};

template <typename Target, typename F, typename W>
ffi::Error run_typed(ffi::ThreadPool& pool, const Call& call, int64_t y_axis) {
  Problem<F, W> problem = make_problem<F, W>(call.operands, y_axis);
  const std::vector<Map> maps = read_maps(call.operands, problem);
  problem.maps = maps.data();
  Team team = make_team(pool, work_of(problem) < kWorthHelp);
  Target::run(problem, call, team);
  return ffi::Error::Success();
}

// Runs a target for weights of the maps' type F, or of Real<F>.
template <typename Target, typename F>
ffi::Error with_weights(ffi::ThreadPool& pool, const Call& call, int64_t y_axis) {
  const ffi::DataType maps = call.operands.feature_maps.element_type();
  const ffi::DataType weight = call.operands.weight.element_type();
  if (weight == maps) return run_typed<Target, F, F>(pool, call, y_axis);
  require(sizeof(F) == 2 && weight == ffi::F32,
          "weight must have the dtype of feature_maps, or be float32 where that has 16 bits");
  return run_typed<Target, F, Real<F>>(pool, call, y_axis);
}

template <typename Target>
ffi::Error handle(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets results,
                  int64_t y_axis) {
  return reported([&] {
    const Call call{read_operands(args, Target::kOthers), args, results};
    require_count(results, Target::kResults);
    switch (call.operands.feature_maps.element_type()) {
      case ffi::F32:
        return with_weights<Target, float>(pool, call, y_axis);
      case ffi::F64:
        return with_weights<Target, double>(pool, call, y_axis);
      case ffi::BF16:
        return with_weights<Target, BFloat16>(pool, call, y_axis);
      case ffi::F16:
        return with_weights<Target, Float16>(pool, call, y_axis);
      default:
        throw std::invalid_argument("feature_maps must be float32, float64, bfloat16 or float16");
    }
  });
}

}  // namespace
}  // namespace jda

#define JDA_BIND \
  xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>() JDA_BIND_ARRAYS.Attr<int64_t>("y_axis")

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_forward, jda::handle<jda::Forward>, JDA_BIND);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_tangent, jda::handle<jda::Tangent>, JDA_BIND);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_backward, jda::handle<jda::Backward>, JDA_BIND);

// The instruction set in use, or null if JDA_CPU_ISA names none.
extern "C" const char* jda_cpu_isa() { return jda::isa_is_known() ? jda::isa_name() : nullptr; }

#pragma GCC visibility pop
