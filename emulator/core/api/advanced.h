// Library calls that are built from several instructions, over scratch behind the last buffer of
// UB, which the library takes without asking.
#pragma once

#include "gather.h"
#include "mask.h"
#include "reduce.h"

namespace api {

template <class T>
AscendC::LocalTensor<T> library_scratch(const Caller& by, uint32_t bytes) {
  Core& core = current();
  const uint32_t begin = round_up(library().ub_used, kBlock), end = kUbBytes - 64;
  if (begin + bytes > end) {
    core.error("scratch", by, " needs ", bytes, " bytes of UB behind the last buffer, where ",
               end - begin, " are free");
    throw Abandoned();
  }
  core.judge.forget(begin, bytes);
  return AscendC::LocalTensor<T>::view(begin, bytes);
}

// In counter mode: rows of k elements to rows `pitch` apart, from rows `step` blocks apart.
template <class T>
void spread_rows(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
                 uint32_t rows, uint32_t k, uint32_t pitch, uint32_t step, bool one_block,
                 Site site) {
  constexpr uint32_t lanes = kBlock / sizeof(T);
  Core& core = current();
  for (uint32_t row = 0; row < rows; row += kMaxRepeats) {
    Call call({"BroadCast", site});
    core.set_vector_mask(0, k);
    call.lanes = Lanes::of_each(k, std::min(kMaxRepeats, rows - row));
    const Operand from = call.operand(src[row * step * lanes], "src", one_block ? 0 : 1, step);
    const Operand to = call.target(dst[row * pitch], 1, pitch / lanes);
    emulator::unary<false, T, T>(call.instruction(), to, from, [](auto a) { return a; });
  }
  core.barrier(Pipe::V);
}

// One row for each of m elements.
template <class T>
void broadcast_columns(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
                       uint32_t m, uint32_t k, uint32_t pitch, Site site) {
  constexpr uint32_t lanes = kBlock / sizeof(T), kAtOnce = sizeof(T) == 2 ? 254 : 255;
  const uint32_t groups = (m + 7) / 8;
  const auto blocks = library_scratch<T>({"BroadCast", site}, groups * 8 * kBlock);
  for (uint32_t g = 0; g < groups; g += kAtOnce) {
    AscendC::Brcb(blocks[g * 8 * lanes], src[g * 8], std::min(kAtOnce, groups - g),
                  AscendC::BrcbRepeatParams(1, 8), site);
  }
  current().barrier(Pipe::V);
  spread_rows(dst, blocks, m, k, pitch, 1, true, site);
}

}  // namespace api

namespace AscendC {

// [m, 1] to [m, k] with axis 1, [1, k] to [m, k] with axis 0.
template <class T, int32_t dim, int32_t axis, bool isReuseSource = false>
void BroadCast(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t dstShape[dim],
               const uint32_t /*srcShape*/[dim], Site site = Site::here()) {
  static_assert(emulator::one_of<T, half, float>, "BroadCast takes half and float");
  static_assert(dim == 2 && (axis == 0 || axis == 1), "two axes");
  constexpr uint32_t lanes = emulator::kBlock / sizeof(T);
  auto& core = emulator::current();
  const uint32_t m = dstShape[0], k = dstShape[1], pitch = (k + lanes - 1) / lanes * lanes;
  if (pitch / lanes > emulator::kMaxRepeats) {
    core.error("broadcast-shape", site, "BroadCast to rows that are too long is not emulated");
    throw emulator::Abandoned();
  }
  if ((axis == 1 ? m : k) == 1) {
    api::fetch_and_sync<emulator::Pipe::V, emulator::Pipe::S>(site);
    const T value = src.GetValue(0, site);
    api::fetch_and_sync<emulator::Pipe::S, emulator::Pipe::V>(site);
    Duplicate(dst, value, static_cast<int32_t>(m * k), site);
    core.barrier(emulator::Pipe::V);
    return;
  }
  core.set_mask_mode(true);
  LocalTensor<T> to = dst;
  if (k % lanes) {  // rows with gaps first, which GatherMask then leaves out
    const uint32_t behind = axis == 1 ? (m + 7) / 8 * 8 * emulator::kBlock : 0;
    const uint32_t bytes = behind + m * pitch * sizeof(T);
    to = api::library_scratch<T>({"BroadCast", site}, bytes)[behind / sizeof(T)];
  }
  if constexpr (axis == 1) {
    api::broadcast_columns(to, src, m, k, pitch, site);
  } else {
    api::spread_rows(to, src, m, k, pitch, 0, false, site);
  }
  if (k % lanes) {
    uint64_t kept = 0;
    const GatherMaskParams rows(1, m, pitch / lanes, 0);
    GatherMask(dst, to, static_cast<uint8_t>(7), true, k, rows, kept, site);
    core.barrier(emulator::Pipe::V);
  }
  core.reset_masks();
}

// Sums of the first n elements of rows of `inner`, which is a multiple of 32 bytes.
template <class T>
void Sum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const SumParams& params,
         Site site = Site::here()) {
  constexpr uint32_t per = api::lanes_of<T>();
  auto& core = emulator::current();
  if (params.inner * sizeof(T) % emulator::kBlock || params.n > params.inner || params.n == 0) {
    core.error("sum-shape", site,
               "Sum: inner must be a multiple of 32 bytes, and n from 1 to inner");
    throw emulator::Abandoned();
  }
  const auto add_up = [&](const LocalTensor<T>& to, const LocalTensor<T>& from, uint32_t n) {
    api::Call call({"Sum", site});
    call.select(1, sizeof(T));
    api::reduce<T>(call, to, from, 1, 1, 8);
    return (n + per - 1) / per;
  };
  core.set_mask_mode(true);
  if (params.n <= per) {
    core.set_vector_mask(0, params.n);
    for (uint32_t row = 0; row < params.outter; ++row) {
      add_up(dst[row], src[row * params.inner], params.n);
    }
    core.reset_masks();
    return;
  }
  const uint32_t sums = (params.n + per - 1) / per;
  const auto partial = api::library_scratch<T>(
      {"Sum", site}, emulator::round_up(sums * sizeof(T), emulator::kBlock));
  for (uint32_t row = 0; row < params.outter; ++row) {
    core.set_vector_mask(0, params.n);
    uint32_t left = add_up(partial, src[row * params.inner], params.n);
    core.barrier(emulator::Pipe::V);
    while (left > 1) {
      core.set_vector_mask(0, left);
      left = add_up(left <= per ? dst[row] : partial, partial, left);
      core.barrier(emulator::Pipe::V);
    }
  }
  core.set_mask_mode(false);  // and the mask stays as it is
}

}  // namespace AscendC
