#include "launcher.h"

#include <exception>
#include <new>
#include <string>

#include "device.h"
#include "driver.h"
#include "error.h"
#include "host.h"
#include "launch.h"

namespace jda_ascend {
namespace {

thread_local std::string last_error;
thread_local std::string description;

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

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) {
      quoted += c;
    } else {
      quoted += c == '\n' ? "\\n" : " ";
    }
  }
  return quoted + '"';
}

std::string QuoteOrNull(const std::string& text) { return text.empty() ? "null" : Quote(text); }

std::string DescribeCard(const Driver& driver) {
  std::string card = "null", problem, soc, cores = "null", kernels;
  try {
    const int number = ConfiguredCard();
    card = std::to_string(number);
    InitialisedDriver();
    Device& device = TheDevice(number);
    soc = device.soc();
    cores = std::to_string(device.cores());
    kernels = device.kernel_origin();
  } catch (const Error& error) {
    problem = error.what();
  }
  return "\"toolkit\": " + QuoteOrNull(ToolkitVersion(driver)) + ", \"card\": " + card +
         ", \"problem\": " + QuoteOrNull(problem) + ", \"soc\": " + QuoteOrNull(soc) +
         ", \"cores\": " + cores + ", \"kernels\": " + QuoteOrNull(kernels);
}

std::string Describe() {
  const Driver& driver = TheDriver();
  const bool compiles = !driver.compiler_path.empty();
  return "{\"libraries\": [" + Quote(driver.runtime_path) +
         (compiles ? ", " + Quote(driver.compiler_path) : "") +
         "], \"emulated\": " + (driver.emulated ? "true" : "false") +
         ", \"compiler\": " + (compiles ? "true" : "false") + ", " + DescribeCard(driver) + "}";
}

void CheckGroups(const jda_ascend_problem& p) {
  if (p.groups < 1 || p.channels % p.groups != 0) {
    throw Error(
        JDA_ASCEND_INVALID_ARGUMENT,
        "group=" + std::to_string(p.groups) + " does not divide c=" + std::to_string(p.channels));
  }
}

void EnqueueCall(Operation operation, const jda_ascend_problem& problem,
                 const jda_ascend_arrays& arrays, aclrtStream stream) {
  CheckGroups(problem);
  InitialisedDriver();
  Device& device = TheDevice(ThreadsCard());
  const CurrentCard current(device.card());
  if (!HasSamples(problem)) return EnqueueZeros(operation, problem, arrays, stream);
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
  CheckGroups(problem);
  CheckMaps(problem, arrays);
  if (WantsNothing(operation, arrays)) return;
  if (!HasSamples(problem)) return FillZeros(operation, problem, arrays);
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

const char* jda_ascend_describe() {
  const int code = Guard([&] { jda_ascend::description = jda_ascend::Describe(); });
  return code == JDA_ASCEND_OK ? jda_ascend::description.c_str() : nullptr;
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
