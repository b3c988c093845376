// Runs a kernel on all of its blocks.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "core.h"
#include "report.h"

namespace emulator {

// Calls `kernel` once for every block, each on a core of its own, and reports. GM keeps the results.
Report launch(Gm& gm, const Options& options, int blocks, const std::function<void()>& kernel);

class Launch {
 public:
  Launch(Gm& gm, const Options& options, int blocks, const std::function<void()>& kernel);
  Report run();
  bool should_yield() { return options_.seed != 0 && random() % 4 == 0; }
  bool toss() { return random() % 2 == 0; }
  Meeting& meeting(size_t number) {
    if (number == meetings_.size()) meetings_.emplace_back();
    return meetings_[number];
  }
  bool abandoned() const { return abandoned_; }

 private:
  uint64_t random();
  void admit();           // blocks onto free cores
  bool step(Core& core);  // one action that the synchronisation allows; false: none
  void resume(Core& core);
  void report_deadlock();
  void change_speeds();

  Gm& gm_;
  const Options options_;
  const int blocks_;
  const std::function<void()>& kernel_;
  Findings findings_;
  std::vector<std::unique_ptr<Core>> cores_;
  std::vector<Core*> alive_;
  std::vector<double> free_at_;  // modelled time at which each physical core is free
  std::vector<int> placed_;      // physical core of a block
  Report report_;
  int admitted_ = 0;
  bool abandoned_ = false;
  std::deque<Meeting> meetings_;
  std::shared_ptr<void> generator_;  // of random numbers; no header of it, which kernels would see
  double speed_[kPipes][2] = {};     // weights of starting and completing an instruction
};

}  // namespace emulator
