// Global memory: allocations of the host, with a shadow that knows who touched which byte.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "shadow.h"
#include "site.h"

namespace emulator {

// State of a byte of GM. All but `defined` and `changed` speaks of the current epoch: the time
// between two points at which all cores meet.
struct GmCell {
  uint32_t epoch = 0;
  uint32_t changed = 0;  // epoch of the last copy to it
  uint32_t write = 0;    // number of the last writing instruction, 0: none
  uint32_t read = 0;     // last reading instruction of `reader`
  int16_t writer = -1, plain_writer = -1, reader = -1;  // cores
  uint8_t write_pipe = 0;
  uint8_t atomic = 0;  // kind of the atomic write, 0: plain
  bool many_readers = false, many_writers = false;
  bool defined = false;  // written by the host or by a kernel
  bool operator==(const GmCell& o) const {
    return epoch == o.epoch && changed == o.changed && write == o.write && read == o.read &&
           writer == o.writer && plain_writer == o.plain_writer && reader == o.reader &&
           write_pipe == o.write_pipe && atomic == o.atomic && many_readers == o.many_readers &&
           many_writers == o.many_writers && defined == o.defined;
  }
};

struct Allocation {
  std::string name;
  const uint8_t* address = nullptr;  // as kernels see it
  uint8_t* data = nullptr;           // where the emulation keeps it
  uint64_t bytes = 0;
  bool released = false;
  uint32_t last_epoch = 0;  // of the last access by a kernel
  Shadow<GmCell> shadow;
  std::vector<bool> read;  // 512-byte lines, if L2 was cold: for the cost model
  std::vector<uint8_t> storage;

  uint64_t offset(const void* at) const { return static_cast<const uint8_t*>(at) - address; }
  bool holds(const void* at, uint64_t size) const {
    return at >= address && size <= bytes && offset(at) <= bytes - size;
  }
};

// What a kernel did to an allocation: ranges of bytes, in order and apart from each other.
struct Touched {
  using Ranges = std::vector<std::pair<uint64_t, uint64_t>>;  // begin and end
  const Allocation* allocation;
  Ranges reads, writes;
};

class Gm {
 public:
  // Addresses are pointers of the host, or, `apart`, of a range that no host access survives and
  // in which no address is ever used twice.
  explicit Gm(bool apart = false);
  ~Gm();
  Gm(const Gm&) = delete;
  Gm& operator=(const Gm&) = delete;

  // Room that no kernel has written yet: reading it is reported. 512-byte aligned, as the runtime
  // hands out kernel arguments; `misalign` moves the start by that many bytes.
  void* allocate(uint64_t bytes, const std::string& name, uint32_t misalign = 0);
  // Gives an allocation back. It is still known: an access to it is reported.
  void release(void* address);
  void write(void* to, const void* from, uint64_t bytes);
  void fill(void* to, uint8_t value, uint64_t bytes);
  void read(void* to, const void* from, uint64_t bytes) const;
  bool defined(const void* from, uint64_t bytes) const;  // host or kernel wrote all of it

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

  bool owns(const void* address) const;  // `apart`: whether it is one of a device at all
  // The allocation that holds the address or ends at it; null if there is none.
  Allocation* find(const void* address) const;
  std::vector<Touched> touched() const;  // of the last launch
  uint64_t bytes() const { return bytes_; }

  // State of the run: see GmCell.
  void begin_launch() { launch_epoch = epoch++; }
  uint32_t epoch = 0, launch_epoch = 0;

 private:
  Allocation& at(const void* address, uint64_t bytes) const;
  std::map<uintptr_t, std::unique_ptr<Allocation>> allocations_;  // by address
  uint64_t bytes_ = 0;
  uint8_t* reserved_ = nullptr;  // addresses, `apart`
  uint64_t taken_ = 0;           // ... that were handed out
};

}  // namespace emulator
