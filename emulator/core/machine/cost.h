// A model of time. Nothing in it was measured on a device by this project: the figures are the
// vendor's published numbers, or derived from published sample timings, or assumed, as noted.
#pragma once

#include <cstdint>
#include <vector>

#include "machine.h"
#include "site.h"

namespace emulator {

// "DK" is the public repository asc-devkit, "ini" the public platform files Ascend910B*.ini.
struct CostModel {
  double clock_mhz = 1850;  // ini: Ascend910B1

  // Vector unit. DK bank_conflict_ub sample: 1000 dependent Adds of 64 repeats take 2390 ticks of
  // 50 MHz, which is 88 cycles each: 64 for the repeats and 24 more.
  double vector_repeat = 1;    // DK performance guide: 128 half numbers per cycle
  double vector_latency = 24;  // derived, see above; of a dependent instruction
  double vector_issue = 4;     // assumed; between independent instructions
  double bank_conflict = 1;    // DK, same sample: 2 cycles per repeat if sources share a group
  double three_address = 1;    // DK MulAddDst page: half throughput
  double reduce_latency = 72;  // DK: 2 to 5 times the latency of Add; three times assumed
  double gather_element = 1;   // assumed: elements of Gather per cycle
  double mask_cycles = 1;      // DK, mask reuse article

  // DMA. DK data_copy sample: 128-byte copies at 20.6 cycles each; as rows of one copy, 8.3 each.
  double dma_instruction = 12.3;      // derived, see above
  double dma_row = 8.3;               // derived, see above
  double dma_latency = 500;           // assumed ("several hundred cycles"): issue to data visible
  double unaligned_efficiency = 0.7;  // DK: 32-byte against 512-byte aligned GM addresses

  // Bandwidths of the card, shared by the cores that run.
  double l2_bytes_per_second = 5.2e12;   // DK data_copy sample, peak
  double hbm_bytes_per_second = 1.8e12;  // DK data_copy sample
  double l2_read_rate = 110;             // ini: bytes per cycle and core
  double hbm_read_rate = 32;             // ini: ddr_rate
  double write_rate = 64;                // ini: ub_to_l2_rate and ub_to_ddr_rate
  uint64_t l2_bytes = 192ull << 20;      // ini
  bool cold_l2 = false;                  // true: a line's first read is served by HBM

  // Scalar unit.
  double scalar_access = 10;  // derived: GetValue and SetValue, from DK's scalar Add sample
  double dispatch = 8;        // assumed: preparing and dispatching one V or MTE instruction
  double flag = 2;            // assumed: one SetFlag, WaitFlag or PipeBarrier
  double hard_sync = 1000;    // assumed: the SyncAll of the hardware, once all cores are there
  double start = 2000;        // assumed: launch, TPipe and InitBuffer ("a few hundred ns")

  // The part of what is in use that L2 does not hold.
  double beyond_l2(uint64_t in_use) const {
    return in_use > l2_bytes ? 1 - static_cast<double>(l2_bytes) / in_use : 0;
  }
  // What the host has the card set before a launch: assumed to be written at the card's bandwidths.
  double set_microseconds(uint64_t bytes, uint64_t in_use) const {
    const double beyond = bytes * beyond_l2(in_use);
    return ((bytes - beyond) / l2_bytes_per_second + beyond / hbm_bytes_per_second) * 1e6;
  }
};

// What one instruction asks of its pipe.
struct Work {
  uint32_t repeats = 0;    // V
  double cycles = 0;       // V: extra to the repeats, such as bank conflicts
  double latency = 0;      // V: replaces vector_latency if positive
  uint32_t rows = 0;       // MTE
  uint64_t bytes = 0;      // MTE: what is moved
  double traffic = 0;      // MTE: bytes that the memory system moves, with rounding
  double hbm_traffic = 0;  // MTE: the part of it that HBM serves
};

struct PipeCost {
  uint64_t instructions = 0;
  uint64_t repeats = 0;
  uint64_t rows = 0;
  uint64_t bytes = 0;
  double busy = 0;  // modelled cycles
};

struct CoreCost {
  PipeCost pipe[kPipes];
  double cycles = 0;  // modelled, from start to end
};

struct TraceEvent {
  int core;
  Pipe pipe;
  Caller by;
  double begin, end;  // modelled cycles
};

// When the instructions of one core start and end. In-order pipes make this a single pass in
// program order: every time is a maximum of times already known.
class Timeline {
 public:
  void begin(const CostModel& model, int core, int active_cores, double at,
             std::vector<TraceEvent>* trace);
  void issue(Pipe pipe, const Caller& by, const Work& work);
  void access() {  // GetValue and SetValue
    now_ += model_->scalar_access;
    ++cost_.pipe[0].instructions;
  }
  void mask() { now_ += model_->mask_cycles; }
  double set_flag(Pipe from);  // time at which the flag is up
  void wait_flag(Pipe to, double flag_time);
  void barrier(Pipe pipe);
  void barrier_all();
  double done(Pipe pipe) const { return done_[index(pipe)]; }  // with all that it was given
  void scalar_until(double at) { now_ = now_ < at ? at : now_; }
  double finish();
  double now() const { return now_; }
  const CoreCost& cost() const { return cost_; }

 private:
  const CostModel* model_ = nullptr;
  std::vector<TraceEvent>* trace_ = nullptr;
  int core_ = 0;
  double l2_rate_ = 0, hbm_rate_ = 0, write_rate_ = 0;
  double start_ = 0, now_ = 0;
  double free_[kPipes] = {};   // when the pipe can start its next instruction
  double ready_[kPipes] = {};  // not before this, because of a flag or barrier
  double done_[kPipes] = {};   // when all instructions so far are complete
  CoreCost cost_;
};

}  // namespace emulator
