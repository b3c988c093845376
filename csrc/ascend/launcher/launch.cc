#include "launch.h"

#include <algorithm>
#include <cstring>

#include "driver.h"
#include "error.h"
#include "make_tiling.h"

namespace jda_ascend {
namespace {

struct Dtype {
  int64_t number;  // XLA's
  Format format;
  size_t bytes;
};
const Dtype kDtypes[] = {{10, kFloat16, 2}, {11, kFloat32, 4}, {16, kBfloat16, 2}};

const Dtype* Find(int64_t number) {
  for (const Dtype& dtype : kDtypes) {
    if (dtype.number == number) return &dtype;
  }
  return nullptr;
}

Call CallOf(Operation operation, const jda_ascend_problem& p) {
  Call call = {};
  static_cast<Sizes&>(call) = p.sizes;
  call.y_axis = static_cast<int32_t>(p.y_axis);
  call.operation = operation;
  call.maps_format = Find(p.feature_maps_dtype)->format;
  call.weight_format = Find(p.weight_dtype)->format;
  return call;
}

void AddLaunches(const Call& call, int cores, Plan& plan) {
  std::vector<Tiling> tilings;
  const std::string problem = MakeLaunches(call, {cores}, tilings);
  if (!problem.empty()) throw Error(JDA_ASCEND_INVALID_ARGUMENT, problem);
  int64_t first = 0;
  for (const Tiling& tiling : tilings) {
    plan.launches.push_back(
        {tiling, first, call.wants_features, call.wants_locations, call.wants_weight});
    plan.workspace_bytes =
        std::max(plan.workspace_bytes, static_cast<size_t>(tiling.workspace_bytes));
    first += tiling.batch;
  }
}

template <typename T>
T* Skip(T* array, int64_t elements, size_t bytes_of_element) {
  if (array == nullptr) return nullptr;
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(array) + elements * bytes_of_element);
}

void Clear(void* memory, size_t bytes, aclrtStream stream) {
  if (memory == nullptr || bytes == 0) return;
  TheDriver().aclrtMemsetAsync(memory, bytes, 0, bytes, stream);
}

// The parameters of a kernel: pointers to arrays, then the tiling.
class Parameters {
 public:
  void Add(const void* array) { arrays_[count_++] = array; }

  void Launch(aclrtFuncHandle kernel, Tiling tiling, aclrtStream stream) {
    const Driver& driver = TheDriver();
    const auto blocks = static_cast<uint32_t>(tiling.cores);
    // Cores of a kernel wait for each other. Two kernels that each had some of the cores would wait
    // for ever.
    aclrtLaunchKernelAttr at_once = {};
    at_once.id = ACL_RT_LAUNCH_KERNEL_ATTR_SCHEM_MODE;
    at_once.value.schemMode = 1;
    aclrtLaunchKernelCfg config = {&at_once, 1};
    if (driver.aclrtLaunchKernelWithHostArgs.found()) {
      char block[sizeof arrays_ + sizeof tiling];
      const size_t head = count_ * sizeof arrays_[0];
      std::memcpy(block, arrays_, head);
      std::memcpy(block + head, &tiling, sizeof tiling);
      driver.aclrtLaunchKernelWithHostArgs(kernel, blocks, stream, &config, block,
                                           head + sizeof tiling, nullptr, 0);
    } else {
      void* values[kMost + 1];
      for (int i = 0; i < count_; ++i) values[i] = &arrays_[i];
      values[count_] = &tiling;
      driver.aclrtLaunchKernelWithArgsArray(kernel, blocks, stream, &config, values);
    }
  }

 private:
  static constexpr int kMost = 10;
  const void* arrays_[kMost];
  int count_ = 0;
};

}  // namespace

std::string WrongDtypes(const jda_ascend_problem& problem) {
  const Dtype* const maps = Find(problem.feature_maps_dtype);
  const Dtype* const weight = Find(problem.weight_dtype);
  if (maps == nullptr) {
    return "feature_maps has dtype number " + std::to_string(problem.feature_maps_dtype) +
           " on Ascend, where 10 (float16), 11 (float32) and 16 (bfloat16) are allowed";
  }
  if (weight == nullptr || (weight != maps && weight->format != kFloat32)) {
    return "weight has dtype number " + std::to_string(problem.weight_dtype) +
           " on Ascend, where 11 (float32) and that of feature_maps are allowed";
  }
  return "";
}

