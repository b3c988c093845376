// The Ascend C kernels under the emulator, as a C library: arrays of the host in and out, and the
// emulator's judgement. One call is what a launcher does on a card: tiling, allocation, launches.

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "emulator.h"
#include "kernel_operator.h"
#include "make_tiling.h"

extern "C" void deformable_aggregation(GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR,
                                       GM_ADDR, jda_ascend::Tiling);
extern "C" void deformable_aggregation_grad(GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR,
                                            GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, jda_ascend::Tiling);
#ifdef JDA_WITH_NAIVE
void run_naive(emulator::Gm&, const emulator::Options&, const jda_ascend::Call&, uint8_t* const*,
               emulator::Report&);
#endif

namespace {

using jda_ascend::Call;
using jda_ascend::Tiling;

struct Request {
  int64_t batch, rows, channels, anchors, points, cameras, scales, groups;
  int64_t y_axis, cores, automatic_sync, deterministic, naive;
  int64_t maps_format, weight_format;
  uint64_t seed;
  double dma_latency;
  uint64_t l2_bytes;  // 0: those of the card
  // feature_maps, spatial_shape, scale_start_index, sample_locations, weight, cotangent: inputs
  const void* inputs[6];
  // out; or grad_feature_maps, grad_sample_locations, grad_weight: null if not wanted
  void* outputs[3];
  const char* trace;
};

struct Answer {
  int64_t findings;
  double microseconds;      // of the kernels
  double set_microseconds;  // of what the host has set before
  double slowest, mean;     // modelled cycles of a core
  double bytes_in, bytes_out;
  double busy[4];  // modelled cycles of each pipe, summed over cores
  double instructions[4];
  char text[16384];
};

// A kernel starts on a stack that holds anything, not zeros.
[[gnu::noinline]] void soil_stack() {
  volatile uint8_t stack[16384];
  for (volatile uint8_t& byte : stack) byte = 0xff;
}

struct Emulation {
  const Request& request;
  Answer& answer;
  emulator::Gm gm;
  uint8_t* inputs[6] = {};
  uint8_t* outputs[3] = {};
  int64_t input_steps[6] = {}, output_steps[3] = {};  // bytes of a batch element
  std::string text;

  void add(const emulator::Report& report) {
    answer.findings += report.findings.size();
    answer.microseconds += report.modelled_microseconds;
    for (const auto& finding : report.findings) text += finding.text() + "\n";
    double slowest = 0, all = 0;
    for (const auto& core : report.cores) {
      slowest = std::max(slowest, core.cycles);
      all += core.cycles;
      for (int p = 0; p < 4; ++p) {
        answer.busy[p] += core.pipe[p].busy;
        answer.instructions[p] += core.pipe[p].instructions;
      }
      answer.bytes_in += core.pipe[emulator::index(emulator::Pipe::MTE2)].bytes;
      answer.bytes_out += core.pipe[emulator::index(emulator::Pipe::MTE3)].bytes;
    }
    answer.slowest += slowest;
    if (!report.cores.empty()) answer.mean += all / report.cores.size();
    if (request.trace != nullptr) report.write_trace(request.trace);
  }

  emulator::Options options() const {
    emulator::Options o;
    o.cores = static_cast<int>(request.cores);
    o.seed = request.seed;
    o.automatic_sync = request.automatic_sync != 0;
    o.worst_casts = request.seed != 0;  // the worst that an order may bring
    o.trace = request.trace != nullptr;
    o.cost.dma_latency = request.dma_latency;
    if (request.l2_bytes) o.cost.l2_bytes = request.l2_bytes;
    return o;
  }

  void set(uint8_t* to, uint8_t value, uint64_t bytes) {
    gm.fill(to, value, bytes);
    answer.set_microseconds += options().cost.set_microseconds(bytes, gm.bytes());
  }

  // In as many launches as the sums of a gradient need, which share a workspace.
  std::string launch_all(const Call& call) {
    std::vector<Tiling> tilings;
    const std::string error = jda_ascend::MakeLaunches(call, card(), tilings);
    if (!error.empty()) return error;
    int64_t bytes = 0, first = 0;
    for (const Tiling& tiling : tilings) bytes = std::max(bytes, tiling.workspace_bytes);
    auto* workspace = static_cast<uint8_t*>(gm.allocate(bytes, "workspace"));
    for (const Tiling& tiling : tilings) {
      launch(call, tiling, first, workspace);
      first += tiling.batch;
    }
    gm.release(workspace);
    return "";
  }

  jda_ascend::Card card() const { return {static_cast<int32_t>(request.cores)}; }

