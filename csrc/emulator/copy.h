// Copies: between GM and UB on the MTE pipes, within UB on the vector pipe; and the atomic mode.
#pragma once

#include "vector_call.h"

namespace emulator {

// Which numbers an atomic copy adds.
template <class T>
constexpr uint8_t atomic_kind() {
  return std::is_same_v<T, float>        ? 1
         : std::is_same_v<T, half>       ? 2
         : std::is_same_v<T, int32_t>    ? 3
         : std::is_same_v<T, int16_t>    ? 4
         : std::is_same_v<T, bfloat16_t> ? 5
         : std::is_same_v<T, int8_t>     ? 6
                                         : 0;
}

void add_to(uint8_t kind, uint8_t* to, const uint8_t* from, uint64_t bytes);
double gm_traffic(const CostModel& cost, const void* address, uint64_t bytes);

// Rows of equal length; steps are from start to start, in bytes.
struct Rows {
  uint32_t count = 1;
  uint32_t bytes = 0;
  uint64_t gm_step = 0, ub_step = 0;
  uint32_t left = 0, right = 0;  // padding, in bytes
  bool defined_padding = false;
  uint8_t element[8] = {};  // its value
  uint32_t size_of = 1;
  bool pads = false;  // DataCopyPad: rows end at a multiple of 32 bytes
  uint32_t row_in_ub() const { return pads ? round_up(left + bytes + right, kBlock) : bytes; }
};

template <class T>
void copy_in(const AscendC::LocalTensor<T>& dst, const AscendC::GlobalTensor<T>& src,
             const Rows& rows, const char* name, Site site, GmUse use = GmUse::read) {
  Core& core = current();
  Instruction& i = core.draft(Pipe::MTE2, name, site);
  if (rows.count == 0 || rows.bytes == 0) return;
  const uint32_t wide = rows.row_in_ub();
  if (!dst.usable(i, "dst", (rows.count - 1) * rows.ub_step + wide, kBlock)) return;
  for (uint32_t r = 0; r < rows.count; ++r) {
    const uint32_t ub = dst.address() + r * rows.ub_step;
    if (!src.range(i, r * rows.gm_step, rows.bytes, use)) i.valid = false;
    i.writes.add(ub, wide);
    const bool known = rows.defined_padding;
    if (!known) i.dummies.add(ub, rows.left);
    const uint32_t end = rows.left + rows.bytes + (known ? rows.right : 0);
    i.dummies.add(ub + end, wide - end);
    i.work.traffic +=
        gm_traffic(core.options.cost,
                   reinterpret_cast<uint8_t*>(src.GetPhyAddr()) + r * rows.gm_step, rows.bytes);
  }
  i.work.rows = rows.count;
  i.work.bytes = static_cast<uint64_t>(rows.count) * rows.bytes;
  const uint8_t* from = src.bytes();
  core.issue(i, [rows, wide, from, to = dst.address()](uint8_t* ub) {
    for (uint32_t r = 0; r < rows.count; ++r) {
      uint8_t* row = ub + to + r * rows.ub_step;
      const uint8_t* source = from + r * rows.gm_step;
      std::memcpy(row + rows.left, source, rows.bytes);
      // Padding that no document defines repeats the first element where nothing was asked for.
      const bool asked = rows.left || rows.right;
      for (uint32_t b = 0; b < wide; ++b) {
        if (b >= rows.left && b < rows.left + rows.bytes) continue;
        const bool defined = rows.defined_padding && b < rows.left + rows.bytes + rows.right;
        row[b] = defined ? rows.element[b % rows.size_of] : asked ? 0xFB : source[b % rows.size_of];
      }
    }
  });
}

template <class T>
void copy_out(const AscendC::GlobalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
              const Rows& rows, const char* name, Site site, GmUse use = GmUse::write) {
  Core& core = current();
  Instruction& i = core.draft(Pipe::MTE3, name, site);
  if (rows.count == 0 || rows.bytes == 0) return;
  if (!src.usable(i, "src", (rows.count - 1) * rows.ub_step + rows.bytes, kBlock)) return;
  const uint8_t kind = core.atomic.kind;
  if (kind && kind != atomic_kind<T>()) {
    core.error("atomic-type", std::string(name) + ": the tensor's type is not that of SetAtomicAdd",
               site);
  }
  for (uint32_t r = 0; r < rows.count; ++r) {
    if (!dst.range(i, r * rows.gm_step, rows.bytes, kind ? GmUse::atomic : use, kind)) {
      i.valid = false;
    }
    i.reads.add(src.address() + r * rows.ub_step, rows.bytes);
    i.work.traffic +=
        gm_traffic(core.options.cost,
                   reinterpret_cast<uint8_t*>(dst.GetPhyAddr()) + r * rows.gm_step, rows.bytes);
  }
  i.work.rows = rows.count;
  i.work.bytes = static_cast<uint64_t>(rows.count) * rows.bytes;
  uint8_t* to = dst.bytes();
  core.issue(i, [rows, to, kind, from = src.address()](uint8_t* ub) {
    for (uint32_t r = 0; r < rows.count; ++r) {
      uint8_t* row = to + r * rows.gm_step;
      const uint8_t* source = ub + from + r * rows.ub_step;
      if (kind) {
        add_to(kind, row, source, rows.bytes);
      } else {
        std::memcpy(row, source, rows.bytes);
      }
    }
  });
}

template <class T>
void copy_within(const AscendC::LocalTensor<T>& dst, const AscendC::LocalTensor<T>& src,
                 const Rows& rows, uint64_t src_step, uint64_t dst_step, const char* name,
                 Site site) {
  Core& core = current();
  Instruction& i = core.draft(Pipe::V, name, site);
  if (rows.count == 0 || rows.bytes == 0) return;
  if (!dst.usable(i, "dst", (rows.count - 1) * dst_step + rows.bytes, kBlock)) return;
  if (!src.usable(i, "src", (rows.count - 1) * src_step + rows.bytes, kBlock)) return;
  for (uint32_t r = 0; r < rows.count; ++r) {
    i.reads.add(src.address() + r * src_step, rows.bytes);
    i.writes.add(dst.address() + r * dst_step, rows.bytes);
  }
  if (i.reads.low() < i.writes.high() && i.writes.low() < i.reads.high()) {
    for (const Interval& a : i.reads) {
      for (const Interval& b : i.writes) {
        if (a.begin < b.begin + b.size && b.begin < a.begin + a.size) {
          core.error("overlap-repeats", std::string(name) + ": source and destination overlap",
                     site);
          return;
        }
      }
    }
  }
  i.work.repeats = rows.count * ((rows.bytes + kRepeat - 1) / kRepeat);
  core.issue(i, [rows, src_step, dst_step, from = src.address(), to = dst.address()](uint8_t* ub) {
    for (uint32_t r = 0; r < rows.count; ++r)
      std::memmove(ub + to + r * dst_step, ub + from + r * src_step, rows.bytes);
  });
}

// The count form moves whole blocks: what is left over is silently not copied.
template <class T>
uint32_t whole_blocks(uint64_t count, const char* name, Site site) {
  const uint64_t bytes = count * sizeof(T);
  if (bytes % kBlock) {
    current().error("copy-rounds-down",
                    std::string(name) + " of " + std::to_string(bytes) + " bytes copies " +
                        std::to_string(bytes / kBlock * kBlock) + ": use DataCopyPad",
                    site);
  }
  if (bytes / kBlock > kMaxGap) {
    current().error("field-range", std::string(name) + ": more than 65535 blocks in one copy",
                    site);
  }
  return bytes / kBlock * kBlock;
}

struct BlockRows {
  Rows rows;
  uint64_t src_step, dst_step;
};
BlockRows block_rows(const AscendC::DataCopyParams& p, const char* name, Site site);
Rows padded_rows(const AscendC::DataCopyExtParams& p, uint32_t size_of, bool into_ub,
                 const char* name, Site site);
void check_padding(Rows& rows, const AscendC::Byte& left, const AscendC::Byte& right, bool is_pad,
                   const void* value, uint32_t size_of, const char* name, Site site);

}  // namespace emulator

