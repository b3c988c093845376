// Sums over lanes.
#pragma once

#include "sync.h"
#include "vector.h"

namespace emulator {

// Pairwise, as a tree; lanes that take no part count as 0.
template <class T>
T tree_sum(const T* values, uint32_t count) {
  T level[128];
  for (uint32_t k = 0; k < count; ++k) level[k] = values[k];
  for (; count > 1; count /= 2) {
    for (uint32_t k = 0; k < count / 2; ++k) {
      level[k] = static_cast<T>(static_cast<Wide<T>>(level[2 * k]) +
                                static_cast<Wide<T>>(level[2 * k + 1]));
    }
  }
  return level[0];
}

// A reduction sums groups of `group` lanes; a group without active lanes leaves its result alone.
// Results of a repeat are neighbours; those of the next start `step` elements further.
template <class T>
void reduce_call(VectorCall& call, const AscendC::LocalTensor<T>& dst,
                 const AscendC::LocalTensor<T>& src, uint32_t group, int64_t step,
                 int64_t block_stride, int64_t repeat_stride, uint32_t alignment) {
  static_assert(one_of<T, half, float>, "reductions take half and float");
  if (step < 0 || step > 65535 * 64)
    call.core.error("field-range", std::string(call.i.name) + ": dstRepStride", call.i.site);
  if (block_stride < 0 || block_stride > 65535 || repeat_stride < 0 || repeat_stride > 65535) {
    call.core.error("field-range", std::string(call.i.name) + ": a source stride does not fit",
                    call.i.site);
  }
  const Operand from = call.read(src, "src", block_stride, repeat_stride);
  const Lanes lanes = call.lanes;
  if (lanes.repeats == 0) return;
  const uint32_t per = kRepeat / sizeof(T), groups = per / group;
  std::vector<bool> active[2];  // groups with lanes: of most repeats, of the last
  for (int tail = 0; tail < 2; ++tail) {
    active[tail].assign(groups, false);
    for (const LaneRun& run : tail ? lanes.tail : lanes.runs) {
      for (uint32_t lane = run.begin; lane < run.begin + run.count; ++lane)
        active[tail][lane / group] = true;
    }
  }
  Footprint results;
  const uint32_t to = dst.address();
  uint32_t end = 0;
  for (uint32_t r = 0; r < lanes.repeats; ++r) {
    for (uint32_t g = 0; g < groups; ++g) {
      if (!active[r + 1 == lanes.repeats][g]) continue;
      const uint32_t at = (r * step + g) * sizeof(T);
      results.add(to + at, sizeof(T));
      end = std::max<uint32_t>(end, at + sizeof(T));
    }
  }
  if (!dst.usable(call.i, "dst", end, alignment)) call.i.valid = false;
  if (call.i.valid) call.i.writes.add(results);
  const uint32_t src_end = from.address + extent(lanes, from);
  const bool in_place = to == from.address && lanes.repeats == 1;
  if (to < src_end && from.address < to + end && !in_place) {
    // Later repeats must not read what earlier ones have written.
    for (uint32_t r = 1; r < lanes.repeats; ++r) {
      const uint32_t read = from.lane(r, 0), read_end = from.lane(r, 0) + kRepeat;
      if (to < read_end &&
          read < to + static_cast<uint32_t>(((r - 1) * step + groups) * sizeof(T))) {
        call.core.error("overlap-repeats",
                        std::string(call.i.name) + ": a repeat reads what an earlier repeat wrote",
                        call.i.site);
        break;
      }
    }
  }
  call.i.work.repeats = lanes.repeats;
  call.i.work.latency = call.core.options.cost.reduce_latency;
  call.core.issue(call.i, [=](uint8_t* ub) {
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      T values[128] = {};
      for (const LaneRun& run : lanes.of(r)) {
        for (uint32_t lane = run.begin; lane < run.begin + run.count; ++lane)
          values[lane] = *at<T>(ub, from.lane(r, lane));
      }
      for (uint32_t g = 0; g < groups; ++g) {
        if (active[r + 1 == lanes.repeats][g]) {
          *at<T>(ub, to + (r * step + g) * sizeof(T)) = tree_sum(values + g * group, group);
        }
      }
    }
  });
}

template <class T>
constexpr uint32_t lanes_of() {
  return kRepeat / sizeof(T);
}

}  // namespace emulator

