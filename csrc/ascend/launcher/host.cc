#include "host.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace jda_ascend {
namespace {

constexpr size_t kChunkBytes = size_t{4} << 20;
constexpr size_t kAlignment = 512;  // what transfers on the card like best

// Elements of a batch, as a problem of their own.
struct Chunk {
  jda_ascend_problem problem;
  jda_ascend_arrays arrays;
};

Chunk Cut(const jda_ascend_problem& problem, const jda_ascend_arrays& arrays, int64_t begin,
          int64_t end) {
  Chunk chunk = {problem, ArraysFrom(begin, problem, arrays)};
  chunk.problem.sizes.batch = end - begin;
  return chunk;
}

size_t Up(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A chunk on its way through a lane.
class Passage {
 public:
  Passage(Operation operation, const Chunk& chunk, int cores)
      : operation_(operation),
        host_(chunk.arrays),
        problem_(chunk.problem),
        of_(chunk.problem),
        plan_(MakePlan(operation, chunk.problem, chunk.arrays, cores)) {
    const auto add = [this](auto, size_t bytes) { bytes_ += Up(bytes); };
    VisitInputs(add);
    VisitResults(add);
    bytes_ += plan_.workspace_bytes;
  }

  size_t bytes() const { return bytes_; }

  void Start(Lane& lane, const Kernels& kernels) {
    char* next = lane.Reserve(bytes_);
    const auto place = [this, &next](auto array, size_t bytes) {
      card_.*array = reinterpret_cast<std::decay_t<decltype(card_.*array)>>(next);
      next += Up(bytes);
    };
    VisitInputs([&](auto array, size_t bytes) {
      lane.staging().Upload(next, host_.*array, bytes, lane.stream());
      place(array, bytes);
    });
    VisitResults(place);
    Enqueue(plan_, kernels, problem_, card_, next, lane.stream());
  }

  void Collect(Lane& lane) const {
    VisitResults([&](auto array, size_t bytes) {
      lane.staging().Download(host_.*array, card_.*array, bytes, lane.stream());
    });
    lane.staging().Finish(lane.stream());
  }

 private:
  using Arrays = jda_ascend_arrays;

  template <typename Visit>
  void VisitInputs(const Visit& visit) const {
    if (plan_.reads_features) visit(&Arrays::feature_maps, of_.feature_maps);
    visit(&Arrays::spatial_shape, of_.spatial_shape);
    visit(&Arrays::scale_start_index, of_.scale_start_index);
    visit(&Arrays::sample_locations, of_.sample_locations);
    visit(&Arrays::weight, of_.weight);
    if (operation_ == Operation::kBackward) visit(&Arrays::cotangent, of_.out);
  }

  template <typename Visit>
  void VisitResults(const Visit& visit) const {
    if (operation_ == Operation::kForward) return visit(&Arrays::out, of_.out);
    if (host_.grad_feature_maps) visit(&Arrays::grad_feature_maps, of_.feature_maps);
    if (host_.grad_sample_locations) {
      visit(&Arrays::grad_sample_locations, of_.sample_locations);
    }
    if (host_.grad_weight) visit(&Arrays::grad_weight, of_.weight);
  }

  const Operation operation_;
  const Arrays host_;
  Arrays card_ = {};
  const jda_ascend_problem problem_;
  const Bytes of_;  // each array
  const Plan plan_;
  size_t bytes_ = 0;
};

bool TryReserve(Lane& lane, size_t bytes) {
  try {
    lane.Reserve(bytes);
    return true;
  } catch (const Error& error) {
    if (error.code != JDA_ASCEND_RESOURCE_EXHAUSTED) throw;
    return false;
  }
}

void GiveUpWhatIsIdle(Device& device) {
  device.lanes.Trim();
  device.workspaces.Trim();
}

// Returns how many of the lanes have room for `bytes`. What is idle is given up before the second one
// goes without, and what the second one holds too before memory is said to be short.
size_t ReserveLanes(Device& device, Lanes::Loan (&loans)[2], size_t bytes) {
  if (!TryReserve(*loans[0], bytes)) {
    GiveUpWhatIsIdle(device);
    if (loans[1]) loans[1]->Release();
    loans[0]->Reserve(bytes);
  }
  if (!loans[1]) return 1;
  if (TryReserve(*loans[1], bytes)) return 2;
  GiveUpWhatIsIdle(device);
  return TryReserve(*loans[1], bytes) ? 2 : 1;
}

std::vector<Passage> CutIntoPassages(Operation operation, const jda_ascend_problem& problem,
                                     const jda_ascend_arrays& arrays, int cores) {
  const Passage one(operation, Cut(problem, arrays, 0, 1), cores);
  const auto elements = static_cast<int64_t>((kChunkBytes + one.bytes() - 1) / one.bytes());
  std::vector<Passage> passages;
  for (int64_t begin = 0; begin < problem.sizes.batch; begin += elements) {
    const int64_t end = std::min(begin + elements, problem.sizes.batch);
    passages.emplace_back(operation, Cut(problem, arrays, begin, end), cores);
  }
  return passages;
}

}  // namespace

void ComputeOnCard(Device& device, Operation operation, const jda_ascend_problem& problem,
                   const jda_ascend_arrays& arrays) {
  std::vector<Passage> passages = CutIntoPassages(operation, problem, arrays, device.cores());
  const Kernels& kernels = device.kernels();
  Lanes::Loan loans[2] = {device.lanes.Take(),
                          passages.size() > 1 ? device.lanes.TryTake() : Lanes::Loan()};
  size_t bytes = 0;
  for (const Passage& passage : passages) bytes = std::max(bytes, passage.bytes());
  const size_t lanes = ReserveLanes(device, loans, bytes);
  for (size_t i = 0; i < passages.size() + lanes; ++i) {
    Lane& lane = *loans[i % lanes];
    if (i >= lanes) passages[i - lanes].Collect(lane);
    if (i < passages.size()) passages[i].Start(lane, kernels);
  }
  for (Lanes::Loan& loan : loans) loan.Succeed();
}

void FillZeros(Operation operation, const jda_ascend_problem& problem,
               const jda_ascend_arrays& arrays) {
  const Bytes of(problem);
  const auto fill = [](void* array, size_t bytes) {
    if (array != nullptr && bytes != 0) std::memset(array, 0, bytes);
  };
  if (operation == Operation::kForward) return fill(arrays.out, of.out);
  fill(arrays.grad_feature_maps, of.feature_maps);
  fill(arrays.grad_sample_locations, of.sample_locations);
  fill(arrays.grad_weight, of.weight);
}

}  // namespace jda_ascend
