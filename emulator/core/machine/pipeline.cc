#include "pipeline.h"

#include <cstring>

namespace emulator {

namespace {
constexpr size_t kFlight = 4;  // instructions of one pipe that overlap
}

void Pipeline::push(const Instruction& instruction, Run run) {
  auto pending = std::make_unique<Pending>();
  pending->touched.add(instruction.reads);
  pending->touched.add(instruction.writes);
  pending->touched.add(instruction.unjudged);
  pending->writes = instruction.writes;
  pending->run = std::move(run);
  pending->stores = instruction.pipe == Pipe::MTE3;
  queue_.push_back({Kind::run, 0, false, std::move(pending)});
}

bool Pipeline::can_start() const {
  if (queue_.empty() || stalled()) return false;
  const Entry& head = queue_.front();
  switch (head.kind) {
    case Kind::run:
      return started_ < kFlight;
    case Kind::set:
      return true;
    case Kind::wait:
      return flags_[head.flag];
    case Kind::barrier:
      return started_ == 0;
  }
  return false;
}

void Pipeline::start(bool reads_late) {
  Entry head = std::move(queue_.front());
  queue_.pop_front();
  switch (head.kind) {
    case Kind::run: {
      Pending& p = *head.pending;
      p.reads_late = reads_late;
      if (!reads_late) {
        read(p);
        if (!p.stores) execute(p);
      }
      flight_.push_back(std::move(head));
      ++started_;
      break;
    }
    case Kind::set:
      flight_.push_back(std::move(head));
      raise_flags();
      break;
    case Kind::wait:
      flags_[head.flag] = false;
      break;
    case Kind::barrier:
      break;
  }
}

void Pipeline::complete(size_t which) {
  auto entry = flight_.begin();
  for (; entry->kind != Kind::run || which-- > 0; ++entry) {
  }
  Pending& p = *entry->pending;
  if (p.reads_late) read(p);
  if (p.reads_late || p.stores) execute(p);
  if (!p.stores) restore(p.writes, p.bytes, ub_);
  flight_.erase(entry);
  --started_;
  raise_flags();
}

void Pipeline::execute(Pending& p) {
  restore(p.touched, p.bytes, scratch_);
  p.run(scratch_);
  save(p.writes, scratch_, p.bytes);
}

void Pipeline::raise_flags() {
  while (!flight_.empty() && flight_.front().kind == Kind::set) {
    const Entry& set = flight_.front();
    if (set.waits && flags_[set.flag]) return;
    flags_[set.flag] = true;
    flight_.pop_front();
  }
}

void Pipeline::save(const Footprint& parts, const uint8_t* from, std::vector<uint8_t>& bytes) {
  bytes.clear();
  for (const Interval& part : parts)
    bytes.insert(bytes.end(), from + part.begin, from + part.begin + part.size);
}

void Pipeline::restore(const Footprint& parts, const std::vector<uint8_t>& bytes, uint8_t* to) {
  const uint8_t* at = bytes.data();
  for (const Interval& part : parts) {
    std::memcpy(to + part.begin, at, part.size);
    at += part.size;
  }
}

}  // namespace emulator
