// Which of the lines that a core asks for are in L2, where more is in use than L2 holds.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "machine.h"

namespace emulator {

// The part of L2 that one core's lines stay in. The cores of a launch run side by side and are taken
// to share L2 evenly. Lines leave in the order in which they came.
class L2Share {
 public:
  explicit L2Share(uint64_t bytes) : lines_(bytes / kGmLine) {}

  // Whether a line was there. It is afterwards.
  bool touch(uint64_t line) {
    const auto [at, is_new] = number_.try_emplace(line, came_);
    if (!is_new && came_ - at->second <= lines_) return true;
    at->second = came_++;
    return false;
  }

 private:
  uint64_t lines_;
  uint64_t came_ = 0;                              // lines so far
  std::unordered_map<uint64_t, uint64_t> number_;  // of the line when it came
};

}  // namespace emulator
