#include "copy.h"

namespace emulator {

namespace {

template <class T>
void add_elements(uint8_t* to, const uint8_t* from, uint64_t bytes) {
  for (uint64_t b = 0; b + sizeof(T) <= bytes; b += sizeof(T)) {
    T sum, term;
    std::memcpy(&sum, to + b, sizeof(T));
    std::memcpy(&term, from + b, sizeof(T));
    sum = static_cast<T>(wrap(static_cast<Wide<T>>(sum)) + wrap(static_cast<Wide<T>>(term)));
    std::memcpy(to + b, &sum, sizeof(T));
  }
}

}  // namespace

void add_to(uint8_t kind, uint8_t* to, const uint8_t* from, uint64_t bytes) {
  switch (kind) {
    case atomic_kind<float>():
      return add_elements<float>(to, from, bytes);
    case atomic_kind<half>():
      return add_elements<half>(to, from, bytes);
    case atomic_kind<int32_t>():
      return add_elements<int32_t>(to, from, bytes);
    case atomic_kind<int16_t>():
      return add_elements<int16_t>(to, from, bytes);
    case atomic_kind<bfloat16_t>():
      return add_elements<bfloat16_t>(to, from, bytes);
    case atomic_kind<int8_t>():
      return add_elements<int8_t>(to, from, bytes);
  }
}

double gm_traffic(const CostModel& cost, const void* address, uint64_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const uint64_t whole = (begin + bytes + kBlock - 1) / kBlock * kBlock - begin / kBlock * kBlock;
  return begin % kGmLine ? whole / cost.unaligned_efficiency : whole;
}

BlockRows block_rows(const AscendC::DataCopyParams& p, const char* name, Site site) {
  Core& core = current();
  check_field(core, name, site, "blockCount", p.blockCount);
  check_field(core, name, site, "blockLen", p.blockLen);
  check_field(core, name, site, "srcGap", p.srcGap);
  check_field(core, name, site, "dstGap", p.dstGap);
  if (p.blockCount.value > kMaxBlockCount) {
    core.error("block-count",
               std::string(name) + ": blockCount is " + std::to_string(p.blockCount.value) +
                   ", more than 4095",
               site);
  }
  BlockRows b;
  b.rows.count = p.blockCount.value;
  b.rows.bytes = p.blockLen.value * kBlock;
  b.src_step = (p.blockLen.value + p.srcGap.value) * kBlock;
  b.dst_step = (p.blockLen.value + p.dstGap.value) * kBlock;
  return b;
}

Rows padded_rows(const AscendC::DataCopyExtParams& p, uint32_t size_of, bool into_ub,
                 const char* name, Site site) {
  Core& core = current();
  check_field(core, name, site, "blockCount", p.blockCount);
  check_field(core, name, site, "blockLen", p.blockLen);
  check_field(core, name, site, "srcStride", p.srcStride);
  check_field(core, name, site, "dstStride", p.dstStride);
  if (p.blockCount.value > kMaxBlockCount) {
    core.error("block-count",
               std::string(name) + ": blockCount is " + std::to_string(p.blockCount.value) +
                   ", more than 4095",
               site);
  }
  if (p.blockLen.value < 0 || p.blockLen.value > kMaxPadBytes) {
    core.error("field-range",
               std::string(name) + ": blockLen is " + std::to_string(p.blockLen.value) +
                   " bytes, not within 0 to 2097151",
               site);
  }
  if (p.blockLen.value % size_of) {
    core.error("block-length",
               std::string(name) + ": blockLen is " + std::to_string(p.blockLen.value) +
                   " bytes, which are not whole elements",
               site);
  }
  const int64_t gm_gap = into_ub ? p.srcStride.value : p.dstStride.value;
  if (gm_gap % size_of) {
    core.report("block-length", Severity::unspecified,
                std::string(name) + ": the stride in GM is not a multiple of the element size",
                site);
  }
  Rows rows;
  rows.count = p.blockCount.value;
  rows.bytes = p.blockLen.value;
  rows.gm_step = p.blockLen.value + gm_gap;
  rows.size_of = size_of;
  rows.pads = true;
  return rows;
}

void check_padding(Rows& rows, const AscendC::Byte& left, const AscendC::Byte& right, bool is_pad,
                   const void* value, uint32_t size_of, const char* name, Site site) {
  Core& core = current();
  check_field(core, name, site, "leftPadding", left);
  check_field(core, name, site, "rightPadding", right);
  if (left.value * size_of > kBlock || right.value * size_of > kBlock) {
    core.error("padding-range", std::string(name) + ": a padding is longer than 32 bytes", site);
  }
  rows.left = left.value * size_of;
  rows.right = right.value * size_of;
  rows.defined_padding = is_pad;
  std::memcpy(rows.element, value, size_of);
}

}  // namespace emulator
