// Sums over lanes.
#pragma once

#include "machine/reduce.h"
#include "sync.h"
#include "vector.h"

namespace api {

template <class T>
constexpr uint32_t lanes_of() {
  return kRepeat / sizeof(T);
}

// A sum for each repeat, `step` elements apart.
template <class T>
void reduce(Call& call, const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
            int64_t step, int64_t block_stride, int64_t repeat_stride) {
  static_assert(one_of<T, half, float>, "reductions take half and float");
  using AscendC::Short;
  const bool fit = check_fields(call.by, "dstRepStride", Short(step), "srcBlkStride",
                                Short(block_stride), "srcRepStride", Short(repeat_stride));
  const Operand from = call.operand(src, "src", block_stride, repeat_stride);
  if (call.lanes.repeats == 0 || !fit) return;
  dst.check(call.by, "dst", ((call.lanes.repeats - 1) * step + 1) * sizeof(T), sizeof(T));
  emulator::reduce<T>(call.instruction(), dst.address(), static_cast<uint32_t>(step), from);
}

}  // namespace api

namespace AscendC {

template <class T, bool isSetMask = true>
void WholeReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const api::Mask& mask,
                    int32_t repeat_time, int32_t dst_repeat_stride, int32_t block_stride,
                    int32_t repeat_stride, Site site = Site::here()) {
  api::Call call({"WholeReduceSum", site}, api::MaskForm{mask, isSetMask, repeat_time}, sizeof(T));
  api::reduce<T>(call, dst, src, dst_repeat_stride, block_stride, repeat_stride);
}

// Through the accumulator register; the scalar unit stores the result. The waits of V and MTE3 for
// it are still queued when the call returns.
template <class T>
void ReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src,
               const LocalTensor<T>& /*sharedTmpBuffer*/, const int32_t count,
               Site site = Site::here()) {
  static_assert(emulator::one_of<T, half, float>, "reductions take half and float");
  using emulator::Pipe;
  api::Call call({"ReduceSum", site}, api::CountForm{count}, sizeof(T));
  const auto sum = emulator::accumulate<T>(call.instruction(), call.operand(src, "src", 1, 8));
  api::fetch_and_sync<Pipe::V, Pipe::S>(site);
  dst.SetValue(0, *sum, site);
  api::fetch_and_sync<Pipe::S, Pipe::V>(site);
  api::fetch_and_sync<Pipe::S, Pipe::MTE3>(site);
}

}  // namespace AscendC
