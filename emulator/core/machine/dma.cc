#include "dma.h"

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

// In the order of atomic_kind.
constexpr void (*kAdd[])(uint8_t*, const uint8_t*, uint64_t) = {nullptr,
                                                                add_elements<float>,
                                                                add_elements<half>,
                                                                add_elements<int32_t>,
                                                                add_elements<int16_t>,
                                                                add_elements<bfloat16_t>,
                                                                add_elements<int8_t>};

double gm_traffic(const CostModel& cost, const uint8_t* address, uint64_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const uint64_t whole = (begin + bytes + kBlock - 1) / kBlock * kBlock - begin / kBlock * kBlock;
  return begin % kGmLine ? whole / cost.unaligned_efficiency : whole;
}

// As many rows as end in UB.
void keep_inside_ub(Core& core, const Instruction& i, uint32_t address, uint32_t& count,
                    uint64_t step, uint32_t bytes) {
  if (address + (count - 1) * step + bytes <= kUbBytes) return;
  core.error("ub-bounds", i.by, ": an operand ends beyond the 192 KB of UB");
  while (count && address + (count - 1) * step + bytes > kUbBytes) --count;
}

// The copied part of every row, for an instruction that touches all of them.
std::vector<Inside> inside_gm(Core& core, Instruction& i, const GmPlace& gm, const Rows& rows,
                              GmUse use, uint8_t kind) {
  std::vector<Inside> parts;
  for (uint32_t r = 0; r < rows.count; ++r) {
    const uint8_t* row = gm.address + r * rows.gm_step;
    parts.push_back(core.inside_gm(i, gm.home, row, rows.bytes, use, kind));
    i.work.traffic += gm_traffic(core.options.cost, row, rows.bytes);
  }
  i.work.rows = rows.count;
  i.work.bytes = static_cast<uint64_t>(rows.count) * rows.bytes;
  return parts;
}

uint8_t* memory_of(const GmPlace& gm) {
  return gm.home ? gm.home->data + (gm.address - gm.home->address) : nullptr;
}

// Padding that no document defines repeats the first element where nothing was asked for. What the
// allocation does not have is poison.
void load_row(uint8_t* to, const uint8_t* from, const Rows& rows, const Inside& part) {
  constexpr uint8_t kPoison = 0xFB;
  const bool asked = rows.left || rows.right;
  const bool has_first = part.skip == 0 && part.bytes >= rows.size_of;
  const uint32_t wide = rows.row_in_ub(), end = rows.left + rows.bytes;
  for (uint32_t b = 0; b < wide; ++b) {
    if (b >= rows.left && b < end) continue;
    const bool defined = rows.defined_padding && b < end + rows.right;
    to[b] = defined               ? rows.element[b % rows.size_of]
            : asked || !has_first ? kPoison
                                  : from[b % rows.size_of];
  }
  if (part.bytes < rows.bytes) std::memset(to + rows.left, kPoison, rows.bytes);
  if (part.bytes) std::memcpy(to + rows.left + part.skip, from + part.skip, part.bytes);
}

}  // namespace

void copy_in(Core& core, const Caller& by, uint32_t to, const GmPlace& from, Rows rows, GmUse use) {
  Instruction& i = core.draft(Pipe::MTE2, by);
  if (rows.empty()) return;
  const uint32_t wide = rows.row_in_ub();
  keep_inside_ub(core, i, to, rows.count, rows.ub_step, wide);
  const std::vector<Inside> parts = inside_gm(core, i, from, rows, use, 0);
  for (uint32_t r = 0; r < rows.count; ++r) {
    const uint32_t ub = to + r * rows.ub_step;
    i.writes.add(ub, wide);
    if (!rows.defined_padding) i.dummies.add(ub, rows.left);
    const uint32_t end = rows.left + rows.bytes + (rows.defined_padding ? rows.right : 0);
    i.dummies.add(ub + end, wide - end);
  }
  core.issue(i, [rows, parts, to, source = memory_of(from)](uint8_t* ub) {
    for (uint32_t r = 0; r < rows.count; ++r) {
      load_row(ub + to + r * rows.ub_step, source + r * rows.gm_step, rows, parts[r]);
    }
  });
}

void copy_out(Core& core, const Caller& by, const GmPlace& to, uint32_t from, Rows rows,
              GmUse use) {
  Instruction& i = core.draft(Pipe::MTE3, by);
  if (rows.empty()) return;
  keep_inside_ub(core, i, from, rows.count, rows.ub_step, rows.bytes);
  const uint8_t kind = core.atomic.kind;
  const std::vector<Inside> parts = inside_gm(core, i, to, rows, kind ? GmUse::atomic : use, kind);
  for (uint32_t r = 0; r < rows.count; ++r) {
    i.reads.add(from + r * rows.ub_step + parts[r].skip, parts[r].bytes);
  }
  core.issue(i, [rows, parts, kind, from, target = memory_of(to)](uint8_t* ub) {
    for (uint32_t r = 0; r < rows.count; ++r) {
      if (parts[r].bytes == 0) continue;
      uint8_t* row = target + r * rows.gm_step + parts[r].skip;
      const uint8_t* source = ub + from + r * rows.ub_step + parts[r].skip;
      if (kind) {
        kAdd[kind](row, source, parts[r].bytes);
      } else {
        std::memcpy(row, source, parts[r].bytes);
      }
    }
  });
}

void copy_within(Core& core, const Caller& by, uint32_t to, uint64_t to_step, uint32_t from,
                 uint64_t from_step, uint32_t count, uint32_t bytes) {
  Instruction& i = core.draft(Pipe::V, by);
  if (count == 0 || bytes == 0) return;
  keep_inside_ub(core, i, to, count, to_step, bytes);
  keep_inside_ub(core, i, from, count, from_step, bytes);
  for (uint32_t r = 0; r < count; ++r) {
    i.reads.add(from + r * from_step, bytes);
    i.writes.add(to + r * to_step, bytes);
  }
  const bool apart = i.reads.high() <= i.writes.low() || i.writes.high() <= i.reads.low();
  for (const Interval& a : i.reads) {
    for (const Interval& b : i.writes) {
      if (apart) break;
      if (a.begin < b.begin + b.size && b.begin < a.begin + a.size) {
        core.error("overlap-repeats", by, ": source and destination overlap");
        return;
      }
    }
  }
  i.work.repeats = count * ((bytes + kRepeat - 1) / kRepeat);
  core.issue(i, [=](uint8_t* ub) {
    for (uint32_t r = 0; r < count; ++r)
      std::memmove(ub + to + r * to_step, ub + from + r * from_step, bytes);
  });
}

void load_scalar(Core& core, const Caller& by, uint64_t from, void* to, uint32_t bytes) {
  Instruction& i = core.draft(Pipe::S, by);
  if (from + bytes > kUbBytes) return;  // which is found where the tensor is checked
  i.reads.add(from, bytes);
  core.issue(i, [=](uint8_t* ub) { std::memcpy(to, ub + from, bytes); });
}

void store_scalar(Core& core, const Caller& by, uint64_t to, const void* from, uint32_t bytes) {
  Instruction& i = core.draft(Pipe::S, by);
  if (to + bytes > kUbBytes) return;
  i.writes.add(to, bytes);
  core.issue(i, [=](uint8_t* ub) { std::memcpy(ub + to, from, bytes); });
}

}  // namespace emulator