  void launch(const Call& call, const Tiling& tiling, int64_t first, uint8_t* workspace) {
    set(workspace, 0, tiling.workspace_zeroed);
    uint8_t *in[6], *out[3];
    for (int i = 0; i < 6; ++i) in[i] = inputs[i] + first * input_steps[i];
    for (int i = 0; i < 3; ++i) out[i] = outputs[i] + first * output_steps[i];
    add(emulator::launch(gm, options(), tiling.cores, [&] {
      soil_stack();
      if (call.operation == jda_ascend::Operation::kForward) {
        deformable_aggregation(in[0], in[1], in[2], in[3], in[4], out[0], workspace, tiling);
      } else {
        deformable_aggregation_grad(in[0], in[1], in[2], in[3], in[4], in[5],
                                    call.wants_features ? out[0] : nullptr,
                                    call.wants_locations ? out[1] : nullptr,
                                    call.wants_weight ? out[2] : nullptr, workspace, tiling);
      }
    }));
  }
};

Call call_of(const Request& r) {
  Call call{r.batch,   r.rows,   r.channels,
            r.anchors, r.points, r.cameras,
            r.scales,  r.groups, static_cast<int32_t>(r.y_axis)};
  call.maps_format = static_cast<jda_ascend::Format>(r.maps_format);
  call.weight_format = static_cast<jda_ascend::Format>(r.weight_format);
  return call;
}

}  // namespace

// Returns 0 if the kernels ran; what the emulator found is in the answer.
extern "C" int jda_emulate(const Request* request, const int64_t* input_bytes,
                           const int64_t* output_bytes, int backward, Answer* answer) {
  std::memset(answer, 0, sizeof(*answer));
  const Request& r = *request;
  Emulation e{r, *answer};
  const char* names[] = {"feature_maps",     "spatial_shape", "scale_start_index",
                         "sample_locations", "weight",        "cotangent"};
  for (int i = 0; i < 6; ++i) {
    if (i == 5 && !backward) break;
    e.inputs[i] = static_cast<uint8_t*>(e.gm.allocate(input_bytes[i], names[i]));
    e.gm.write(e.inputs[i], r.inputs[i], input_bytes[i]);
  }
  for (int i = 0; i < 3; ++i) {
    if (r.outputs[i] == nullptr) continue;
    e.outputs[i] = static_cast<uint8_t*>(e.gm.allocate(output_bytes[i], "output"));
    e.gm.fill(e.outputs[i], 0xff, output_bytes[i]);  // NaN shows what was never written
  }
  for (int i : {0, 3, 4, 5}) e.input_steps[i] = input_bytes[i] / std::max<int64_t>(r.batch, 1);
  for (int i = 0; i < 3; ++i) e.output_steps[i] = output_bytes[i] / std::max<int64_t>(r.batch, 1);
  const bool sums = r.maps_format != jda_ascend::kFloat32;  // in the workspace
  if (e.outputs[0] && backward && !sums) e.set(e.outputs[0], 0, output_bytes[0]);  // is added to

  Call call = call_of(r);
  std::string error;
#ifdef JDA_WITH_NAIVE
  if (r.naive) {
    call.operation = backward ? jda_ascend::Operation::kBackward : jda_ascend::Operation::kForward;
    for (int i = 1; backward && i < 3; ++i) e.set(e.outputs[i], 0, output_bytes[i]);
    uint8_t* arrays[9];
    std::copy(e.inputs, e.inputs + 6, arrays);
    std::copy(e.outputs, e.outputs + 3, arrays + 6);
    emulator::Report report;
    run_naive(e.gm, e.options(), call, arrays, report);
    e.add(report);
  } else
#endif
      if (!backward) {
    error = e.launch_all(call);
  } else {
    call.operation = jda_ascend::Operation::kBackward;
    call.wants_features = r.outputs[0] != nullptr;
    call.wants_locations = r.outputs[1] != nullptr;
    call.wants_weight = r.outputs[2] != nullptr;
    if (r.deterministic && call.wants_features) {
      call.wants_features = false;
      if (call.wants_locations || call.wants_weight) error = e.launch_all(call);
      call.wants_features = call.deterministic = true;
      call.wants_locations = call.wants_weight = false;
    }
    if (error.empty()) error = e.launch_all(call);
  }
  for (int i = 0; i < 3; ++i) {
    if (r.outputs[i] != nullptr) e.gm.read(r.outputs[i], e.outputs[i], output_bytes[i]);
  }
  const std::string& text = error.empty() ? e.text : error;
  std::strncpy(answer->text, text.c_str(), sizeof(answer->text) - 1);
  return error.empty() ? 0 : 1;
}
