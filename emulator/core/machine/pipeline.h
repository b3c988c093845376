// The queue of one pipe, for execution in adversarial order. Instructions start in order, but one
// that has started may be overtaken: it reads its operands at once or only when it completes, and
// its results arrive in memory when it completes.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "instruction.h"

namespace emulator {

using Run = std::function<void(uint8_t* ub)>;

class Pipeline {
 public:
  // `flags` are those of the core: an entry for every event and id.
  Pipeline(uint8_t* ub, uint8_t* scratch, bool* flags)
      : ub_(ub), scratch_(scratch), flags_(flags) {}

  void push(const Instruction& instruction, Run run);
  // `waits`: until the flag is down, if it is up.
  void push_set(int flag, bool waits) { queue_.push_back({Kind::set, flag, waits, nullptr}); }
  void push_wait(int flag) { queue_.push_back({Kind::wait, flag, false, nullptr}); }
  void push_barrier() { queue_.push_back({Kind::barrier, 0, false, nullptr}); }
  // Raises the flags whose turn it is: all that is before them is complete.
  void raise_flags();

  bool idle() const { return queue_.empty() && flight_.empty(); }
  size_t waiting() const { return queue_.size(); }
  bool can_start() const;
  void start(bool reads_late);
  size_t in_flight() const { return started_; }
  void complete(size_t which);  // of the instructions in flight, in order of their start
  bool blocked_on_flag() const { return !queue_.empty() && queue_.front().kind == Kind::wait; }
  bool stalled() const {  // by a SetFlag that waits
    return !flight_.empty() && flight_.front().kind == Kind::set;
  }
  int front_flag() const { return queue_.front().flag; }

 private:
  enum class Kind { run, set, wait, barrier };
  struct Pending {
    Footprint touched, writes;
    Run run;
    bool stores;  // UB to GM: writes there, and nothing to UB
    bool reads_late = false;
    std::vector<uint8_t> bytes;  // of `touched` once read, of `writes` once executed
  };
  struct Entry {
    Kind kind;
    int flag;
    bool waits;
    std::unique_ptr<Pending> pending;
  };
  void read(Pending& p) { save(p.touched, ub_, p.bytes); }
  void execute(Pending& p);
  void save(const Footprint& parts, const uint8_t* from, std::vector<uint8_t>& bytes);
  void restore(const Footprint& parts, const std::vector<uint8_t>& bytes, uint8_t* to);

  uint8_t* ub_;
  uint8_t* scratch_;
  bool* flags_;
  size_t started_ = 0;
  std::deque<Entry> queue_;
  std::deque<Entry> flight_;  // started instructions, and the flags to raise after them
};

}  // namespace emulator
