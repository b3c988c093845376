// Copies: between GM and UB on the MTE pipes, within UB on the vector pipe; the atomic mode; and what
// the scalar unit reads and writes of UB.
#pragma once

#include "core.h"
#include "numbers.h"

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

// Rows of equal length; steps are from start to start, in bytes.
struct Rows {
  uint32_t count = 1;
  uint32_t bytes = 0;
  uint64_t gm_step = 0, ub_step = 0;
  uint32_t left = 0, right = 0;  // padding, in bytes
  bool defined_padding = false;
  uint8_t element[8] = {};  // its value
  uint32_t size_of = 1;
  bool pads = false;  // rows end at a multiple of 32 bytes in UB
  bool empty() const { return count == 0 || bytes == 0; }
  uint32_t row_in_ub() const { return pads ? round_up(left + bytes + right, kBlock) : bytes; }
};

struct GmPlace {
  Allocation* home;
  const uint8_t* address;
};

// What of the rows lies in UB and in the allocation is copied; the rest is a finding.
void copy_in(Core& core, const Caller& by, uint32_t to, const GmPlace& from, Rows rows,
             GmUse use = GmUse::read);
void copy_out(Core& core, const Caller& by, const GmPlace& to, uint32_t from, Rows rows,
              GmUse use = GmUse::write);
void copy_within(Core& core, const Caller& by, uint32_t to, uint64_t to_step, uint32_t from,
                 uint64_t from_step, uint32_t count, uint32_t bytes);

// The scalar unit's, of UB.
void load_scalar(Core& core, const Caller& by, uint64_t from, void* to, uint32_t bytes);
void store_scalar(Core& core, const Caller& by, uint64_t to, const void* from, uint32_t bytes);
}  // namespace emulator
