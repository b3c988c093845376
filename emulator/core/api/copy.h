// Copies, and the atomic mode.
#pragma once

#include "vector.h"

namespace api {

// The count form moves whole blocks: what is left over is silently not copied.
template <class T>
AscendC::DataCopyParams whole_blocks(uint64_t count, Site site) {
  const uint64_t bytes = count * sizeof(T);
  if (bytes % kBlock) {
    current().error("copy-rounds-down", site, "DataCopy of ", bytes, " bytes copies ",
                    bytes / kBlock * kBlock, ": use DataCopyPad");
  }
  return {1, bytes / kBlock, 0, 0};
}

inline void check_block_count(const Caller& by, const AscendC::Short& count) {
  check_fields(by, "blockCount", count);
  if (count.value <= kMaxBlockCount) return;
  current().error("block-count", by, ": blockCount is ", count.value, ", more than 4095");
}

struct BlockRows {
  Rows rows;
  uint64_t src_step, dst_step;

  // The rows as they lie in GM and in UB.
  Rows between(uint64_t gm_step, uint64_t ub_step) const {
    Rows placed = rows;
    placed.gm_step = gm_step;
    placed.ub_step = ub_step;
    return placed;
  }
};

inline BlockRows block_rows(const AscendC::DataCopyParams& p, Site site) {
  check_block_count({"DataCopy", site}, p.blockCount);
  check_fields({"DataCopy", site}, "blockLen", p.blockLen, "srcGap", p.srcGap, "dstGap", p.dstGap);
  BlockRows b;
  b.rows.count = p.blockCount.value;
  b.rows.bytes = p.blockLen.value * kBlock;
  b.src_step = (p.blockLen.value + p.srcGap.value) * kBlock;
  b.dst_step = (p.blockLen.value + p.dstGap.value) * kBlock;
  return b;
}

inline Rows padded_rows(const AscendC::DataCopyExtParams& p, uint32_t size_of, bool into_ub,
                        const Caller& by) {
  Core& core = current();
  check_block_count(by, p.blockCount);
  check_fields(by, "srcStride", p.srcStride, "dstStride", p.dstStride);
  const auto len = [&](const char* what) {
    return joined(": blockLen is ", p.blockLen.value, " bytes, ", what);
  };
  if (p.blockLen.value < 0 || p.blockLen.value > kMaxPadBytes) {
    core.error("field-range", by, len("not within 0 to 2097151"));
  }
  if (into_ub && p.blockLen.value % size_of) {
    core.error("block-length", by, len("which are not whole elements"));
  }
  const int64_t gm_gap = into_ub ? p.srcStride.value : p.dstStride.value;
  if (gm_gap % size_of) {
    core.unspecified("block-length", by, len("and the stride in GM no whole elements"));
  }
  Rows rows;
  rows.count = p.blockCount.value;
  rows.bytes = p.blockLen.value;
  rows.gm_step = p.blockLen.value + gm_gap;
  rows.size_of = size_of;
  rows.pads = true;
  return rows;
}

inline void set_padding(Rows& rows, const AscendC::Byte& left, const AscendC::Byte& right,
                        bool is_pad, const void* value, uint32_t size_of, const Caller& by) {
  check_fields(by, "leftPadding", left, "rightPadding", right);
  if (left.value * size_of > kBlock || right.value * size_of > kBlock) {
    current().error("padding-range", by, ": a padding is longer than 32 bytes");
  }
  rows.left = left.value * size_of;
  rows.right = right.value * size_of;
  rows.defined_padding = is_pad;
  std::memcpy(rows.element, value, size_of);
  if (!is_pad || size_of < 8) return;
  // The instruction pads in units of 32 bits.
  const bool zero = std::all_of(rows.element, rows.element + 8, [](uint8_t b) { return b == 0; });
  if (!zero) {
    current().error("padding-value", by,
                    " pads elements of 64 bits with the low word of the value, twice: "
                    "use 0");
  }
  std::memcpy(rows.element + 4, rows.element, 4);
}

template <class T>
void check_gm(const AscendC::GlobalTensor<T>& tensor, const Rows& rows, const Caller& by) {
  for (uint32_t r = 0; r < rows.count; ++r) tensor.check(by, r * rows.gm_step, rows.bytes);
}

template <class T>
void copy_in(const AscendC::LocalTensor<T>& dst, const AscendC::GlobalTensor<T>& src,
             const Rows& rows, const Caller& by, GmUse use = GmUse::read) {
  if (rows.empty()) return;
  dst.check(by, "dst", (rows.count - 1) * rows.ub_step + rows.row_in_ub(), kBlock);
  check_gm(src, rows, by);
  emulator::copy_in(current(), by, dst.address(), src.place(), rows, use);
}

template <class T>
void copy_out(const AscendC::GlobalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
              const Rows& rows, const Caller& by, GmUse use = GmUse::write) {
  Core& core = current();
  if (rows.empty()) return;
  src.check(by, "src", (rows.count - 1) * rows.ub_step + rows.bytes, kBlock);
  check_gm(dst, rows, by);
  if (core.atomic.kind && core.atomic.kind != atomic_kind<T>()) {
    core.error("atomic-type", by, ": the tensor's type is not that of SetAtomicAdd");
  }
  emulator::copy_out(core, by, dst.place(), src.address(), rows, use);
}

template <class T>
void copy_within(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
                 const BlockRows& b, const Caller& by) {
  const Rows& rows = b.rows;
  if (rows.empty()) return;
  dst.check(by, "dst", (rows.count - 1) * b.dst_step + rows.bytes, kBlock);
  src.check(by, "src", (rows.count - 1) * b.src_step + rows.bytes, kBlock);
  emulator::copy_within(current(), by, dst.address(), b.dst_step, src.address(), b.src_step,
                        rows.count, rows.bytes);
}

// In counter mode the mask counts the elements of each repeat.
template <class T>
void copy_masked(const Caller& by, const MaskForm& form, const UnaryStrides& s,
                 const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src) {
  Call call(by, form, sizeof(T));
  if (call.core.mask.counter && call.lanes.repeats) {
    call.lanes = Lanes::of_each(call.core.mask.low, form.repeats);
  }
  const Operand from = call.operand(src, "src", s.src_block, s.src);
  const Operand to = call.target(dst, s.dst_block, s.dst);
  emulator::unary<false, T, T>(call.instruction(), to, from, [](auto a) { return a; });
}

}  // namespace api

