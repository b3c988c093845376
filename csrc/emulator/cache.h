// The scalar unit's data cache, which is coherent with nothing: neither with DMA nor with the
// caches of other cores. It is emulated as rules, not as a memory: values are always fresh.
#pragma once

#include <cstdint>
#include <map>

#include "instruction.h"

namespace emulator {

class Judge;

class ScalarCache {
 public:
  ScalarCache(int core, Gm& gm, Judge& judge) : core_(core), gm_(gm), judge_(judge) {}

  void check(const Instruction& i);  // of any pipe: does it meet lines that a scalar store holds?
  void load(const Instruction& i);
  void store(const Instruction& i);
  void clean(uintptr_t address);  // one line: write back and invalidate
  void clean_all();
  void finish();

 private:
  int core_;
  Gm& gm_;
  Judge& judge_;
  std::map<uintptr_t, uint64_t> cleaned_;  // line: clock at which it was invalidated
  uint64_t all_cleaned_ = 0;
  std::map<uintptr_t, Site> dirty_;  // line: the store that has not been written back
};

}  // namespace emulator
