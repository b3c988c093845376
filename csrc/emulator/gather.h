// Calls that move elements between lanes.
#pragma once

#include <memory>

#include "compare.h"

namespace emulator {

// Which bytes a gather reads is known only from values in UB. In program order they are at hand;
// in adversarial order the source is touched as a whole, and the judge leaves it to the plain run.
template <class T, class Offsets>
void gather_source(VectorCall& call, const AscendC::LocalTensor<T>& src, uint32_t bytes,
                   Offsets offsets) {
  if (call.core.adversarial()) {
    if (src.bytes() > 0) call.i.unjudged.add(src.address(), src.bytes());
    return;
  }
  offsets([&](uint64_t offset) {
    if (static_cast<int64_t>(offset + bytes) <= src.bytes())
      call.i.reads.add(src.address() + offset, bytes);
  });
}

template <class T>
void gather_call(VectorCall& call, const AscendC::LocalTensor<T>& dst,
                 const AscendC::LocalTensor<T>& src, const AscendC::LocalTensor<uint32_t>& offsets,
                 uint32_t base, int64_t repeat_stride) {
  static_assert(storable<T>, "Gather does not take this type");
  const uint32_t per = call.lanes.per_repeat;
  const uint32_t step = per * sizeof(uint32_t) / kBlock;  // an offset for each lane
  const Operand index = call.read(offsets, "srcOffset", 1, step);
  const Operand to = call.write(dst, 1, repeat_stride);
  if (!src.usable(call.i, "src", 0, kBlock)) call.i.valid = false;
  if (static_cast<int64_t>(base) > src.bytes()) {
    call.core.error("gather-bounds", "Gather: srcBase lies behind the source", call.i.site);
  }
  if (!call.i.valid || call.lanes.repeats == 0) return;
  const Lanes lanes = call.lanes;
  gather_source(call, src, sizeof(T), [&](auto visit) {
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      for (const LaneRun& run : lanes.of(r)) {
        for (uint32_t lane = run.begin; lane < run.begin + run.count; ++lane) {
          visit(base + static_cast<uint64_t>(*at<uint32_t>(call.core.ub(), index.lane(r, lane))));
        }
      }
    }
  });
  const uint32_t from = src.address(), size = src.bytes();
  if (to.address < from + size && from < to.address + extent(lanes, to)) {
    call.core.error("overlap-repeats", "Gather: source and destination overlap", call.i.site);
  }
  uint64_t elements = 0;
  for (uint32_t r = 0; r < lanes.repeats; ++r) {
    for (const LaneRun& run : lanes.of(r)) elements += run.count;
  }
  call.i.work.repeats = lanes.repeats;
  call.i.work.cycles = elements / call.core.options.cost.gather_element;
  Core* core = &call.core;
  const Site site = call.i.site;
  core->issue(call.i, [=](uint8_t* ub) {
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      for (const LaneRun& run : lanes.of(r)) {
        for (uint32_t lane = run.begin; lane < run.begin + run.count; ++lane) {
          const uint64_t offset =
              base + static_cast<uint64_t>(*at<uint32_t>(ub, index.lane(r, lane)));
          if (offset + sizeof(T) > size || offset % sizeof(T)) {
            core->error("gather-bounds",
                        "Gather: offset " + std::to_string(offset) + " of a source of " +
                            std::to_string(size) + " bytes, or not a multiple of the element size",
                        site);
            continue;
          }
          std::memcpy(ub + to.lane(r, lane), ub + from + offset, sizeof(T));
        }
      }
    }
  });
}

// The bits of the fixed patterns 1 to 7.
constexpr bool pattern_bit(int pattern, uint32_t lane) {
  return pattern == 7 ||
         (pattern <= 2 ? lane % 2 == uint32_t(pattern - 1) : lane % 4 == uint32_t(pattern - 3));
}

