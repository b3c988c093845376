// Which lanes a vector instruction works on, and where they lie in UB.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "core.h"

namespace emulator {

// A register with the lowest bits set.
constexpr uint64_t first_lanes(int64_t count) {
  return count <= 0 ? 0 : count >= 64 ? ~0ull : (1ull << count) - 1;
}

struct LaneRun {
  uint32_t begin, count;
};

// The active lanes of each repeat, as runs. The last repeat may have others.
struct Lanes {
  uint32_t repeats = 0;
  uint32_t per_repeat = 0;
  std::vector<LaneRun> runs, tail;

  const std::vector<LaneRun>& of(uint32_t repeat) const {
    return repeat + 1 == repeats ? tail : runs;
  }
  bool full() const {
    return runs.size() == 1 && runs[0].begin == 0 && runs[0].count == per_repeat;
  }

  static std::vector<LaneRun> first(uint64_t count) {
    return count ? std::vector<LaneRun>{{0, static_cast<uint32_t>(count)}} : std::vector<LaneRun>{};
  }
  static std::vector<LaneRun> from_bits(uint64_t high, uint64_t low, uint32_t per_repeat);
  static Lanes contiguous(uint64_t count, uint32_t per_repeat) {
    Lanes lanes;
    lanes.per_repeat = per_repeat;
    lanes.repeats = count / per_repeat + (count % per_repeat != 0);
    lanes.runs = first(std::min<uint64_t>(count, per_repeat));
    lanes.tail = first(count == 0 ? 0 : (count - 1) % per_repeat + 1);
    return lanes;
  }
  // For instructions whose counter tells the elements of each repeat, however many.
  static Lanes of_each(uint32_t count, uint32_t repeats) {
    Lanes lanes;
    lanes.per_repeat = count;
    lanes.repeats = count ? repeats : 0;
    lanes.runs = lanes.tail = first(count);
    return lanes;
  }
};

// One operand: 32-byte blocks, of which those of a repeat are block_stride blocks apart.
struct Operand {
  uint32_t address = 0;
  uint32_t size_of = 0;
  uint32_t block_stride = 1, repeat_stride = 8;

  uint32_t lane(uint32_t repeat, uint32_t lane) const {
    const uint32_t byte = lane * size_of;
    return address + (repeat * repeat_stride + byte / kBlock * block_stride) * kBlock +
           byte % kBlock;
  }
  bool dense(const Lanes& lanes) const {
    return (block_stride == 1 || lanes.per_repeat * size_of <= kBlock) &&
           (repeat_stride * kBlock == lanes.per_repeat * size_of || lanes.repeats <= 1);
  }
};

// Calls f(lane, lanes) for pieces of runs that lie within `step` lanes, counted from lane 0.
template <class F>
void each_chunk(const std::vector<LaneRun>& runs, uint32_t step, F f) {
  for (const LaneRun& run : runs) {
    for (uint32_t lane = run.begin; lane < run.begin + run.count;) {
      const uint32_t stop = std::min(run.begin + run.count, (lane / step + 1) * step);
      f(lane, stop - lane);
      lane = stop;
    }
  }
}

void add_footprint(const Lanes& lanes, const Operand& operand, Footprint& to);
uint64_t extent(const Lanes& lanes, const Operand& operand);  // bytes from its start

// Mean number of further cycles per repeat because operands share a group of UB banks.
double bank_conflicts(const Lanes& lanes, const Operand* sources, int count);

// Rules about operands of one instruction that share memory.
enum class Accumulation { none, allowed };  // dst may be the second source, with a stride of 0
void check_overlap(Core& core, const Instruction& i, const Lanes& lanes, const Operand& dst,
                   const Operand* sources, int count, Accumulation accumulation);

// Calls f(addresses, lanes) for pieces in which the lanes of every operand are contiguous.
template <size_t n, class F>
void each_piece(const Lanes& lanes, const std::array<Operand, n>& operands, F f) {
  std::array<uint32_t, n> at;
  bool dense = lanes.full(), rows = true;
  uint32_t widest = 1;
  for (const Operand& o : operands) {
    dense = dense && o.dense(lanes);
    rows = rows && o.block_stride == 1;
    widest = std::max(widest, o.size_of);
  }
  if (dense && lanes.repeats) {
    for (size_t k = 0; k < n; ++k) at[k] = operands[k].address;
    const auto& tail = lanes.tail;
    if (tail.size() == 1 && tail[0].begin == 0) {
      f(at, (lanes.repeats - 1) * lanes.per_repeat + tail[0].count);
      return;
    }
  }
  const uint32_t step = rows ? lanes.per_repeat : kBlock / widest;
  for (uint32_t r = 0; r < lanes.repeats; ++r) {
    each_chunk(lanes.of(r), step, [&](uint32_t lane, uint32_t count) {
      for (size_t k = 0; k < n; ++k) at[k] = operands[k].lane(r, lane);
      f(at, count);
    });
  }
}

// What the mask registers select for elements of `bytes`. In counter mode they count elements, and
// as many repeats follow as that takes.
Lanes selected_lanes(const MaskRegister& mask, uint32_t repeats, uint32_t bytes);

}  // namespace emulator
