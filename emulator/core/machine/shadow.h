// A cell of state for every byte of a memory. Most accesses cover whole 32-byte blocks, which then
// share one cell; a block is split into bytes when something smaller touches it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "machine.h"

namespace emulator {

template <class Cell>
class Shadow {
 public:
  explicit Shadow(uint64_t bytes = 0)
      : blocks_((bytes + kBlock - 1) / kBlock), bytes_(blocks_.size()) {}

  // Calls visit(cell, first byte) for every cell of the range. With `join`, a split block whose
  // bytes are equal afterwards shares one cell again.
  template <class Visit>
  void each(uint64_t begin, uint64_t size, bool join, Visit visit) {
    const uint64_t end = begin + size;
    while (begin < end) {
      const uint64_t block = begin / kBlock;
      const uint64_t stop = end < (block + 1) * kBlock ? end : (block + 1) * kBlock;
      const bool whole = stop - begin == kBlock;
      if (!bytes_[block]) {
        if (whole) {
          visit(blocks_[block], begin);
          begin = stop;
          continue;
        }
        bytes_[block] = std::make_unique<std::array<Cell, kBlock>>();
        bytes_[block]->fill(blocks_[block]);
      }
      auto& cells = *bytes_[block];
      for (uint64_t at = begin; at < stop; ++at) visit(cells[at % kBlock], at);
      if (whole && join &&
          std::all_of(cells.begin(), cells.end(), [&](const Cell& c) { return c == cells[0]; })) {
        blocks_[block] = cells[0];
        bytes_[block].reset();
      }
      begin = stop;
    }
  }

 private:
  std::vector<Cell> blocks_;
  std::vector<std::unique_ptr<std::array<Cell, kBlock>>> bytes_;
};

}  // namespace emulator