namespace AscendC {

template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const uint32_t count,
              Site site = Site::here()) {
  emulator::Rows rows;
  rows.bytes = emulator::whole_blocks<T>(count, "DataCopy", site);
  emulator::copy_in(dst, src, rows, "DataCopy", site);
}
template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count,
              Site site = Site::here()) {
  emulator::Rows rows;
  rows.bytes = emulator::whole_blocks<T>(count, "DataCopy", site);
  emulator::copy_out(dst, src, rows, "DataCopy", site);
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint32_t count,
              Site site = Site::here()) {
  emulator::Rows rows;
  rows.bytes = emulator::whole_blocks<T>(count, "DataCopy", site);
  emulator::copy_within(dst, src, rows, 0, 0, "DataCopy", site);
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyParams& params,
              Site site = Site::here()) {
  auto b = emulator::block_rows(params, "DataCopy", site);
  b.rows.gm_step = b.src_step;
  b.rows.ub_step = b.dst_step;
  emulator::copy_in(dst, src, b.rows, "DataCopy", site);
}
template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyParams& params,
              Site site = Site::here()) {
  auto b = emulator::block_rows(params, "DataCopy", site);
  b.rows.gm_step = b.dst_step;
  b.rows.ub_step = b.src_step;
  emulator::copy_out(dst, src, b.rows, "DataCopy", site);
}
template <class T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyParams& params,
              Site site = Site::here()) {
  const auto b = emulator::block_rows(params, "DataCopy", site);
  emulator::copy_within(dst, src, b.rows, b.src_step, b.dst_step, "DataCopy", site);
}

