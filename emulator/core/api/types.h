// Data types and enumerations of Ascend C, and the qualifiers, which mean nothing on a host.
#pragma once

#include <cstdint>
#include <limits>

#include "machine/numbers.h"

#ifndef __global__  // the run-time compiler finds kernels by it
#define __global__
#endif
#define __aicore__
#define __gm__
#define __ubuf__
#define __vector__
#define __cube__
#define __host__
#define __mix__(...)
#define __schedmode__(...)
#define __sync_noalias__
#define __BLOCK_LOCAL__
#define __inout_pipe__(...)
#define __in_pipe__(...)
#define __out_pipe__(...)
#define GM_ADDR uint8_t*
#define ASCEND_IS_AIV (true)
#define ASCEND_IS_AIC (false)
#define KERNEL_TASK_TYPE_DEFAULT(type) \
  static_assert(type == KERNEL_TYPE_AIV_ONLY, "vector kernels only")

enum KernelMetaType { KERNEL_TYPE_AIV_ONLY, KERNEL_TYPE_AIC_ONLY, KERNEL_TYPE_MIX_AIV_1_0 };

enum pipe_t { PIPE_S, PIPE_V, PIPE_MTE2, PIPE_MTE3, PIPE_ALL };
enum event_t {
  EVENT_ID0,
  EVENT_ID1,
  EVENT_ID2,
  EVENT_ID3,
  EVENT_ID4,
  EVENT_ID5,
  EVENT_ID6,
  EVENT_ID7
};
using TEventID = int8_t;

namespace AscendC {

using ::TEventID;

enum class TPosition : uint8_t { GM, VECIN, VECOUT, VECCALC };
using QuePosition = TPosition;

enum class HardEvent : uint8_t {
  S_V,
  V_S,
  S_MTE2,
  MTE2_S,
  S_MTE3,
  MTE3_S,
  V_MTE2,
  MTE2_V,
  V_MTE3,
  MTE3_V,
  MTE2_MTE3,
  MTE3_MTE2,
  V_V,
};

// In the order of the machine's Rounding, as CMPMODE is in that of its Comparison.
enum class RoundMode {
  CAST_NONE,
  CAST_RINT,
  CAST_FLOOR,
  CAST_CEIL,
  CAST_ROUND,
  CAST_TRUNC,
  CAST_ODD
};
enum class CMPMODE { LT, GT, EQ, LE, GE, NE };
enum class MaskMode { NORMAL, COUNTER };

constexpr uint64_t MASK_PLACEHOLDER = 0;

// A field of a hardware register: takes any number, so that one which does not fit can be
// reported rather than lost.
template <class T, int64_t most = std::numeric_limits<T>::max()>
struct Field {
  int64_t value = 0;
  constexpr Field() = default;
  template <class I>
  constexpr Field(I value) : value(static_cast<int64_t>(value)) {}
  constexpr operator T() const { return static_cast<T>(value); }
  constexpr bool fits() const { return value >= 0 && value <= most; }
};
using Byte = Field<uint8_t>;
using Short = Field<uint16_t>;
using Word = Field<uint32_t>;
using TwelveBits = Field<uint16_t, 4095>;

struct DataCopyParams {
  Short blockCount, blockLen;  // blocks of 32 bytes, as the gaps
  union {
    Short srcGap;
    Short srcStride;
  };
  union {
    Short dstGap;
    Short dstStride;
  };
  DataCopyParams(Short count = 1, Short length = 0, Short source_gap = 0, Short target_gap = 0)
      : blockCount(count), blockLen(length), srcGap(source_gap), dstGap(target_gap) {}
};

struct DataCopyExtParams {
  Short blockCount;
  Word blockLen;              // bytes
  Word srcStride, dstStride;  // from end to start: bytes in GM, blocks in UB
  Word rsv;
  DataCopyExtParams(Short count = 1, Word length = 0, Word source = 0, Word target = 0,
                    Word reserved = 0)
      : blockCount(count), blockLen(length), srcStride(source), dstStride(target), rsv(reserved) {}
};

template <class T>
struct DataCopyPadExtParams {
  bool isPad;
  Byte leftPadding, rightPadding;  // elements
  T paddingValue;
  DataCopyPadExtParams(bool pad = false, Byte left = 0, Byte right = 0, T value = T())
      : isPad(pad), leftPadding(left), rightPadding(right), paddingValue(value) {}
};

struct BinaryRepeatParams {
  Byte dstBlkStride = 1, src0BlkStride = 1, src1BlkStride = 1;
  Byte dstRepStride = 8, src0RepStride = 8, src1RepStride = 8;
  BinaryRepeatParams() = default;
  BinaryRepeatParams(Byte dst_block, Byte src0_block, Byte src1_block, Byte dst, Byte src0,
                     Byte src1)
      : dstBlkStride(dst_block),
        src0BlkStride(src0_block),
        src1BlkStride(src1_block),
        dstRepStride(dst),
        src0RepStride(src0),
        src1RepStride(src1) {}
};

struct UnaryRepeatParams {
  Short dstBlkStride, srcBlkStride;
  Byte dstRepStride, srcRepStride;
  UnaryRepeatParams(Short dst_block = 1, Short src_block = 1, Byte dst = 8, Byte src = 8)
      : dstBlkStride(dst_block), srcBlkStride(src_block), dstRepStride(dst), srcRepStride(src) {}
};

struct BrcbRepeatParams {
  Short dstBlkStride, dstRepStride;
  BrcbRepeatParams(Short block = 1, Short repeat = 8) : dstBlkStride(block), dstRepStride(repeat) {}
};

struct CopyRepeatParams {
  Short dstStride, srcStride;
  TwelveBits dstRepeatSize, srcRepeatSize;
  CopyRepeatParams(Short dst_block = 1, Short src_block = 1, TwelveBits dst = 8, TwelveBits src = 8)
      : dstStride(dst_block), srcStride(src_block), dstRepeatSize(dst), srcRepeatSize(src) {}
};

struct GatherMaskParams {
  Byte src0BlockStride;
  Short repeatTimes, src0RepeatStride;
  Byte src1RepeatStride;
  GatherMaskParams(Byte block = 1, Short repeats = 0, Short src0 = 8, Byte src1 = 8)
      : src0BlockStride(block),
        repeatTimes(repeats),
        src0RepeatStride(src0),
        src1RepeatStride(src1) {}
};

struct SumParams {
  uint32_t outter = 1, inner = 0, n = 0;
};

}  // namespace AscendC
