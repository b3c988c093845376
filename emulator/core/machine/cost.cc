#include "cost.h"

#include <algorithm>

namespace emulator {

void Timeline::begin(const CostModel& model, int core, int active_cores, double at,
                     std::vector<TraceEvent>* trace) {
  model_ = &model;
  core_ = core;
  trace_ = trace;
  const double hertz = model.clock_mhz * 1e6;
  const double l2_share = model.l2_bytes_per_second / hertz / active_cores;
  l2_rate_ = std::min(model.l2_read_rate, l2_share);
  write_rate_ = std::min(model.write_rate, l2_share);
  hbm_rate_ = std::min(model.hbm_read_rate, model.hbm_bytes_per_second / hertz / active_cores);
  start_ = at;
  now_ = at + model.start;
  for (int p = 0; p < kPipes; ++p) ready_[p] = free_[p] = done_[p] = now_;
}

void Timeline::issue(Pipe pipe, const Caller& by, const Work& work) {
  const int p = index(pipe);
  now_ += model_->dispatch;
  double occupied = 0, latency = 0;
  if (pipe == Pipe::V) {
    occupied = work.repeats * model_->vector_repeat + work.cycles + model_->vector_issue;
    latency = (work.latency > 0 ? work.latency : model_->vector_latency) - model_->vector_issue;
  } else {
    const double rate = pipe == Pipe::MTE2 ? l2_rate_ : write_rate_;
    const double moving = (work.traffic - work.hbm_traffic) / rate + work.hbm_traffic / hbm_rate_;
    occupied = std::max(model_->dma_instruction + model_->dma_row * work.rows, moving);
    latency = model_->dma_latency;
  }
  const double begin = std::max({now_, free_[p], ready_[p]});
  free_[p] = begin + occupied;
  done_[p] = std::max(done_[p], begin + occupied + latency);
  PipeCost& cost = cost_.pipe[p];
  ++cost.instructions;
  cost.repeats += work.repeats;
  cost.rows += work.rows;
  cost.bytes += work.bytes;
  cost.busy += occupied;
  if (trace_) trace_->push_back({core_, pipe, by, begin, free_[p]});
}

double Timeline::set_flag(Pipe from) {
  now_ += model_->flag;
  if (from == Pipe::S) return now_;
  const int p = index(from);
  return std::max({now_, ready_[p], free_[p], done_[p]});
}

void Timeline::wait_flag(Pipe to, double flag_time) {
  now_ += model_->flag;
  if (to == Pipe::S) {
    now_ = std::max(now_, flag_time);
  } else {
    ready_[index(to)] = std::max(ready_[index(to)], flag_time);
  }
}

void Timeline::barrier(Pipe pipe) {
  now_ += model_->flag;
  ready_[index(pipe)] = std::max(ready_[index(pipe)], done_[index(pipe)]);
}

void Timeline::barrier_all() {
  now_ += model_->flag;
  for (int p = 1; p < kPipes; ++p) now_ = std::max({now_, done_[p], ready_[p]});
  for (int p = 1; p < kPipes; ++p) ready_[p] = std::max(ready_[p], now_);
}

double Timeline::finish() {
  barrier_all();
  cost_.cycles = now_ - start_;
  cost_.pipe[0].busy = 0;
  return now_;
}

}  // namespace emulator
