// One vector core: its memory and registers, and the way of an instruction through judge, cost
// model and execution.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "judge.h"
#include "l2.h"
#include "pipeline.h"

namespace emulator {

// Unwinds a kernel that cannot go on.
struct Abandoned {};

// Registers that select lanes. In counter mode `low` is a number of elements.
struct MaskRegister {
  bool counter = false;
  uint64_t high = ~0ull, low = ~0ull;
  bool owned = true;   // set by the kernel itself, or full: not left there by another call
  bool dirty = false;  // set by the kernel, and not reset since
  Site site;

  bool full() const { return !counter && high == ~0ull && low == ~0ull; }
};

struct AtomicMode {
  uint8_t kind = 0;  // 0: off; else the data type, see dma.h
  Site site;
};

// The part of an access that is inside its memory.
struct Inside {
  uint64_t skip = 0, bytes = 0;
};

// All cores wait for each other.
struct Meeting {
  int arrived = 0;
  double at = 0;  // modelled time at which the last one was there
  void came(double now) { at = at < now ? now : at; }
};

class Launch;

class Core {
 public:
  Core(int index, int blocks, const Options& options, Findings& findings, Gm& gm, Launch& launch);

  // The way of every instruction. `run` computes on an image of UB; copies to GM read it.
  template <class F>
  void issue(Instruction& i, F&& run) {
    account(i);
    if (!i.valid) return;
    if (i.pipe == Pipe::S || !adversarial()) {
      run(ub());
      return;
    }
    enqueue(i, Run(std::forward<F>(run)));
  }
  Instruction& draft(Pipe pipe, const Caller& by) {
    draft_.reset(pipe, by);
    return draft_;
  }

  void set_flag(Pipe from, Pipe to, int id, Site site, FlagOwner owner = FlagOwner::kernel);
  void wait_flag(Pipe from, Pipe to, int id, Site site);
  void barrier(Pipe pipe);
  void barrier_all();
  // At the next meeting of all cores; the last one to come begins a new epoch of GM.
  Meeting& arrive(Site site);
  // Looks again and again at what other cores do, until `until` holds.
  void poll(std::function<bool()> until, Site site);
  // The scalar unit reads a register that the last vector instruction sets, once it is there.
  void read_vector_register(std::function<bool()> ready, Site site);
  void set_mask_mode(bool counter);
  void set_vector_mask(uint64_t high, uint64_t low);
  void reset_masks();
  void finish();

  // Findings: the text begins with the name of the call.
  template <class... Parts>
  void error(const char* rule, const Caller& by, const Parts&... parts) {
    judge.report(rule, Severity::error, joined(by.name, parts...), by.site);
  }
  template <class... Parts>
  void unspecified(const char* rule, const Caller& by, const Parts&... parts) {
    judge.report(rule, Severity::unspecified, joined(by.name, parts...), by.site);
  }
  // Adds an access to GM to an instruction: what of it is inside its allocation. The rest is a finding.
  Inside inside_gm(Instruction& i, Allocation* home, const uint8_t* address, uint64_t bytes,
                   GmUse use, uint8_t atomic = 0);

  bool adversarial() const { return options.seed != 0; }
  uint8_t* ub() { return ub_; }

  const int index;
  const int blocks;
  const Options& options;
  Findings& findings;
  Gm& gm;
  Judge judge;
  Timeline timeline;
  MaskRegister mask;
  AtomicMode atomic;
  std::shared_ptr<void> software;  // what the software on the core keeps

 private:
  friend class Launch;
  void account(Instruction& i);
  double hbm_traffic(const GmRange& range);
  void enqueue(const Instruction& i, Run run);
  bool drained() const;
  void block(const char* what, Site site, std::function<bool()> until);
  void maybe_yield();

  Launch& launch_;
  L2Share l2_;
  Instruction draft_;
  std::vector<uint8_t> storage_;
  uint8_t* ub_ = nullptr;
  uint8_t* scratch_ = nullptr;
  bool flags_[kEvents * kEventIds] = {};
  double timeline_flags_[kEvents * kEventIds] = {};
  std::deque<Pipeline> pipelines_;  // of V, MTE2 and MTE3
  std::unique_ptr<Fiber> fiber_;
  std::function<bool()> until_;  // what the scalar unit waits for
  std::string waits_for_;
  Site waits_at_;
  size_t met_ = 0;  // meetings that this core has come to
  bool done_ = false;
};

// The core that is running now; a kernel's calls find it here.
Core& current();

}  // namespace emulator
