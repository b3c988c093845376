// XLA's door to the CPU kernels: decode, check, call.
#include <cstdint>
#include <vector>

#include "call.h"
#include "handler.h"
#include "kernels.h"
#include "operator.h"

namespace jda {
namespace {

int64_t number(const ffi::AnyBuffer& buffer) { return static_cast<int64_t>(buffer.element_type()); }

template <typename F, typename W>
Problem<F, W> make_problem(const Operands& operands, int64_t y_axis) {
  Problem<F, W> problem = empty_problem<F, W>(read_sizes(operands), y_axis);
  require(number(operands.sample_locations) == number_of<Real<F>>(),
          sizeof(Real<F>) == 8 ? "sample_locations must be float64"
                               : "sample_locations must be float32");
  problem.feature_maps = data<F>(operands.feature_maps);
  problem.locations = data<Real<F>>(operands.sample_locations);
  problem.weight = data<W>(operands.weight);
  return problem;
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
void run(ffi::ThreadPool& pool, const Call& call, int64_t y_axis) {
  const Operands& operands = call.operands;
  Problem<F, W> problem = make_problem<F, W>(operands, y_axis);
  const std::vector<Map> maps = read_maps(problem, operands.spatial_shape.typed_data<int32_t>(),
                                          operands.scale_start_index.typed_data<int32_t>());
  problem.maps = maps.data();
  Team team = make_team(pool, is_small(problem));
  Target::run(problem, call, team);
}

template <typename Target>
ffi::Error handle(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets results,
                  int64_t y_axis) {
  return reported([&] {
    const Call call{read_operands(args, Target::kOthers), args, results};
    require_count(results, Target::kResults);
    const Operands& operands = call.operands;
    with_types(number(operands.feature_maps), number(operands.weight), [&](auto types) {
      using Of = decltype(types);
      run<Target, typename Of::Maps, typename Of::Weight>(pool, call, y_axis);
    });
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace jda

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_forward, jda::handle<jda::Forward>, JDA_BIND_SAMPLING);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_tangent, jda::handle<jda::Tangent>, JDA_BIND_SAMPLING);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_backward, jda::handle<jda::Backward>, JDA_BIND_SAMPLING);

// The instruction set in use, or null if JDA_CPU_ISA names none.
extern "C" const char* jda_cpu_isa() { return jda::isa_is_known() ? jda::isa_name() : nullptr; }

#pragma GCC visibility pop
