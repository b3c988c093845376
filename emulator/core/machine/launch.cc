#include "launch.h"

#include <algorithm>
#include <random>

namespace emulator {

namespace {
Core* running = nullptr;
}

Core& current() { return *running; }

Report launch(Gm& gm, const Options& options, int blocks, const std::function<void()>& kernel) {
  return Launch(gm, options, blocks, kernel).run();
}

Launch::Launch(Gm& gm, const Options& options, int blocks, const std::function<void()>& kernel)
    : gm_(gm),
      options_(options),
      blocks_(blocks),
      kernel_(kernel),
      cores_(blocks),
      free_at_(std::min(blocks, options.cores), 0.0),
      placed_(blocks),
      generator_(std::make_shared<std::mt19937_64>(options.seed)) {}

uint64_t Launch::random() { return (*static_cast<std::mt19937_64*>(generator_.get()))(); }

void Launch::admit() {
  while (admitted_ < blocks_ && static_cast<int>(alive_.size()) < options_.cores) {
    const int block = admitted_++;
    const int place = std::min_element(free_at_.begin(), free_at_.end()) - free_at_.begin();
    cores_[block] = std::make_unique<Core>(block, blocks_, options_, findings_, gm_, *this);
    Core* core = cores_[block].get();
    placed_[block] = place;
    core->timeline.begin(options_.cost, block, free_at_.size(), free_at_[place],
                         options_.trace ? &report_.trace : nullptr);
    free_at_[place] = 1e300;  // taken, until the block has ended
    core->fiber_ = std::make_unique<Fiber>([this, core] {
      try {
        kernel_();
        core->finish();
      } catch (const Abandoned&) {
      }
      core->done_ = true;
    });
    alive_.push_back(core);
  }
}

void Launch::resume(Core& core) {
  running = &core;
  core.fiber_->resume();
  running = nullptr;
}

void Launch::change_speeds() {
  constexpr double kSpeeds[] = {0.02, 1, 50};
  for (auto& speed : speed_) {
    for (double& s : speed) s = kSpeeds[random() % 3];
  }
}

bool Launch::step(Core& core) {
  struct Action {
    double weight;
    int pipe;
    bool complete;
  };
  Action actions[2 * kPipes];
  int count = 0;
  double sum = 0;
  const auto offer = [&](double weight, int pipe, bool complete) {
    actions[count++] = {weight, pipe, complete};
    sum += weight;
  };
  if (!core.done_ && (!core.until_ || core.until_())) offer(speed_[0][0], 0, false);
  if (!core.pipelines_.empty() && options_.seed != 0) {
    for (int p = 1; p < kPipes; ++p) {
      Pipeline& pipeline = core.pipelines_[p - 1];
      pipeline.raise_flags();
      if (pipeline.can_start()) offer(speed_[p][0], p, false);
      if (pipeline.in_flight()) offer(speed_[p][1], p, true);
    }
  }
  if (count == 0) return false;
  double pick = sum * static_cast<double>(random() >> 11) * 0x1p-53;
  int chosen = 0;
  while (chosen + 1 < count && pick >= actions[chosen].weight) pick -= actions[chosen++].weight;
  const Action& action = actions[chosen];
  if (action.pipe == 0) {
    resume(core);
  } else if (action.complete) {
    Pipeline& pipeline = core.pipelines_[action.pipe - 1];
    pipeline.complete(random() % pipeline.in_flight());
  } else {
    core.pipelines_[action.pipe - 1].start(random() % 2);
  }
  return true;
}

void Launch::report_deadlock() {
  for (Core* core : alive_) {
    std::string what =
        core->done_ ? "the kernel has ended" : "the scalar unit waits for " + core->waits_for_;
    for (int p = 1; p < kPipes; ++p) {
      const Pipeline& pipeline = core->pipelines_[p - 1];
      if (pipeline.stalled()) what += joined("; ", kPipeName[p], " cannot set a flag");
      if (!pipeline.blocked_on_flag()) continue;
      const int flag = pipeline.front_flag();
      what += joined("; ", kPipeName[p], " waits for flag ",
                     flag_name(flag / kEventIds, flag % kEventIds));
    }
    core->error("deadlock", core->waits_at_, "nothing can go on: ", what);
  }
  abandoned_ = true;
  for (Core* core : alive_) {
    while (!core->done_) resume(*core);
  }
}

Report Launch::run() {
  gm_.begin_launch();
  report_.cores.resize(blocks_);
  change_speeds();
  uint64_t steps = 0;
  while (true) {
    admit();
    if (alive_.empty()) break;
    // In program order one core runs until it blocks; otherwise any core takes any next step.
    const size_t first = options_.seed ? random() % alive_.size() : 0;
    const int burst = options_.seed ? 1 + random() % 16 : 1;
    bool moved = false;
    for (size_t k = 0; k < alive_.size() && !moved; ++k) {
      Core& core = *alive_[(first + k) % alive_.size()];
      for (int b = 0; b < burst && step(core); ++b) moved = true;
    }
    if (options_.seed && ++steps % 64 == 0) change_speeds();
    if (!moved) report_deadlock();
    for (size_t k = 0; k < alive_.size();) {
      Core* core = alive_[k];
      if (!core->done_) {
        ++k;
        continue;
      }
      const double end = core->timeline.finish();
      report_.cores[core->index] = core->timeline.cost();
      free_at_[placed_[core->index]] = end;
      report_.modelled_cycles = std::max(report_.modelled_cycles, end);
      alive_.erase(alive_.begin() + k);
      cores_[core->index].reset();
    }
  }
  report_.findings = findings_.list();
  report_.notes = findings_.notes();
  report_.waited_for_all = !meetings_.empty() && meetings_[0].arrived == blocks_;
  report_.modelled_microseconds = report_.modelled_cycles / options_.cost.clock_mhz;
  return std::move(report_);
}

}  // namespace emulator