template <class T, class U>
void gather_mask_call(Core& core, const AscendC::LocalTensor<T>& dst,
                      const AscendC::LocalTensor<T>& src, const AscendC::LocalTensor<U>* bits,
                      int pattern, bool counter, uint32_t mask, const AscendC::GatherMaskParams& p,
                      uint64_t& kept, Site site) {
  static_assert(storable<T>, "GatherMask does not take this type");
  VectorCall call("GatherMask", site);
  check_field(core, "GatherMask", site, "src0BlockStride", p.src0BlockStride);
  check_field(core, "GatherMask", site, "repeatTimes", p.repeatTimes);
  check_field(core, "GatherMask", site, "src0RepeatStride", p.src0RepeatStride);
  check_field(core, "GatherMask", site, "src1RepeatStride", p.src1RepeatStride);
  if (!bits && (pattern < 1 || pattern > 7)) {
    core.error("gather-pattern",
               "GatherMask: pattern " + std::to_string(pattern) + ", not within 1 to 7", site);
  }
  if (counter && mask == 0)
    core.error("count-range", "GatherMask in counter mode of 0 elements", site);
  const uint32_t per = counter ? mask : kRepeat / sizeof(T), repeats = p.repeatTimes.value;
  call.lanes.per_repeat = per;
  call.lanes.repeats = per ? repeats : 0;
  call.lanes.runs = call.lanes.tail = Lanes::first(per);
  const Lanes lanes = call.lanes;
  const Operand from = call.read(src, "src0", p.src0BlockStride.value, p.src0RepeatStride.value);
  const uint32_t bit_step = p.src1RepeatStride.value * kBlock, bit_bytes = (per + 7) / 8;
  uint64_t most = static_cast<uint64_t>(repeats) * per;
  if (!bits) {
    most = 0;
    for (uint32_t lane = 0; lane < per; ++lane) most += pattern_bit(pattern, lane);
    most *= repeats;
  } else if (lanes.repeats) {
    if (!bits->usable(call.i, "src1", (lanes.repeats - 1ull) * bit_step + bit_bytes, kBlock))
      call.i.valid = false;
    for (uint32_t r = 0; call.i.valid && r < lanes.repeats; ++r) {
      call.i.reads.add(bits->address() + r * bit_step, bit_bytes);
    }
  }
  const uint64_t room = std::max<int64_t>(0, dst.bytes()) / sizeof(T);
  const uint64_t written = bits ? std::min(most, room) : most;
  if (!dst.usable(call.i, "dst", written * sizeof(T), kBlock)) call.i.valid = false;
  const uint32_t to = dst.address();
  const uint32_t wanted = bits ? bits->address() : 0;
  if (lanes.repeats) {
    const bool in_place = to == from.address && from.block_stride == 1 &&
                          from.repeat_stride * kBlock >= per * sizeof(T);
    const uint32_t end = to + written * sizeof(T);
    const bool meets_source = to < from.address + extent(lanes, from) && from.address < end;
    const bool meets_bits =
        bits && to < wanted + (lanes.repeats - 1) * bit_step + bit_bytes && wanted < end;
    if ((meets_source && !in_place) || meets_bits) {
      core.error("overlap-repeats", "GatherMask: source and destination overlap", site);
    }
  }
  kept = 0;
  for (int k = 0; k < 3; ++k) core.timeline.mask();
  core.mask.counter = false;
  core.mask.leave(0, mask);
  if (lanes.repeats == 0 || !call.i.valid) return;
  call.i.writes.add(to, written * sizeof(T));
  call.i.defines = false;
  call.i.work.repeats = repeats * ((per * sizeof(T) + kRepeat - 1) / kRepeat);
  struct Result {
    bool ready = false;
    uint64_t kept = 0;
  };
  const auto result = std::make_shared<Result>();
  const bool tensor = bits != nullptr;
  core.issue(call.i, [=](uint8_t* ub) {
    uint64_t n = 0;
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      for (uint32_t lane = 0; lane < per; ++lane) {
        const bool keep = tensor ? ub[wanted + r * bit_step + lane / 8] >> lane % 8 & 1
                                 : pattern_bit(pattern, lane);
        if (!keep) continue;
        if (n < room) std::memmove(ub + to + n * sizeof(T), ub + from.lane(r, lane), sizeof(T));
        ++n;
      }
    }
    result->kept = n;
    result->ready = true;
  });
  core.read_vector_register([result] { return result->ready; }, site);
  kept = result->kept;
  if (kept > room) {
    core.error(
        "ub-bounds",
        "GatherMask keeps " + std::to_string(kept) + " elements, more than its destination holds",
        site);
  }
  core.judge.define(to, std::min(kept, room) * sizeof(T));
}

}  // namespace emulator

