// Calls that move elements between lanes.
#pragma once

#include "machine/rearrange.h"
#include "vector.h"

namespace api {

template <class T>
Window window(Call& call, const AscendC::LocalTensor<T>& src) {
  src.check(call.by, "src", 0, kBlock);
  return {src.address(), static_cast<uint32_t>(std::max<int64_t>(src.bytes(), 0))};
}

template <class T>
void gather(Call& call, const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
            const AscendC::LocalTensor<uint32_t>& offsets, uint32_t base, int64_t repeat_stride) {
  static_assert(storable<T>, "Gather does not take this type");
  // An offset for each lane.
  const uint32_t step = call.lanes.per_repeat * sizeof(uint32_t) / kBlock;
  const Operand index = call.operand(offsets, "srcOffset", 1, step);
  const Operand to = call.target(dst, 1, repeat_stride);
  const Window from = window(call, src);
  if (base > from.bytes) {
    call.core.error("gather-bounds", call.by, ": srcBase lies behind the source");
    return;
  }
  emulator::gather<T>(call.instruction(), to, from, index, base);
}

// The count form: whole repeats under a full mask, then the rest under a mask of its own, which
// stays in the register. Repeats are counted in eight bits.
template <class T>
void gather_count(Call& call, const AscendC::LocalTensor<T>& dst,
                  const AscendC::LocalTensor<T>& src, const AscendC::LocalTensor<uint32_t>& offsets,
                  uint32_t base, uint32_t count) {
  constexpr uint32_t per = kRepeat / sizeof(T);
  const uint32_t whole = count / per, rest = count % per;
  if (whole > kMaxRepeats) {
    call.core.error("repeat-range", call.by, " of ", count, " elements takes ", whole,
                    " repeats, of which the hardware takes ", whole % 256);
  }
  if (whole) {
    call.masked(per, true, whole % 256, sizeof(T));
    gather(call, dst, src, offsets, base, 8);
  }
  if (rest) {
    call.masked(rest, true, 1, sizeof(T));
    gather(call, dst[whole * per], src, offsets[whole * per], base, 8);
  }
}

template <class T, class U>
void gather_mask(Call& call, const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
                 const AscendC::LocalTensor<U>* bits, int pattern, bool counter, uint32_t mask,
                 const AscendC::GatherMaskParams& p, uint64_t& kept) {
  static_assert(storable<T>, "GatherMask does not take this type");
  check_fields(call.by, "src0BlockStride", p.src0BlockStride, "repeatTimes", p.repeatTimes,
               "src0RepeatStride", p.src0RepeatStride, "src1RepeatStride", p.src1RepeatStride);
  if (!bits && (pattern < 1 || pattern > 7)) {
    call.core.error("gather-pattern", call.by, ": pattern ", pattern, ", not within 1 to 7");
  }
  if (counter && (mask == 0 || mask > kUbBytes / sizeof(T))) {
    call.core.error("count-range", call.by, " in counter mode of ", mask,
                    " elements, which are none or more than UB holds: not executed");
    mask = 0;
  }
  // In counter mode the mask counts the elements of each repeat.
  call.core.set_mask_mode(counter);
  call.core.set_vector_mask(0, mask);
  const uint32_t per = counter ? mask : kRepeat / sizeof(T);
  call.lanes = Lanes::of_each(per, p.repeatTimes.value);
  const Operand from = call.operand(src, "src0", p.src0BlockStride.value, p.src0RepeatStride.value);
  const uint64_t room = std::max<int64_t>(0, dst.bytes()) / sizeof(T);
  Kept keeps;
  keeps.pattern = bits ? 0 : pattern;
  if (bits) {
    keeps.bits = bits->address();
    keeps.bit_step = p.src1RepeatStride.value * kBlock;
    if (call.lanes.repeats) {
      bits->check(call.by, "src1", (call.lanes.repeats - 1ull) * keeps.bit_step + (per + 7) / 8,
                  kBlock);
    }
  }
  if (call.lanes.repeats) dst.check(call.by, "dst", 0, kBlock);
  kept = squeeze<T>(call.instruction(), dst.address(), room, from, keeps);
  if (kept > room) {
    call.core.error("ub-bounds", call.by, " keeps ", kept, " elements, of which dst holds ", room);
  }
  call.core.set_mask_mode(false);
}

}  // namespace api

namespace AscendC {

template <class T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src,
            const LocalTensor<uint32_t>& srcOffset, const uint32_t srcBaseAddr,
            const uint32_t count, Site site = Site::here()) {
  api::Call call({"Gather", site});
  api::gather_count(call, dst, src, srcOffset, srcBaseAddr, count);
}
template <class T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src,
            const LocalTensor<uint32_t>& srcOffset, const uint32_t srcBaseAddr,
            const api::Mask& mask, const Byte& repeat_time, const Short& dstRepStride,
            Site site = Site::here()) {
  api::check_fields({"Gather", site}, "dstRepStride", dstRepStride);
  api::Call call({"Gather", site}, api::MaskForm{mask, true, repeat_time.value}, sizeof(T));
  api::gather(call, dst, src, srcOffset, srcBaseAddr, dstRepStride.value);
}

template <class T, class U>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0,
                const LocalTensor<U>& src1Pattern, const bool reduceMode, const uint32_t mask,
                const GatherMaskParams& params, uint64_t& rsvdCnt, Site site = Site::here()) {
  static_assert(emulator::one_of<U, uint16_t, uint32_t> && sizeof(U) == sizeof(T),
                "the bits are as wide as the elements: uint16_t or uint32_t");
  api::Call call({"GatherMask", site});
  api::gather_mask<T, U>(call, dst, src0, &src1Pattern, 0, reduceMode, mask, params, rsvdCnt);
}
template <class T>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const uint8_t src1Pattern,
                const bool reduceMode, const uint32_t mask, const GatherMaskParams& params,
                uint64_t& rsvdCnt, Site site = Site::here()) {
  api::Call call({"GatherMask", site});
  api::gather_mask<T, uint32_t>(call, dst, src0, nullptr, src1Pattern, reduceMode, mask, params,
                                rsvdCnt);
}

// Each of eight source elements fills a block of its own.
template <class T>
void Brcb(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const Byte& repeat_time,
          const BrcbRepeatParams& params, Site site = Site::here()) {
  static_assert(api::storable<T>, "Brcb does not take this type");
  api::check_fields({"Brcb", site}, "repeatTime", repeat_time, "dstBlkStride", params.dstBlkStride,
                    "dstRepStride", params.dstRepStride);
  api::Call call({"Brcb", site});
  call.core.set_vector_mask(~0ull, ~0ull);
  call.whole(repeat_time.value, sizeof(T));
  if (call.lanes.repeats == 0) return;
  const auto to = call.target(dst, params.dstBlkStride.value ? params.dstBlkStride.value : 1,
                              params.dstRepStride.value);
  src0.check({"Brcb", site}, "src", call.lanes.repeats * 8 * sizeof(T), emulator::kBlock);
  emulator::broadcast_blocks<T>(call.instruction(), to, src0.address());
}

}  // namespace AscendC
