// What vector calls have in common: the mask registers that a call sets and how it leaves them, and
// checks of its tensors. The instructions themselves are the machine's.
#pragma once

#include "machine/vector.h"
#include "tensor.h"

namespace api {

// Fields of hardware registers, each behind its name: whether all numbers fit.
template <class F, class... More>
bool check_fields(const Caller& by, const char* field, const F& value, const More&... more) {
  if (!value.fits()) {
    current().error("field-range", by, ": ", field, " is ", value.value,
                    ", which its register field cannot hold");
  }
  bool others = true;
  if constexpr (sizeof...(more) > 0) others = check_fields(by, more...);
  return value.fits() && others;
}

// The mask argument of a call: a number of lanes, or their bits. MASK_PLACEHOLDER goes with
// isSetMask = false.
struct Mask {
  template <class Number, class = std::enable_if_t<std::is_convertible_v<Number, uint64_t>>>
  Mask(Number lanes) : lanes(static_cast<uint64_t>(lanes)) {}
  Mask(const uint64_t* bits) : bits(bits) {}
  uint64_t lanes = 0;
  const uint64_t* bits = nullptr;
};

// Which lanes a call works on: a count of elements, or a mask and repeats.
struct CountForm {
  int64_t count;
};
struct MaskForm {
  Mask mask;
  bool set_mask;
  int64_t repeats;
};

class Call {
 public:
  Call(const Caller& by) : core(current()), by(by) {}
  Call(const Caller& by, const CountForm& form, uint32_t bytes) : Call(by) {
    count(form.count, bytes);
  }
  Call(const Caller& by, const MaskForm& form, uint32_t bytes) : Call(by) {
    masked(form.mask, form.set_mask, form.repeats, bytes);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    if (counted_) core.reset_masks();
  }

  // The count form: counter mode for this call alone, then back to a full mask.
  void count(int64_t elements, uint32_t bytes) {
    if (elements < 0) {
      core.error("count-range", by, " of ", elements, " elements");
      elements = 0;
    }
    core.set_mask_mode(true);
    core.set_vector_mask(0, elements);
    counted_ = true;
    select(1, bytes);
  }
  void masked(const Mask& mask, bool set_mask, int64_t repeats, uint32_t bytes);
  void select(int64_t repeats, uint32_t bytes);
  // Instructions that sets no mask, or all of it.
  void whole(int64_t repeats, uint32_t bytes) {
    lanes = Lanes::contiguous(repeats * (kRepeat / bytes), kRepeat / bytes);
  }

  template <class T>
  Operand operand(const AscendC::LocalTensor<T>& tensor, const char* what, int64_t block_stride,
                  int64_t repeat_stride) {
    const Operand o{tensor.address(), sizeof(T), static_cast<uint32_t>(block_stride),
                    static_cast<uint32_t>(repeat_stride)};
    if (lanes.repeats) tensor.check(by, what, extent(lanes, o), kBlock);
    return o;
  }
  template <class T>
  Operand target(const AscendC::LocalTensor<T>& tensor, int64_t block_stride,
                 int64_t repeat_stride) {
    if (block_stride == 0 && lanes.per_repeat * sizeof(T) > kBlock) {
      core.unspecified("stride-zero", by,
                       " with dstBlkStride 0: the order of the blocks is undefined");
    }
    return operand(tensor, "dst", block_stride, repeat_stride);
  }
  VectorInstruction instruction() { return VectorInstruction(core, by, lanes); }

  Core& core;
  const Caller by;
  Lanes lanes;

 private:
  bool counted_ = false;
};

// What the registers say. Addresses behind so many elements that no UB holds them would wrap.
inline void Call::select(int64_t repeats, uint32_t bytes) {
  if (core.mask.counter && core.mask.low > kUbBytes / bytes) {
    core.error("count-range", by, " of ", core.mask.low,
               " elements, more than UB holds: not executed");
    lanes = {};
    return;
  }
  lanes = selected_lanes(core.mask, repeats, bytes);
}

inline void Call::masked(const Mask& mask, bool set_mask, int64_t repeats, uint32_t bytes) {
  const uint32_t per_repeat = kRepeat / bytes;
  if (repeats < 0 || repeats > kMaxRepeats) {
    core.error("repeat-range", by, ": repeatTime is ", repeats, ", which is not within 0 to 255");
    repeats = std::max<int64_t>(0, repeats);
  }
  if (!set_mask) {
    if (!core.mask.owned) {
      core.unspecified("mask-inherited", by,
                       " with isSetMask = false uses the mask that another call "
                       "left in the register");
    }
  } else if (mask.bits) {
    core.set_vector_mask(bytes == 2 ? mask.bits[1] : 0, mask.bits[0]);
  } else {
    if (core.mask.counter) {
      core.error("mask-counter", by, " in counter mode of ", mask.lanes,
                 " lanes: the register takes the bits that stand for them as a number");
    } else if (mask.lanes > per_repeat) {
      core.error("mask-range", by, ": mask is ", mask.lanes, ", of ", per_repeat,
                 " lanes in a repeat");
    }
    const int64_t n = std::min<uint64_t>(mask.lanes, 128);
    core.set_vector_mask(first_lanes(n - 64), first_lanes(n));
  }
  select(repeats, bytes);
}

// Strides of the count form: whole repeats, one after another. Narrower operands of a wide
// instruction take fewer blocks.
constexpr int64_t packed(uint32_t size_of, uint32_t widest) { return 8 * size_of / widest; }

struct UnaryStrides {
  int64_t dst_block = 1, src_block = 1, dst = 8, src = 8;
};

using BinaryStrides = AscendC::BinaryRepeatParams;
inline const BinaryStrides& strides(const Caller& by, const BinaryStrides& p) {
  check_fields(by, "dstBlkStride", p.dstBlkStride, "src0BlkStride", p.src0BlkStride,
               "src1BlkStride", p.src1BlkStride, "dstRepStride", p.dstRepStride, "src0RepStride",
               p.src0RepStride, "src1RepStride", p.src1RepStride);
  return p;
}
inline UnaryStrides strides(const Caller& by, const AscendC::UnaryRepeatParams& p) {
  check_fields(by, "dstBlkStride", p.dstBlkStride, "srcBlkStride", p.srcBlkStride, "dstRepStride",
               p.dstRepStride, "srcRepStride", p.srcRepStride);
  return {p.dstBlkStride, p.srcBlkStride, p.dstRepStride, p.srcRepStride};
}
inline UnaryStrides strides(const Caller& by, const AscendC::CopyRepeatParams& p) {
  check_fields(by, "dstStride", p.dstStride, "srcStride", p.srcStride, "dstRepeatSize",
               p.dstRepeatSize, "srcRepeatSize", p.srcRepeatSize);
  return {p.dstStride, p.srcStride, p.dstRepeatSize, p.srcRepeatSize};
}

// A parameter that takes its type from the others.
template <class T>
using Same = std::common_type_t<T>;

template <class T, class U>
constexpr void check_fused_types() {
  static_assert((std::is_same_v<T, U> && one_of<T, half, float>) ||
                    (std::is_same_v<T, float> && std::is_same_v<U, half>),
                "half with half, float with float, or half into float");
}

}  // namespace api