namespace AscendC {

template <class T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src,
            const LocalTensor<uint32_t>& srcOffset, const uint32_t srcBaseAddr,
            const uint32_t count, Site site = Site::here()) {
  emulator::VectorCall call("Gather", site);
  constexpr uint32_t per = emulator::kRepeat / sizeof(T);
  call.lanes = emulator::Lanes::contiguous(count, per);
  if (count) {  // by masks: one for whole repeats, one for the rest
    const uint32_t last = count % per ? count % per : per;
    call.core.timeline.mask();
    if (count > per && last < per) call.core.timeline.mask();
    call.core.mask.leave(emulator::first_lanes(int64_t{last} - 64), emulator::first_lanes(last));
  }
  emulator::gather_call(call, dst, src, srcOffset, srcBaseAddr, 8);
}
template <class T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src,
            const LocalTensor<uint32_t>& srcOffset, const uint32_t srcBaseAddr, const uint64_t mask,
            const Byte& repeat_time, const Short& dstRepStride, Site site = Site::here()) {
  emulator::VectorCall call("Gather", site);
  emulator::check_field(call.core, "Gather", site, "dstRepStride", dstRepStride);
  call.masked(emulator::MaskArgument::first(mask), true, repeat_time.value, sizeof(T));
  emulator::gather_call(call, dst, src, srcOffset, srcBaseAddr, dstRepStride.value);
}
template <class T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src,
            const LocalTensor<uint32_t>& srcOffset, const uint32_t srcBaseAddr,
            const uint64_t mask[], const Byte& repeat_time, const Short& dstRepStride,
            Site site = Site::here()) {
  emulator::VectorCall call("Gather", site);
  emulator::check_field(call.core, "Gather", site, "dstRepStride", dstRepStride);
  call.masked(emulator::MaskArgument::pattern(mask, sizeof(T)), true, repeat_time.value, sizeof(T));
  emulator::gather_call(call, dst, src, srcOffset, srcBaseAddr, dstRepStride.value);
}

// Whole blocks: eight offsets for each repeat.
template <class T>
void Gatherb(const LocalTensor<T>& dst, const LocalTensor<T>& src,
             const LocalTensor<uint32_t>& offset, const Byte& repeat_time,
             const GatherRepeatParams& params, Site site = Site::here()) {
  using emulator::kBlock;
  static_assert(emulator::one_of<T, uint16_t, uint32_t>, "Gatherb takes uint16_t and uint32_t");
  emulator::VectorCall call("Gatherb", site);
  auto& core = call.core;
  emulator::check_field(core, "Gatherb", site, "repeatTime", repeat_time);
  emulator::check_field(core, "Gatherb", site, "dstBlkStride", params.dstBlkStride);
  emulator::check_field(core, "Gatherb", site, "dstRepStride", params.dstRepStride);
  const uint32_t repeats = repeat_time.value;
  core.timeline.mask();
  core.mask.leave(~0ull, ~0ull);
  if (repeats == 0) return;
  call.lanes = emulator::whole_repeats(repeats, emulator::kRepeat / sizeof(T));
  const auto to = call.write(dst, params.dstBlkStride.value, params.dstRepStride.value);
  if (!offset.usable(call.i, "offset", repeats * kBlock, kBlock)) call.i.valid = false;
  if (!src.usable(call.i, "src", 0, kBlock)) call.i.valid = false;
  if (!call.i.valid) return;
  call.i.reads.add(offset.address(), repeats * kBlock);
  const uint32_t index = offset.address(), from = src.address(), size = src.bytes();
  emulator::gather_source(call, src, kBlock, [&](auto visit) {
    for (uint32_t k = 0; k < repeats * 8; ++k)
      visit(*emulator::at<uint32_t>(core.ub(), index + 4 * k));
  });
  if (to.address < from + size && from < to.address + emulator::extent(call.lanes, to)) {
    core.error("overlap-repeats", "Gatherb: source and destination overlap", site);
  }
  call.i.work.repeats = repeats;
  call.i.work.cycles = repeats * 8 / core.options.cost.gather_element;
  core.issue(call.i, [=, &core](uint8_t* ub) {
    for (uint32_t k = 0; k < repeats * 8; ++k) {
      const uint64_t at = *emulator::at<uint32_t>(ub, index + 4 * k);
      if (at % kBlock || at + kBlock > size) {
        core.error("gather-bounds",
                   "Gatherb: offset " + std::to_string(at) +
                       " lies outside of the source, or is not a multiple of 32",
                   site);
        continue;
      }
      std::memcpy(ub + to.lane(k / 8, k % 8 * kBlock / sizeof(T)), ub + from + at, kBlock);
    }
  });
}

