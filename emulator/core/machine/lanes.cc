#include "lanes.h"

namespace emulator {

std::vector<LaneRun> Lanes::from_bits(uint64_t high, uint64_t low, uint32_t per_repeat) {
  std::vector<LaneRun> runs;
  const auto bit = [&](uint32_t lane) {
    return (lane < 64 ? low >> lane : high >> (lane - 64)) & 1;
  };
  for (uint32_t lane = 0; lane < per_repeat; ++lane) {
    if (!bit(lane)) continue;
    if (!runs.empty() && runs.back().begin + runs.back().count == lane) {
      ++runs.back().count;
    } else {
      runs.push_back({lane, 1});
    }
  }
  return runs;
}

void add_footprint(const Lanes& lanes, const Operand& operand, Footprint& to) {
  // Repeats that read the same bytes count once.
  const bool still = operand.repeat_stride == 0 && lanes.repeats > 1;
  for (uint32_t r = 0; r < lanes.repeats; ++r) {
    if (still && r > 0 && r + 1 < lanes.repeats) continue;
    if (still && r > 0 && lanes.tail.size() == lanes.runs.size() &&
        std::equal(lanes.runs.begin(), lanes.runs.end(), lanes.tail.begin(),
                   [](LaneRun a, LaneRun b) { return a.begin == b.begin && a.count >= b.count; })) {
      continue;
    }
    const uint32_t block = kBlock / operand.size_of;
    const uint32_t step = operand.block_stride == 1 ? lanes.per_repeat : block;
    bool first = true;  // with a block stride of 0 all blocks are the first one
    each_chunk(lanes.of(r), step, [&](uint32_t lane, uint32_t count) {
      if (first || operand.block_stride != 0)
        to.add(operand.lane(r, lane), count * operand.size_of);
      first = first && count < block;
    });
  }
}

uint64_t extent(const Lanes& lanes, const Operand& operand) {
  uint64_t end = 0;
  for (uint32_t r : {0u, lanes.repeats - 2, lanes.repeats - 1}) {
    if (r >= lanes.repeats) continue;
    each_chunk(lanes.of(r), kBlock / operand.size_of, [&](uint32_t lane, uint32_t count) {
      const uint32_t last = operand.lane(r, lane + count - 1);
      end = std::max<uint64_t>(end, last - operand.address + operand.size_of);
    });
  }
  return end;
}

double bank_conflicts(const Lanes& lanes, const Operand* sources, int count) {
  if (count < 2) return 0;
  const Operand &a = sources[0], &b = sources[1];
  const auto group = [](const Operand& o, uint32_t r, uint32_t block) {
    return (o.address / kBlock + r * o.repeat_stride + block * o.block_stride) %
           16;  // address bits 8 to 5
  };
  const uint32_t period = std::min<uint32_t>(lanes.repeats, 16);
  const uint32_t blocks = std::min<uint32_t>(8, lanes.per_repeat * a.size_of / kBlock);
  uint32_t clashes = 0;
  for (uint32_t r = 0; r < period; ++r) {
    for (uint32_t block = 0; block < blocks; ++block) {
      if (group(a, r, block) == group(b, r, block)) {
        ++clashes;
        break;
      }
    }
  }
  return period ? static_cast<double>(clashes) / period : 0;
}

namespace {

// For every block of UB which of its bytes are written. A map that is cleared by counting up.
struct Written {
  uint32_t stamp[kUbBytes / kBlock] = {};
  uint32_t bytes[kUbBytes / kBlock] = {};
  uint32_t now = 0;
};

template <class F>
void each_block(const Lanes& lanes, const Operand& o, uint32_t r, F f) {
  each_chunk(lanes.of(r), kBlock / o.size_of, [&](uint32_t lane, uint32_t count) {
    const uint32_t at = o.lane(r, lane), size = count * o.size_of;
    f(at / kBlock, static_cast<uint32_t>(((1ull << size) - 1) << at % kBlock));
  });
}

}  // namespace

void check_overlap(Core& core, const Instruction& i, const Lanes& lanes, const Operand& dst,
                   const Operand* sources, int count, Accumulation accumulation) {
  if (!i.valid) return;  // there is no map of what lies beyond UB
  static Written written;
  const uint64_t dst_end = dst.address + extent(lanes, dst);
  for (int s = 0; s < count; ++s) {
    const Operand& src = sources[s];
    if (src.address >= dst_end || dst.address >= src.address + extent(lanes, src)) continue;
    const bool same = dst.address == src.address && dst.size_of == src.size_of &&
                      dst.block_stride == src.block_stride &&
                      dst.repeat_stride == src.repeat_stride;
    // In place, and one repeat does not reach into the next.
    if (same && dst.block_stride == 1 &&
        dst.repeat_stride * kBlock >= lanes.per_repeat * dst.size_of)
      continue;
    const bool may_accumulate = accumulation == Accumulation::allowed && s == 1 &&
                                (dst.repeat_stride == 0 || src.repeat_stride == 0);
    ++written.now;
    bool partly = false, later = false;
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      each_block(lanes, src, r, [&](uint32_t block, uint32_t bytes) {
        if (written.stamp[block] == written.now && (written.bytes[block] & bytes)) later = true;
      });
      uint64_t own = 0, common = 0, mine = 0;
      std::array<std::pair<uint32_t, uint32_t>, 512> blocks;
      size_t n = 0;
      each_block(lanes, dst, r, [&](uint32_t block, uint32_t bytes) {
        if (n < blocks.size()) blocks[n++] = {block, bytes};
        own += __builtin_popcount(bytes);
      });
      each_block(lanes, src, r, [&](uint32_t block, uint32_t bytes) {
        mine += __builtin_popcount(bytes);
        for (size_t k = 0; k < n; ++k) {
          if (blocks[k].first == block) common += __builtin_popcount(blocks[k].second & bytes);
        }
      });
      if (common && (common != own || common != mine || dst.lane(r, 0) != src.lane(r, 0)))
        partly = true;
      for (size_t k = 0; k < n; ++k) {
        const auto [block, bytes] = blocks[k];
        if (written.stamp[block] != written.now) {
          written.stamp[block] = written.now;
          written.bytes[block] = 0;
        }
        written.bytes[block] |= bytes;
      }
    }
    const std::string which = joined(": the destination and source ", s, " overlap");
    if (partly) core.error("overlap-partial", i.by, which, " in part within one repeat");
    if (later && !may_accumulate) {
      core.error("overlap-repeats", i.by, which, ": a repeat reads what an earlier repeat wrote");
    }
  }
}

Lanes selected_lanes(const MaskRegister& mask, uint32_t repeats, uint32_t bytes) {
  const uint32_t per_repeat = kRepeat / bytes;
  if (mask.counter) return Lanes::contiguous(mask.low, per_repeat);
  Lanes lanes;
  lanes.per_repeat = per_repeat;
  lanes.runs = lanes.tail = Lanes::from_bits(mask.high, mask.low, per_repeat);
  lanes.repeats = lanes.runs.empty() ? 0 : repeats;
  return lanes;
}

}  // namespace emulator
