// Instructions that move elements between lanes.
#pragma once

#include <memory>

#include "vector.h"

namespace emulator {

// Bytes of UB that an instruction may read, by addresses that are data themselves.
struct Window {
  uint32_t address, bytes;
  bool meets(uint32_t begin, uint64_t size) const {
    return begin < address + bytes && address < begin + size;
  }
};

// Which bytes a gather reads is known only from values in UB. In program order they are at hand;
// in adversarial order the window is touched as a whole, and the judge leaves it to the plain run.
template <class Offsets>
void read_window(VectorInstruction& v, const Window& from, uint32_t bytes, Offsets offsets) {
  if (v.core.adversarial()) {
    v.i.unjudged.add(from.address, from.bytes);
    return;
  }
  offsets([&](uint64_t offset) {
    if (offset + bytes <= from.bytes) v.i.reads.add(from.address + offset, bytes);
  });
}

// Calls visit(repeat, lane) for all lanes.
template <class Visit>
void each_lane(const Lanes& lanes, Visit visit) {
  for (uint32_t r = 0; r < lanes.repeats; ++r) {
    each_chunk(lanes.of(r), 1, [&](uint32_t lane, uint32_t) { visit(r, lane); });
  }
}

inline void report_offset(Core& core, const Caller& by, uint64_t offset, const Window& from,
                          uint32_t unit) {
  core.error("gather-bounds", by, ": offset ", offset, " of a source of ", from.bytes,
             " bytes, or not a multiple of ", unit);
}

// Every lane takes the element that its offset, in bytes, names.
template <class T>
void gather(VectorInstruction v, const Operand& to, const Window& from, const Operand& offsets,
            uint32_t base) {
  v.reads(offsets);
  v.writes(to);
  const auto offset_of = [=](uint8_t* ub, uint32_t r, uint32_t lane) {
    return base + static_cast<uint64_t>(*at<uint32_t>(ub, offsets.lane(r, lane)));
  };
  uint64_t elements = 0;
  each_lane(v.lanes, [&](uint32_t, uint32_t) { ++elements; });
  if (v.i.valid) {
    read_window(v, from, sizeof(T), [&](auto visit) {
      each_lane(v.lanes,
                [&](uint32_t r, uint32_t lane) { visit(offset_of(v.core.ub(), r, lane)); });
    });
  }
  if (v.lanes.repeats && from.meets(to.address, extent(v.lanes, to))) {
    v.overlap_is_an_error("source and destination");
  }
  v.i.work.cycles = elements / v.core.options.cost.gather_element;
  v.issue([=, lanes = v.lanes, core = &v.core, by = v.i.by](uint8_t* ub) {
    each_lane(lanes, [&](uint32_t r, uint32_t lane) {
      const uint64_t offset = offset_of(ub, r, lane);
      if (offset + sizeof(T) > from.bytes || offset % sizeof(T)) {
        report_offset(*core, by, offset, from, sizeof(T));
        return;
      }
      std::memcpy(ub + to.lane(r, lane), ub + from.address + offset, sizeof(T));
    });
  });
}

// Each of eight elements fills a block.
template <class T>
void broadcast_blocks(VectorInstruction v, const Operand& to, uint32_t from) {
  const uint32_t count = v.lanes.repeats * 8, bytes = count * sizeof(T);
  if (v.inside(from, bytes)) v.i.reads.add(from, bytes);
  v.writes(to);
  if (to.address < from + bytes && from < to.address + extent(v.lanes, to)) {
    v.overlap_is_an_error("source and destination");
  }
  v.issue([=](uint8_t* ub) {
    constexpr uint32_t lanes = kBlock / sizeof(T);
    for (uint32_t k = 0; k < count; ++k) {
      const T value = *at<T>(ub, from + k * sizeof(T));
      T* block = at<T>(ub, to.lane(k / 8, k % 8 * lanes));
      for (uint32_t lane = 0; lane < lanes; ++lane) block[lane] = value;
    }
  });
}

// The bits of the fixed patterns 1 to 7.
constexpr bool pattern_bit(int pattern, uint32_t lane) {
  return pattern == 7 ||
         (pattern <= 2 ? lane % 2 == uint32_t(pattern - 1) : lane % 4 == uint32_t(pattern - 3));
}

// Which elements a squeeze keeps: a fixed pattern, or bits in UB.
struct Kept {
  int pattern = 0;  // 0: bits
  uint32_t bits = 0, bit_step = 0;

  bool operator()(const uint8_t* ub, uint32_t r, uint32_t lane) const {
    return pattern ? pattern_bit(pattern, lane)
                   : ub[bits + r * bit_step + lane / 8] >> lane % 8 & 1;
  }
};

// The kept elements without gaps, and how many there are: the scalar unit waits for that. `room` is
// what there is for them at `to`.
template <class T>
uint64_t squeeze(VectorInstruction v, uint32_t to, uint64_t room, const Operand& from,
                 const Kept& keeps) {
  const Lanes& lanes = v.lanes;
  const uint32_t per = lanes.per_repeat, bit_bytes = (per + 7) / 8;
  v.reads(from);
  uint64_t most = static_cast<uint64_t>(lanes.repeats) * per;
  if (keeps.pattern) {
    most = 0;
    for (uint32_t lane = 0; lane < per; ++lane) most += pattern_bit(keeps.pattern, lane);
    most *= lanes.repeats;
  }
  for (uint32_t r = 0; !keeps.pattern && r < lanes.repeats; ++r) {
    const uint32_t bits = keeps.bits + r * keeps.bit_step;
    if (v.inside(bits, bit_bytes)) v.i.reads.add(bits, bit_bytes);
  }
  const uint32_t written = std::min(most, room) * sizeof(T);
  if (!v.inside(to, written) || lanes.repeats == 0) return 0;
  const bool in_place = to == from.address && from.block_stride == 1 &&
                        from.repeat_stride * kBlock >= per * sizeof(T);
  const Window target{to, written};
  const bool meets_bits =
      !keeps.pattern && target.meets(keeps.bits, (lanes.repeats - 1) * keeps.bit_step + bit_bytes);
  if ((target.meets(from.address, extent(lanes, from)) && !in_place) || meets_bits) {
    v.overlap_is_an_error("source and destination");
  }
  v.i.writes.add(to, written);
  v.i.defines = false;
  v.i.work.repeats = lanes.repeats * ((per * sizeof(T) + kRepeat - 1) / kRepeat);
  struct Result {
    bool ready = false;
    uint64_t kept = 0;
  };
  const auto result = std::make_shared<Result>();
  v.issue([=](uint8_t* ub) {
    uint64_t n = 0;
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      for (uint32_t lane = 0; lane < per; ++lane) {
        if (!keeps(ub, r, lane)) continue;
        if (n < room) std::memmove(ub + to + n * sizeof(T), ub + from.lane(r, lane), sizeof(T));
        ++n;
      }
    }
    result->kept = n;
    result->ready = true;
  });
  const Site site = v.i.by.site;
  v.core.read_vector_register([result] { return result->ready; }, site);
  v.core.judge.define(to, std::min(result->kept, room) * sizeof(T));
  return result->kept;
}

}  // namespace emulator
