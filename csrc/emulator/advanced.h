// Library calls that are built from several instructions, over scratch behind the last buffer of
// UB, which the library takes without asking.
#pragma once

#include "gather.h"
#include "mask.h"
#include "reduce.h"

namespace emulator {

template <class T>
AscendC::LocalTensor<T> library_scratch(const char* name, uint32_t bytes, Site site) {
  Core& core = current();
  const uint32_t begin = round_up(core.ub_used, kBlock), end = kUbBytes - 64;
  if (begin + bytes > end) {
    core.error("scratch",
               std::string(name) + " needs " + std::to_string(bytes) +
                   " bytes of UB behind the last buffer, where " + std::to_string(end - begin) +
                   " are free",
               site);
    throw Abandoned();
  }
  core.judge.forget(begin, bytes);
  return AscendC::LocalTensor<T>::view(begin, bytes, AscendC::TPosition::VECCALC, -1, 0);
}

}  // namespace emulator

namespace AscendC {

// [m, 1] to [m, k] with axis 1, [1, k] to [m, k] with axis 0; k is a multiple of 32 bytes.
template <class T, int32_t dim, int32_t axis, bool isReuseSource = false>
void BroadCast(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t dstShape[dim],
               const uint32_t /*srcShape*/[dim], Site site = Site::here()) {
  static_assert(emulator::one_of<T, half, float>, "BroadCast takes half and float");
  static_assert(dim == 2 && (axis == 0 || axis == 1), "two axes");
  constexpr uint32_t per = emulator::lanes_of<T>(), lanes = emulator::kBlock / sizeof(T);
  const uint32_t m = dstShape[0], k = dstShape[1], blocks = k / lanes;
  if (k % lanes || blocks > 255) {
    emulator::current().error(
        "broadcast-shape",
        "BroadCast to rows that are not a multiple of 32 bytes, or too long, is not emulated",
        site);
    throw emulator::Abandoned();
  }
  LocalTensor<T> from = src;
  CopyRepeatParams params(1, 1, blocks, blocks);
  if (axis == 1) {
    const uint32_t groups = (m + 7) / 8;
    from = emulator::library_scratch<T>("BroadCast", groups * 8 * emulator::kBlock, site);
    for (uint32_t g = 0; g < groups; g += 254) {
      Brcb(from[g * 8 * lanes], src[g * 8], std::min(254u, groups - g), BrcbRepeatParams(1, 8),
           site);
    }
    PipeBarrier<PIPE_V>(site);
    params = CopyRepeatParams(1, 0, blocks, 1);
  } else {
    params.srcRepeatSize = 0;
  }
  for (uint32_t column = 0; column < k; column += per) {
    const uint64_t width = std::min(per, k - column);
    for (uint32_t row = 0; row < m; row += 255) {
      Copy(dst[row * k + column], axis == 1 ? from[row * lanes] : from[column], width,
           std::min(255u, m - row), params, site);
    }
  }
  PipeBarrier<PIPE_V>(site);
  emulator::current().mask = {};
}

// Sums of the first n elements of rows of `inner`, which is a multiple of 32 bytes.
template <class T>
void Sum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const SumParams& params,
         Site site = Site::here()) {
  constexpr uint32_t per = emulator::lanes_of<T>();
  auto& core = emulator::current();
  if (params.inner * sizeof(T) % emulator::kBlock || params.n > params.inner || params.n == 0) {
    core.error("sum-shape", "Sum: inner must be a multiple of 32 bytes, and n from 1 to inner",
               site);
    throw emulator::Abandoned();
  }
  for (uint32_t row = 0; row < params.outter; ++row) {
    const auto from = src[row * params.inner];
    if (params.n <= per) {
      RepeatReduceSum<T>(dst[row], from, 1, params.n, 1, 1, 1, 8, site);
      continue;
    }
    const uint32_t sums = (params.n + per - 1) / per;
    const auto partial = emulator::library_scratch<T>(
        "Sum", emulator::round_up(sums * sizeof(T), emulator::kBlock), site);
    PipeBarrier<PIPE_V>(site);
    ReduceSum<T>(dst[row], from, partial, params.n, site);
  }
  core.mask = {};
  if (params.n <= per) return;
  uint32_t last = params.n;  // of long rows the body sets the mode back, and not the mask
  while (last > per) last = (last + per - 1) / per;
  core.mask.leave(0, last);
}

// Rounds down.
template <class T>
void Floor(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count,
           Site site = Site::here()) {
  static_assert(emulator::floating<T>, "Floor takes half and float");
  emulator::unary<false, T, T>("Floor", site, emulator::form(count), {}, dst, src,
                               [](auto a) { return std::floor(a); });
}
template <class T>
void Floor(const LocalTensor<T>& dst, const LocalTensor<T>& src, Site site = Site::here()) {
  Floor<T>(dst, src, src.GetSize(), site);
}

}  // namespace AscendC
