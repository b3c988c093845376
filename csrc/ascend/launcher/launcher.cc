#include "launcher.h"

#include <exception>
#include <new>
#include <string>

#include "check.h"
#include "device.h"
#include "driver.h"
#include "error.h"
#include "host.h"
#include "launch.h"
#include "progress.h"

namespace jda_ascend {
namespace {

thread_local std::string last_error;

int Fail(int code, const char* text) {
  last_error = text + TakeRemarks();
  return code;
}

// Runs `body`; what it throws becomes a code and a text.
template <typename Body>
int Guard(const Body& body) {
  last_error.clear();
  TakeRemarks();
  try {
    body();
    return JDA_ASCEND_OK;
  } catch (const Error& error) {
    return Fail(error.code, error.what());
  } catch (const std::bad_alloc&) {
    return Fail(JDA_ASCEND_RESOURCE_EXHAUSTED, "no memory on the host");
  } catch (const std::exception& error) {
    return Fail(JDA_ASCEND_INTERNAL, error.what());
  }
}

// The texts of a description.
struct Texts {
  std::string runtime, compiler, toolkit, problem, soc, kernels;
};

thread_local Texts texts;

const char* PointerTo(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

void DescribeCard(jda_ascend_description& d) {
  try {
    d.card = ConfiguredCard();
    InitialisedDriver();
    Device& device = TheDevice(d.card);
    d.cores = device.cores();
    texts.soc = device.soc();
    texts.kernels = device.kernel_origin();
  } catch (const Error& error) {
    texts.problem = error.what();
  }
}

void Describe(jda_ascend_description& d) {
  const Driver& driver = TheDriver();
  texts = {driver.runtime_path, driver.compiler_path, ToolkitVersion(driver), "", "", ""};
  d = {};
  d.emulated = driver.emulated ? 1 : 0;
  d.card = -1;
  DescribeCard(d);
  d.runtime = PointerTo(texts.runtime);
  d.compiler = PointerTo(texts.compiler);
  d.toolkit = PointerTo(texts.toolkit);
  d.problem = PointerTo(texts.problem);
  d.soc = PointerTo(texts.soc);
  d.kernels = PointerTo(texts.kernels);
}

void RequireNone(const std::string& wrong) {
  if (!wrong.empty()) throw Error(JDA_ASCEND_INVALID_ARGUMENT, wrong);
}

void EnqueueCall(Operation operation, const jda_ascend_problem& problem,
                 const jda_ascend_arrays& arrays, aclrtStream stream) {
  RequireNone(jda::wrong_groups(problem.sizes));
  RequireNone(WrongDtypes(problem));
  InitialisedDriver();
  Device& device = TheDevice(ThreadsCard());
  const CurrentCard current(device.card());
  if (!HasSamples(problem.sizes)) return EnqueueZeros(operation, problem, arrays, stream);
  const Plan plan = MakePlan(operation, problem, arrays, device.cores());
  if (plan.launches.empty()) return;
  const Kernels& kernels = device.kernels();
  device.workspaces.Use(plan.workspace_bytes, stream, [&](void* workspace) {
    Enqueue(plan, kernels, problem, arrays, workspace, stream);
  });
}

bool WantsNothing(Operation operation, const jda_ascend_arrays& arrays) {
  return operation == Operation::kBackward && arrays.grad_feature_maps == nullptr &&
         arrays.grad_sample_locations == nullptr && arrays.grad_weight == nullptr;
}

void Compute(Operation operation, const jda_ascend_problem& problem,
             const jda_ascend_arrays& arrays) {
  RequireNone(jda::wrong_groups(problem.sizes));
  RequireNone(WrongDtypes(problem));
  RequireNone(jda::wrong_maps(problem.sizes, arrays.spatial_shape, arrays.scale_start_index));
  if (WantsNothing(operation, arrays)) return;
  if (!HasSamples(problem.sizes)) return FillZeros(operation, problem, arrays);
  InitialisedDriver();
  Device& device = TheDevice(ConfiguredCard());
  const CurrentCard current(device.card());
  ComputeOnCard(device, operation, problem, arrays);
}

}  // namespace
}  // namespace jda_ascend

using jda_ascend::Guard;
using jda_ascend::Operation;

int jda_ascend_open(const char* folder) {
  return Guard([&] { jda_ascend::OpenDriver(folder == nullptr ? "" : folder); });
}

const char* jda_ascend_error() { return jda_ascend::last_error.c_str(); }

void jda_ascend_tell(void (*listener)(const char* line)) { jda_ascend::TellTo(listener); }

int jda_ascend_describe(jda_ascend_description* description) {
  return Guard([&] { jda_ascend::Describe(*description); });
}

int jda_ascend_enqueue_forward(const jda_ascend_problem* problem, const jda_ascend_arrays* arrays,
                               void* stream) {
  return Guard([&] { jda_ascend::EnqueueCall(Operation::kForward, *problem, *arrays, stream); });
}

int jda_ascend_enqueue_backward(const jda_ascend_problem* problem, const jda_ascend_arrays* arrays,
                                void* stream) {
  return Guard([&] { jda_ascend::EnqueueCall(Operation::kBackward, *problem, *arrays, stream); });
}

int jda_ascend_compute_forward(const jda_ascend_problem* problem, const jda_ascend_arrays* arrays) {
  return Guard([&] { jda_ascend::Compute(Operation::kForward, *problem, *arrays); });
}

int jda_ascend_compute_backward(const jda_ascend_problem* problem,
                                const jda_ascend_arrays* arrays) {
  return Guard([&] { jda_ascend::Compute(Operation::kBackward, *problem, *arrays); });
}

int jda_ascend_trim() {
  return Guard([] { jda_ascend::TrimDevices(); });
}