Bytes::Bytes(const jda_ascend_problem& problem) {
  const Sizes& p = problem.sizes;
  const auto product = [](auto... factors) { return (size_t{1} * ... * factors); };
  const size_t of_maps = Find(problem.feature_maps_dtype)->bytes;
  const size_t of_weight = Find(problem.weight_dtype)->bytes;
  feature_maps = product(of_maps, p.batch, p.rows, p.channels);
  spatial_shape = product(sizeof(int32_t), p.cameras, p.scales, 2);
  scale_start_index = product(sizeof(int32_t), p.cameras, p.scales);
  sample_locations = product(sizeof(float), p.batch, p.anchors, p.points, p.cameras, 2);
  weight = product(of_weight, p.batch, p.anchors, p.points, p.cameras, p.scales, p.groups);
  out = product(of_maps, p.batch, p.anchors, p.channels);
}

jda_ascend_arrays ArraysFrom(int64_t first, const jda_ascend_problem& problem,
                             const jda_ascend_arrays& arrays) {
  jda_ascend_problem element = problem;
  element.sizes.batch = 1;
  const Bytes one(element);
  jda_ascend_arrays a = arrays;
  a.feature_maps = Skip(a.feature_maps, first, one.feature_maps);
  a.sample_locations = Skip(a.sample_locations, first, one.sample_locations);
  a.weight = Skip(a.weight, first, one.weight);
  a.cotangent = Skip(a.cotangent, first, one.out);
  a.out = Skip(a.out, first, one.out);
  a.grad_feature_maps = Skip(a.grad_feature_maps, first, one.feature_maps);
  a.grad_sample_locations = Skip(a.grad_sample_locations, first, one.sample_locations);
  a.grad_weight = Skip(a.grad_weight, first, one.weight);
  return a;
}

bool HasSamples(const Sizes& p) {
  return p.batch != 0 && p.anchors != 0 && p.points != 0 && p.cameras != 0 && p.scales != 0 &&
         p.channels != 0;
}

Plan MakePlan(Operation operation, const jda_ascend_problem& problem,
              const jda_ascend_arrays& arrays, int cores) {
  Plan plan;
  Call call = CallOf(operation, problem);
  if (operation == Operation::kForward) {
    plan.reads_features = true;
    AddLaunches(call, cores, plan);
    return plan;
  }
  call.wants_features = arrays.grad_feature_maps != nullptr;
  call.wants_locations = arrays.grad_sample_locations != nullptr;
  call.wants_weight = arrays.grad_weight != nullptr;
  plan.reads_features = call.wants_locations || call.wants_weight;
  if (problem.deterministic != 0 && call.wants_features) {
    // A launch of its own, in which no two cores add to the same row.
    Call features = call;
    features.deterministic = true;
    features.wants_locations = features.wants_weight = false;
    AddLaunches(features, cores, plan);
    call.wants_features = false;
  }
  if (call.wants_features || call.wants_locations || call.wants_weight) {
    AddLaunches(call, cores, plan);
  }
  return plan;
}

void Enqueue(const Plan& plan, const Kernels& kernels, const jda_ascend_problem& problem,
             const jda_ascend_arrays& all, void* workspace, aclrtStream stream) {
  const Bytes bytes(problem);
  for (const Launch& launch : plan.launches) {
    const jda_ascend_arrays arrays = ArraysFrom(launch.first, problem, all);
    Clear(workspace, static_cast<size_t>(launch.tiling.workspace_zeroed), stream);
    Parameters parameters;
    parameters.Add(arrays.feature_maps);
    parameters.Add(arrays.spatial_shape);
    parameters.Add(arrays.scale_start_index);
    parameters.Add(arrays.sample_locations);
    parameters.Add(arrays.weight);
    const bool backward = launch.writes_features || launch.writes_locations || launch.writes_weight;
    if (backward) {
      if (launch.writes_features && launch.tiling.maps_format == kFloat32) {
        Clear(arrays.grad_feature_maps, bytes.feature_maps, stream);
      }
      parameters.Add(arrays.cotangent);
      parameters.Add(launch.writes_features ? arrays.grad_feature_maps : nullptr);
      parameters.Add(launch.writes_locations ? arrays.grad_sample_locations : nullptr);
      parameters.Add(launch.writes_weight ? arrays.grad_weight : nullptr);
    } else {
      parameters.Add(arrays.out);
    }
    parameters.Add(workspace);
    parameters.Launch(backward ? kernels.backward : kernels.forward, launch.tiling, stream);
  }
}

void EnqueueZeros(Operation operation, const jda_ascend_problem& problem,
                  const jda_ascend_arrays& arrays, aclrtStream stream) {
  const Bytes bytes(problem);
  if (operation == Operation::kForward) {
    Clear(arrays.out, bytes.out, stream);
  } else {
    Clear(arrays.grad_feature_maps, bytes.feature_maps, stream);
    Clear(arrays.grad_sample_locations, bytes.sample_locations, stream);
    Clear(arrays.grad_weight, bytes.weight, stream);
  }
}

}  // namespace jda_ascend