template <class T>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src,
                 const DataCopyExtParams& params, const DataCopyPadExtParams<T>& pad,
                 Site site = Site::here()) {
  emulator::Rows rows = emulator::padded_rows(params, sizeof(T), true, "DataCopyPad", site);
  emulator::check_padding(rows, pad.leftPadding, pad.rightPadding, pad.isPad, &pad.paddingValue,
                          sizeof(T), "DataCopyPad", site);
  rows.ub_step = rows.row_in_ub() + params.dstStride.value * emulator::kBlock;
  emulator::copy_in(dst, src, rows, "DataCopyPad", site);
}
template <class T>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src,
                 const DataCopyExtParams& params, Site site = Site::here()) {
  emulator::Rows rows = emulator::padded_rows(params, sizeof(T), false, "DataCopyPad", site);
  rows.ub_step = rows.row_in_ub() + params.srcStride.value * emulator::kBlock;
  emulator::copy_out(dst, src, rows, "DataCopyPad", site);
}
// With the older structures: the same copies, 16-bit fields.
template <class T>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src,
                 const DataCopyParams& params, const DataCopyPadParams& pad,
                 Site site = Site::here()) {
  T value;
  std::memcpy(&value, &pad.paddingValue, sizeof(T));
  emulator::check_field(emulator::current(), "DataCopyPad", site, "blockLen", params.blockLen);
  DataCopyPad(dst, src,
              DataCopyExtParams(params.blockCount, params.blockLen.value, params.srcGap.value,
                                params.dstGap.value, 0),
              DataCopyPadExtParams<T>(pad.isPad, pad.leftPadding, pad.rightPadding, value), site);
}
template <class T>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src,
                 const DataCopyParams& params, Site site = Site::here()) {
  emulator::check_field(emulator::current(), "DataCopyPad", site, "blockLen", params.blockLen);
  DataCopyPad(dst, src,
              DataCopyExtParams(params.blockCount, params.blockLen.value, params.srcGap.value,
                                params.dstGap.value, 0),
              site);
}

template <class T>
void SetAtomicAdd(Site site = Site::here()) {
  static_assert(emulator::atomic_kind<T>() != 0, "SetAtomicAdd does not take this type");
  emulator::current().atomic = {emulator::atomic_kind<T>(), site};
}
inline void SetAtomicNone() { emulator::current().atomic = {}; }
inline void DisableDmaAtomic() { SetAtomicNone(); }

template <class T, CacheLine entire, DcciDst target = DcciDst::CACHELINE_OUT>
void DataCacheCleanAndInvalid(const GlobalTensor<T>& tensor) {
  auto& core = emulator::current();
  if constexpr (entire == CacheLine::ENTIRE_DATA_CACHE) {
    core.cache.clean_all();
  } else {
    core.cache.clean(reinterpret_cast<uintptr_t>(tensor.GetPhyAddr()));
  }
}

}  // namespace AscendC
