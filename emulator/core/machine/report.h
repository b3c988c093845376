// What a run is asked for, and what it answers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "cost.h"
#include "machine.h"
#include "site.h"

namespace emulator {

struct Options {
  int cores = 48;               // physical vector cores; further blocks wait for a free one
  uint64_t seed = 0;            // 0: program order; else: adversarial order of pipes and cores
  bool automatic_sync = true;   // what the compiler inserts by default (--cce-auto-sync)
  bool reserve_scratch = true;  // 8 KB of UB kept for Select and others
  bool trace = false;           // keep a timeline for Report::write_trace
  uint32_t gm_slack = 0;        // bytes behind each allocation that the runtime adds: 32 on A2
  bool worst_casts = false;     // what casts may do: see worst_floor() in convert.h
  CostModel cost;
};

enum class Severity {
  error,        // wrong, or not ordered, on the hardware
  unspecified,  // no document says what the hardware does
};

struct Finding {
  std::string rule;  // one of those in README.md beside this folder
  Severity severity = Severity::error;
  std::string message;
  Site site;            // the call that broke the rule
  Site other;           // the call that it clashes with; line 0 where there is none
  int core = 0;         // the first core that did
  uint32_t number = 0;  // of the instruction in its pipe, from 1; 0 where there is none
  uint32_t other_number = 0;
  uint64_t count = 0;  // how many instructions did the same
  std::string text() const;
};

struct Report {
  std::vector<Finding> findings;   // errors and unspecified behaviour, in order of appearance
  std::vector<std::string> notes;  // legal, but worth knowing: the order of atomics
  std::vector<CoreCost> cores;     // one for each block
  bool waited_for_all = false;     // a SyncAll let all blocks go on
  double modelled_cycles = 0;      // of the card: a model, not a measurement
  double modelled_microseconds = 0;
  std::vector<TraceEvent> trace;

  bool clean() const { return findings.empty(); }
  bool has(const std::string& rule) const;
  PipeCost total(Pipe pipe) const;  // over all cores
  std::string text() const;
  void write_trace(const std::string& path) const;  // Chrome / Perfetto JSON
};

// Collects findings; the same clash of the same two lines is one finding.
class Findings {
 public:
  void add(Finding finding);
  std::vector<Finding> list() const { return list_; }
  void note(const std::string& text);
  std::vector<std::string> notes() const { return notes_; }

 private:
  using Key = std::tuple<std::string, const char*, int, const char*, int>;
  std::map<Key, size_t> known_;
  std::vector<Finding> list_;
  std::vector<std::pair<int, uint32_t>> last_;  // core and instruction that a finding counted last
  std::vector<std::string> notes_;
};

}  // namespace emulator