namespace AscendC {

template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyParams& params,
              Site site = Site::here()) {
  const auto b = api::block_rows(params, site);
  api::copy_in(dst, src, b.between(b.src_step, b.dst_step), {"DataCopy", site});
}
template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyParams& params,
              Site site = Site::here()) {
  const auto b = api::block_rows(params, site);
  api::copy_out(dst, src, b.between(b.dst_step, b.src_step), {"DataCopy", site});
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyParams& params,
              Site site = Site::here()) {
  api::copy_within(dst, src, api::block_rows(params, site), {"DataCopy", site});
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const uint32_t count,
              Site site = Site::here()) {
  DataCopy(dst, src, api::whole_blocks<T>(count, site), site);
}
template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count,
              Site site = Site::here()) {
  DataCopy(dst, src, api::whole_blocks<T>(count, site), site);
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count,
              Site site = Site::here()) {
  DataCopy(dst, src, api::whole_blocks<T>(count, site), site);
}

template <class T>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src,
                 const DataCopyExtParams& params, const DataCopyPadExtParams<T>& pad,
                 Site site = Site::here()) {
  const Caller by("DataCopyPad", site);
  emulator::Rows rows = api::padded_rows(params, sizeof(T), true, by);
  api::set_padding(rows, pad.leftPadding, pad.rightPadding, pad.isPad, &pad.paddingValue, sizeof(T),
                   by);
  rows.ub_step = rows.row_in_ub() + params.dstStride.value * emulator::kBlock;
  api::copy_in(dst, src, rows, by);
}
template <class T>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src,
                 const DataCopyExtParams& params, Site site = Site::here()) {
  emulator::Rows rows = api::padded_rows(params, sizeof(T), false, {"DataCopyPad", site});
  rows.ub_step = rows.row_in_ub() + params.srcStride.value * emulator::kBlock;
  api::copy_out(dst, src, rows, {"DataCopyPad", site});
}
template <class T, bool isSetMask = true>
void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const api::Mask& mask,
          const Byte& repeat_time, const CopyRepeatParams& params, Site site = Site::here()) {
  static_assert(api::storable<T>, "Copy does not take this type");
  api::copy_masked<T>(API_MASKED(Copy, params), dst, src);
}
template <class T>
void SetAtomicAdd(Site site = Site::here()) {
  static_assert(emulator::atomic_kind<T>() != 0, "SetAtomicAdd does not take this type");
  emulator::current().atomic = {emulator::atomic_kind<T>(), site};
}
inline void SetAtomicNone() { emulator::current().atomic = {}; }

}  // namespace AscendC