namespace AscendC {

// A table of the reductions: old and new name, lanes summed, elements between results of repeats,
// alignment of the destination.
#define EMULATOR_REDUCE(OLD, NEW, GROUP, UNIT, ALIGNMENT, OLD_ORDER)                         \
  template <class T, bool isSetMask = true>                                                  \
  void OLD(const LocalTensor<T>& dst, const LocalTensor<T>& src,                             \
           OLD_ORDER(int32_t mask, int32_t repeat_time), int32_t dst_repeat_stride,          \
           int32_t block_stride, int32_t repeat_stride, Site site = Site::here()) {          \
    emulator::VectorCall call(#OLD, site);                                                   \
    call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time, sizeof(T));     \
    emulator::reduce_call<T>(call, dst, src, GROUP, int64_t(dst_repeat_stride) * (UNIT),     \
                             block_stride, repeat_stride, ALIGNMENT);                        \
  }                                                                                          \
  template <class T, bool isSetMask = true>                                                  \
  void OLD(const LocalTensor<T>& dst, const LocalTensor<T>& src,                             \
           OLD_ORDER(const uint64_t mask[], int32_t repeat_time), int32_t dst_repeat_stride, \
           int32_t block_stride, int32_t repeat_stride, Site site = Site::here()) {          \
    emulator::VectorCall call(#OLD, site);                                                   \
    call.masked(emulator::MaskArgument::pattern(mask, sizeof(T)), isSetMask, repeat_time,    \
                sizeof(T));                                                                  \
    emulator::reduce_call<T>(call, dst, src, GROUP, int64_t(dst_repeat_stride) * (UNIT),     \
                             block_stride, repeat_stride, ALIGNMENT);                        \
  }                                                                                          \
  template <ReduceType type, class T, class U = T, bool isSetMask = true>                    \
  void NEW(const LocalTensor<T>& dst, const LocalTensor<U>& src, int32_t mask,               \
           int32_t repeat_time, int32_t dst_repeat_stride, int32_t block_stride,             \
           int32_t repeat_stride, Site site = Site::here()) {                                \
    static_assert(std::is_same_v<T, U>, "source and destination have one type");             \
    emulator::VectorCall call(#NEW, site);                                                   \
    call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time, sizeof(T));     \
    emulator::reduce_call<T>(call, dst, src, GROUP, int64_t(dst_repeat_stride) * (UNIT),     \
                             block_stride, repeat_stride, ALIGNMENT);                        \
  }

#define EMULATOR_MASK_FIRST(mask, repeats) mask, repeats
#define EMULATOR_REPEATS_FIRST(mask, repeats) repeats, mask

EMULATOR_REDUCE(WholeReduceSum, ReduceRepeat, emulator::lanes_of<T>(), 1, sizeof(T),
                EMULATOR_MASK_FIRST)
EMULATOR_REDUCE(BlockReduceSum, ReduceDataBlock, emulator::kBlock / sizeof(T), 8, 8 * sizeof(T),
                EMULATOR_REPEATS_FIRST)
EMULATOR_REDUCE(PairReduceSum, ReducePairElem, 2, emulator::lanes_of<T>() / 2, emulator::kBlock,
                EMULATOR_REPEATS_FIRST)

template <class T, bool isSetMask = true>
void RepeatReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, int32_t repeat_time,
                     int32_t mask, int32_t /*dst_block_stride*/, int32_t block_stride,
                     int32_t dst_repeat_stride, int32_t repeat_stride, Site site = Site::here()) {
  emulator::VectorCall call("RepeatReduceSum", site);
  call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time, sizeof(T));
  emulator::reduce_call<T>(call, dst, src, emulator::lanes_of<T>(), dst_repeat_stride, block_stride,
                           repeat_stride, sizeof(T));
}

// Built in software from the others, over scratch memory.
template <class T>
void ReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src,
               const LocalTensor<T>& sharedTmpBuffer, const int32_t count,
               Site site = Site::here()) {
  constexpr int32_t per = emulator::lanes_of<T>();
  LocalTensor<T> from = src;
  for (int32_t left = count; left > 0;) {
    const int32_t whole = left / per, rest = left % per, sums = whole + (rest > 0);
    const LocalTensor<T> to = sums == 1 ? dst : sharedTmpBuffer;
    for (int32_t done = 0; done < whole; done += 248) {
      const int32_t repeats = whole - done < 248 ? whole - done : 248;
      WholeReduceSum<T>(to[done], from[done * per], per, repeats, 1, 1, 8, site);
    }
    if (rest) WholeReduceSum<T>(to[whole], from[whole * per], rest, 1, 1, 1, 8, site);
    PipeBarrier<PIPE_V>(site);
    from = to;
    left = sums == 1 ? 0 : sums;
  }
  auto& core = emulator::current();
  core.mask = {};
}

}  // namespace AscendC
