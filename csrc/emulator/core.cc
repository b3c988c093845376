#include "core.h"

#include "launch.h"

namespace emulator {

namespace {
constexpr size_t kQueue = 32;             // instructions that a pipe's queue holds
constexpr uint32_t kPoison = 0x7FA0DEAD;  // a signalling NaN
}  // namespace

Core::Core(int index, int blocks, const Options& options, Findings& findings, Gm& gm,
           Launch& launch)
    : index(index),
      blocks(blocks),
      options(options),
      findings(findings),
      gm(gm),
      judge(index, options, findings, gm),
      cache(index, gm, judge),
      launch_(launch),
      storage_(2 * kUbBytes + 2 * kGmLine) {
  const auto start = reinterpret_cast<uintptr_t>(storage_.data());
  ub_ = storage_.data() + (kGmLine - start % kGmLine) % kGmLine;
  scratch_ = ub_ + kUbBytes;
  for (uint32_t i = 0; i < kUbBytes; ++i) ub_[i] = static_cast<uint8_t>(kPoison >> (8 * (i % 4)));
  for (int p = 1; p < kPipes; ++p) pipelines_.emplace_back(ub_, scratch_, flags_);
}

void Core::account(Instruction& i) {
  if (!i.gm.empty()) cache.check(i);
  const Insertions inserted = judge.access(i);
  if (inserted.vector_barrier) {
    timeline.barrier(Pipe::V);
    if (adversarial()) pipelines_[0].push_barrier();
  }
  for (int p = 1; p < kPipes; ++p) {
    if (!inserted.scalar_waits[p]) continue;
    timeline.wait_flag(Pipe::S, timeline.set_flag(static_cast<Pipe>(p)));
    if (adversarial())
      block("automatic synchronisation", i.site, [this, p] { return pipelines_[p - 1].idle(); });
  }
  if (inserted.waits_for_scalar) timeline.wait_flag(i.pipe, timeline.set_flag(Pipe::S));
  if (i.pipe == Pipe::S) {
    timeline.access(!i.gm.empty());
    if (adversarial()) maybe_yield();
    return;
  }
  for (const GmRange& range : i.gm) {
    if (!options.cost.cold_l2 && gm.bytes() <= options.cost.l2_bytes) break;
    if (range.use != GmUse::read) continue;
    for (uint64_t line = range.begin / kGmLine; line * kGmLine < range.begin + range.size; ++line) {
      if (range.allocation->touched[line]) continue;
      range.allocation->touched[line] = true;
      i.work.hbm_traffic += kGmLine;
    }
    if (i.work.traffic < i.work.hbm_traffic) i.work.traffic = i.work.hbm_traffic;
  }
  timeline.issue(i.pipe, i.name, i.site, i.work);
}

void Core::enqueue(const Instruction& i, Run run) {
  Pipeline& pipeline = pipelines_[emulator::index(i.pipe) - 1];
  const Pipe pipe = i.pipe;
  pipeline.push(i, std::move(run));
  if (pipeline.waiting() > kQueue) {
    block("room in the queue", i.site,
          [this, pipe] { return pipelines_[emulator::index(pipe) - 1].waiting() <= kQueue / 2; });
  }
  maybe_yield();
}

bool Core::gm_range(Instruction& i, Allocation* home, const uint8_t* address, uint64_t bytes,
                    GmUse use, uint8_t atomic_kind) {
  if (!home) {
    error("gm-unallocated", std::string(i.name) + " touches GM that was not allocated", i.site);
    return false;
  }
  if (home->released) {
    error("gm-released", std::string(i.name) + " touches " + home->name + ", which was released",
          i.site);
    return false;
  }
  home->last_epoch = gm.epoch;
  const int64_t begin = address - home->address;
  if (begin < 0 || begin + bytes > home->bytes) {
    error("gm-bounds",
          std::string(i.name) + (use == GmUse::read ? " reads" : " writes") + " bytes " +
              std::to_string(begin) + " to " + std::to_string(begin + static_cast<int64_t>(bytes)) +
              " of " + home->name + ", which has " + std::to_string(home->bytes),
          i.site);
    return false;
  }
  if (bytes) i.gm.push_back({home, static_cast<uint64_t>(begin), bytes, use, atomic_kind});
  return true;
}

// A flag is a bit. No document says what becomes of a SetFlag that finds it up: here it is lost or
// waits, as chance has it. Those of queues wait: the vendor's own queues depend on it.
void Core::set_flag(Pipe from, Pipe to, int id, Site site, FlagOwner owner) {
  judge.set_flag(from, to, id, site, owner);
  timeline_flags_[event_index(from, to) * kEventIds + id] = timeline.set_flag(from);
  if (!adversarial()) return;
  const int flag = event_index(from, to) * kEventIds + id;
  const bool waits = owner == FlagOwner::queue || launch_.toss();
  if (from != Pipe::S) {
    pipelines_[emulator::index(from) - 1].push_set(flag, waits);
  } else {
    if (waits) block("SetFlag of a flag that is up", site, [this, flag] { return !flags_[flag]; });
    flags_[flag] = true;
  }
  maybe_yield();
}

void Core::wait_flag(Pipe from, Pipe to, int id, Site site) {
  judge.wait_flag(from, to, id, site);
  const int flag = event_index(from, to) * kEventIds + id;
  timeline.wait_flag(to, timeline_flags_[flag]);
  if (!adversarial()) return;
  if (to == Pipe::S) {
    block("WaitFlag", site, [this, flag] { return flags_[flag]; });
    flags_[flag] = false;
  } else {
    pipelines_[emulator::index(to) - 1].push_wait(flag);
  }
  maybe_yield();
}

void Core::barrier(Pipe pipe, Site) {
  judge.barrier(pipe);
  timeline.barrier(pipe);
  if (adversarial()) pipelines_[emulator::index(pipe) - 1].push_barrier();
}

bool Core::drained() const {
  for (const Pipeline& p : pipelines_) {
    if (!p.idle()) return false;
  }
  return true;
}

void Core::barrier_all() {
  judge.barrier_all();
  timeline.barrier_all();
  if (adversarial()) block("PIPE_ALL", {}, [this] { return drained(); });
}

void Core::scalar_waits(Pipe pipe) {
  judge.scalar_waits(pipe);
  timeline.wait_flag(Pipe::S, timeline.set_flag(pipe));
  if (adversarial()) {
    block("pipe", {}, [this, pipe] { return pipelines_[emulator::index(pipe) - 1].idle(); });
  }
}

void Core::read_vector_register(std::function<bool()> ready, Site site) {
  timeline.wait_flag(Pipe::S, timeline.set_flag(Pipe::V));
  block("a register of the vector unit", site, std::move(ready));
}

Meeting& Core::arrive(Site site) {
  if (blocks > options.cores) {
    error("sync-all-blocks",
          "SyncAll with " + std::to_string(blocks) + " blocks on " + std::to_string(options.cores) +
              " cores: the blocks that wait for a core never arrive",
          site);
    throw Abandoned();
  }
  Meeting& meeting = launch_.meeting(met_++);
  if (++meeting.arrived == blocks) ++gm.epoch;
  return meeting;
}

void Core::poll(std::function<bool()> until, Site site) {
  block("the other cores in SyncAll", site, std::move(until));
}

int Core::lowest_free_event(Pipe from, Pipe to, Site site) {
  const uint8_t taken = reserved_events[event_index(from, to)];
  for (int id = 0; id < kEventIds; ++id) {
    if (!(taken >> id & 1)) return id;
  }
  error("event-ids",
        std::string("all 8 event ids of ") + kPipeName[emulator::index(from)] + "_" +
            kPipeName[emulator::index(to)] + " are taken",
        site);
  throw Abandoned();
}

void Core::finish() {
  if (adversarial()) block("kernel end", {}, [this] { return drained(); });
  judge.finish({});
  if (!judge.drained()) {
    error("not-drained",
          "the kernel ends while pipes may be busy: without a TPipe it ends with "
          "PipeBarrier<PIPE_ALL>",
          {});
  }
  cache.finish();
  if (mask.counter || mask.dirty) {
    error("mask-left-set",
          mask.counter ? "the kernel ends in counter mode: SetMaskNorm is missing"
                       : "the kernel ends with a vector mask of its own: ResetMask is missing",
          mask.site);
  }
  if (atomic.kind) {
    error("atomic-left-set", "the kernel ends in atomic mode: SetAtomicNone is missing",
          atomic.site);
  }
}

void Core::block(const char* what, Site site, std::function<bool()> until) {
  if (until()) return;
  until_ = std::move(until);
  waits_for_ = what;
  waits_at_ = site;
  fiber_->leave();
  until_ = nullptr;
  if (launch_.abandoned()) throw Abandoned();
}

void Core::maybe_yield() {
  if (!launch_.should_yield()) return;
  fiber_->leave();
  if (launch_.abandoned()) throw Abandoned();
}

}  // namespace emulator