template <class T, class U>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0,
                const LocalTensor<U>& src1Pattern, const bool reduceMode, const uint32_t mask,
                const GatherMaskParams& params, uint64_t& rsvdCnt, Site site = Site::here()) {
  static_assert(emulator::one_of<U, uint16_t, uint32_t> && sizeof(U) == sizeof(T),
                "the bits are as wide as the elements: uint16_t or uint32_t");
  emulator::gather_mask_call<T, U>(emulator::current(), dst, src0, &src1Pattern, 0, reduceMode,
                                   mask, params, rsvdCnt, site);
}
template <class T>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const uint8_t src1Pattern,
                const bool reduceMode, const uint32_t mask, const GatherMaskParams& params,
                uint64_t& rsvdCnt, Site site = Site::here()) {
  emulator::gather_mask_call<T, uint32_t>(emulator::current(), dst, src0, nullptr, src1Pattern,
                                          reduceMode, mask, params, rsvdCnt, site);
}

// Each of eight source elements fills a block of its own.
template <class T>
void Brcb(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const Byte& repeat_time,
          const BrcbRepeatParams& params, Site site = Site::here()) {
  static_assert(emulator::storable<T>, "Brcb does not take this type");
  using emulator::kBlock;
  emulator::VectorCall call("Brcb", site);
  emulator::check_field(call.core, "Brcb", site, "repeatTime", repeat_time);
  emulator::check_field(call.core, "Brcb", site, "dstBlkStride", params.dstBlkStride);
  emulator::check_field(call.core, "Brcb", site, "dstRepStride", params.dstRepStride);
  call.core.timeline.mask();
  call.core.mask.leave(~0ull, ~0ull);
  const uint32_t repeats = repeat_time.value;
  if (repeats == 0) return;
  call.lanes = emulator::whole_repeats(repeats, emulator::kRepeat / sizeof(T));
  const auto to = call.write(dst, params.dstBlkStride.value ? params.dstBlkStride.value : 1,
                             params.dstRepStride.value);
  const uint32_t bytes = repeats * 8 * sizeof(T), from = src0.address();
  if (!src0.usable(call.i, "src", bytes, kBlock)) call.i.valid = false;
  if (!call.i.valid) return;
  call.i.reads.add(from, bytes);
  if (to.address < from + bytes && from < to.address + emulator::extent(call.lanes, to)) {
    call.core.error("overlap-repeats", "Brcb: source and destination overlap", site);
  }
  call.i.work.repeats = repeats;
  call.core.issue(call.i, [=](uint8_t* ub) {
    constexpr uint32_t lanes = kBlock / sizeof(T);
    for (uint32_t k = 0; k < repeats * 8; ++k) {
      const T value = *emulator::at<T>(ub, from + k * sizeof(T));
      T* block = emulator::at<T>(ub, to.lane(k / 8, k % 8 * lanes));
      for (uint32_t lane = 0; lane < lanes; ++lane) block[lane] = value;
    }
  });
}

}  // namespace AscendC
