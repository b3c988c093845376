// What all vector calls have in common: operands are checked and recorded, then the instruction is
// issued with a function of single elements.
#pragma once

#include <type_traits>

#include "lanes.h"

namespace emulator {

template <class T, class... Allowed>
constexpr bool one_of = (std::is_same_v<T, Allowed> || ...);

// Arithmetic of a lane: 16-bit floats compute in float and round once.
template <class T>
using Wide = std::conditional_t<one_of<T, half, bfloat16_t>, float, T>;

class VectorCall {
 public:
  VectorCall(const char* name, Site site) : core(current()), i(core.draft(Pipe::V, name, site)) {}

  // The count form: in counter mode for this call alone, then back to a full mask.
  void count(uint64_t elements, uint32_t bytes) {
    for (int k = 0; k < 4; ++k) core.timeline.mask();
    core.mask = {};
    lanes = Lanes::contiguous(elements, kRepeat / bytes);
  }
  void masked(const MaskArgument& mask, bool set_mask, int64_t repeats, uint32_t bytes) {
    lanes = select_lanes(core, i.name, i.site, mask, set_mask, repeats, bytes);
  }
  template <class T>
  Operand operand(const AscendC::LocalTensor<T>& tensor, const char* name, int64_t block_stride,
                  int64_t repeat_stride) {
    Operand o{tensor.address(), sizeof(T), static_cast<uint32_t>(block_stride),
              static_cast<uint32_t>(repeat_stride)};
    if (lanes.repeats && !tensor.usable(i, name, extent(lanes, o), kBlock)) i.valid = false;
    return o;
  }
  template <class T>
  Operand read(const AscendC::LocalTensor<T>& tensor, const char* name, int64_t block_stride,
               int64_t repeat_stride) {
    const Operand o = operand(tensor, name, block_stride, repeat_stride);
    if (i.valid) add_footprint(lanes, o, i.reads);
    return o;
  }
  template <class T>
  Operand write(const AscendC::LocalTensor<T>& tensor, int64_t block_stride,
                int64_t repeat_stride) {
    if (block_stride == 0 && lanes.per_repeat * sizeof(T) > kBlock) {
      core.report(
          "stride-zero", Severity::unspecified,
          std::string(i.name) + " with dstBlkStride 0: the order of the blocks is undefined",
          i.site);
    }
    const Operand o = operand(tensor, "dst", block_stride, repeat_stride);
    if (i.valid) add_footprint(lanes, o, i.writes);
    return o;
  }
  // Whole instruction; f(dst, lanes...) works on one contiguous piece.
  template <size_t n, class F>
  void issue(const std::array<Operand, n>& operands, F f) {
    if (lanes.repeats == 0) return;
    i.work.repeats = lanes.repeats;
    core.issue(i, [lanes = lanes, operands, f](uint8_t* ub) {
      each_piece(lanes, operands,
                 [&](const std::array<uint32_t, n>& at, uint32_t count) { f(ub, at, count); });
    });
  }

  Core& core;
  Instruction& i;
  Lanes lanes;
};

// Strides of the count form: whole repeats, one after another. Narrower operands of a wide
// instruction take fewer blocks.
constexpr int64_t packed(uint32_t size_of, uint32_t widest) { return 8 * size_of / widest; }

template <class T>
T* at(uint8_t* ub, uint32_t address) {
  return reinterpret_cast<T*>(ub + address);
}

struct BinaryStrides {
  int64_t dst_block = 1, src0_block = 1, src1_block = 1, dst = 8, src0 = 8, src1 = 8;
};
struct UnaryStrides {
  int64_t dst_block = 1, src_block = 1, dst = 8, src = 8;
};

inline BinaryStrides strides(Core& core, const char* name, Site site,
                             const AscendC::BinaryRepeatParams& p) {
  check_field(core, name, site, "dstBlkStride", p.dstBlkStride);
  check_field(core, name, site, "src0BlkStride", p.src0BlkStride);
  check_field(core, name, site, "src1BlkStride", p.src1BlkStride);
  check_field(core, name, site, "dstRepStride", p.dstRepStride);
  check_field(core, name, site, "src0RepStride", p.src0RepStride);
  check_field(core, name, site, "src1RepStride", p.src1RepStride);
  return {p.dstBlkStride, p.src0BlkStride, p.src1BlkStride,
          p.dstRepStride, p.src0RepStride, p.src1RepStride};
}
inline UnaryStrides strides(Core& core, const char* name, Site site,
                            const AscendC::UnaryRepeatParams& p) {
  check_field(core, name, site, "dstBlkStride", p.dstBlkStride);
  check_field(core, name, site, "srcBlkStride", p.srcBlkStride);
  check_field(core, name, site, "dstRepStride", p.dstRepStride);
  check_field(core, name, site, "srcRepStride", p.srcRepStride);
  return {p.dstBlkStride, p.srcBlkStride, p.dstRepStride, p.srcRepStride};
}
inline UnaryStrides strides(Core& core, const char* name, Site site,
                            const AscendC::CopyRepeatParams& p) {
  check_field(core, name, site, "dstStride", p.dstStride);
  check_field(core, name, site, "srcStride", p.srcStride);
  check_field(core, name, site, "dstRepeatSize", p.dstRepeatSize);
  check_field(core, name, site, "srcRepeatSize", p.srcRepeatSize);
  return {p.dstStride, p.srcStride, p.dstRepeatSize, p.srcRepeatSize};
}

// A parameter that takes its type from the others.
template <class T>
using Same = std::common_type_t<T>;

inline uint64_t checked_count(VectorCall& call, int64_t count) {
  if (count >= 0) return count;
  call.core.error("count-range",
                  std::string(call.i.name) + " of " + std::to_string(count) + " elements",
                  call.i.site);
  return 0;
}

// Integers wrap around on overflow.
template <class T>
auto wrap(T value) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<std::make_unsigned_t<T>>(value);
  } else {
    return value;
  }
}
template <class T>
auto product(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<uint32_t>(wrap(a)) * static_cast<uint32_t>(wrap(b));
  } else {
    return a * b;
  }
}

template <class T, class U>
constexpr void check_fused_types() {
  static_assert((std::is_same_v<T, U> && one_of<T, half, float>) ||
                    (std::is_same_v<T, float> && std::is_same_v<U, half>),
                "half with half, float with float, or half into float");
}

}  // namespace emulator
