// Global memory: allocations of the host, with a shadow that knows who touched which byte.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "shadow.h"
#include "site.h"

namespace emulator {

// State of a byte of GM. All but `defined` and `changed` speaks of the current epoch: the time
// between two points at which all cores meet.
struct GmCell {
  uint32_t epoch = 0;
  uint32_t changed = 0;   // clock of the last copy to it, in any epoch
  uint32_t write = 0;     // number of the last writing instruction, 0: none
  uint32_t read[2] = {};  // last reading instruction of `reader`, on S and on MTE2
  int16_t writer = -1, plain_writer = -1, reader = -1;  // cores
  uint8_t write_pipe = 0;
  uint8_t atomic = 0;  // kind of the atomic write, 0: plain
  bool many_readers = false, many_writers = false;
  bool defined = false;  // written by the host or by a kernel
  bool operator==(const GmCell& o) const {
    return epoch == o.epoch && changed == o.changed && write == o.write && read[0] == o.read[0] &&
           read[1] == o.read[1] && writer == o.writer && plain_writer == o.plain_writer &&
           reader == o.reader && write_pipe == o.write_pipe && atomic == o.atomic &&
           many_readers == o.many_readers && many_writers == o.many_writers && defined == o.defined;
  }
};

struct ScalarStore {
  int core;
  Site site;
};

struct Allocation {
  std::string name;
  uint8_t* data = nullptr;
  uint64_t bytes = 0;
  Shadow<GmCell> shadow;
  std::vector<bool> touched;  // 512-byte lines that were read, for the cost model
  std::vector<uint8_t> storage;
};

class Gm {
 public:
  // Room that no kernel has written yet: reading it is reported. 512-byte aligned, as the runtime
  // hands out kernel arguments; `misalign` moves the start by that many bytes.
  void* allocate(uint64_t bytes, const std::string& name, uint32_t misalign = 0);
  void write(void* to, const void* from, uint64_t bytes);
  void fill(void* to, uint8_t value, uint64_t bytes);
  void read(void* to, const void* from, uint64_t bytes) const;

  template <class T>
  T* allocate(uint64_t count, const std::string& name) {
    return static_cast<T*>(allocate(count * sizeof(T), name));
  }
  template <class T>
  T* upload(const std::vector<T>& values, const std::string& name) {
    T* to = allocate<T>(values.size(), name);
    write(to, values.data(), values.size() * sizeof(T));
    return to;
  }
  template <class T>
  std::vector<T> download(const T* from, uint64_t count) const {
    std::vector<T> values(count);
    read(values.data(), from, count * sizeof(T));
    return values;
  }

  // The allocation that holds the address or ends at it; null if there is none.
  Allocation* find(const void* address);
  uint64_t bytes() const { return bytes_; }

  // State of the run: see GmCell.
  void begin_launch() {
    launch_epoch = epoch++;
    launch_clock = clock;
    scalar_stores.clear();
  }
  uint32_t epoch = 0, launch_epoch = 0;
  uint32_t clock = 0, launch_clock = 0;            // counts the copies to GM
  std::map<uintptr_t, ScalarStore> scalar_stores;  // by cache line

 private:
  Allocation& at(const void* address, uint64_t bytes) const;
  std::vector<std::unique_ptr<Allocation>> allocations_;
  uint64_t bytes_ = 0;
};

}  // namespace emulator
