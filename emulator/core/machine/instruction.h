// One instruction of a pipe: which bytes it touches, and what it costs.
#pragma once

#include <cstdint>
#include <vector>

#include "cost.h"
#include "gm.h"
#include "machine.h"
#include "site.h"

namespace emulator {

struct Interval {
  uint32_t begin, size;
};

// A set of bytes of UB as intervals, in the order in which they were added.
class Footprint {
 public:
  void add(uint32_t begin, uint32_t size) {
    if (size == 0) return;
    if (!parts_.empty() && parts_.back().begin + parts_.back().size == begin) {
      parts_.back().size += size;
    } else {
      parts_.push_back({begin, size});
    }
  }
  void add(const Footprint& other) {
    for (const Interval& part : other) add(part.begin, part.size);
  }
  void clear() { parts_.clear(); }
  const Interval* begin() const { return parts_.data(); }
  const Interval* end() const { return parts_.data() + parts_.size(); }
  uint32_t low() const {
    uint32_t low = kUbBytes;
    for (const Interval& part : parts_) low = part.begin < low ? part.begin : low;
    return low;
  }
  uint32_t high() const {
    uint32_t high = 0;
    for (const Interval& part : parts_)
      high = part.begin + part.size > high ? part.begin + part.size : high;
    return high;
  }

 private:
  std::vector<Interval> parts_;
};

// A counter is what cores meet by: they read and write it at the same time.
enum class GmUse : uint8_t { read, write, atomic, counter };

struct GmRange {
  Allocation* allocation;
  uint64_t begin, size;
  GmUse use;
  uint8_t atomic;  // which kind, see AtomicMode
};

struct Instruction {
  Pipe pipe = Pipe::S;
  Caller by;
  Footprint reads, writes;  // of UB
  Footprint dummies;        // part of the writes whose values no document gives
  Footprint unjudged;       // bytes that may be read, which the judge is not told
  bool defines = true;      // false: the caller says later which bytes of `writes` have values
  std::vector<GmRange> gm;
  Work work;
  bool valid = true;  // false: executing it would leave the memories of the emulator

  void reset(Pipe on, const Caller& caller) {
    pipe = on;
    by = caller;
    reads.clear();
    writes.clear();
    dummies.clear();
    unjudged.clear();
    defines = true;
    gm.clear();
    work = {};
    valid = true;
  }
};

}  // namespace emulator
