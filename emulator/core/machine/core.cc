#include "core.h"

#include <algorithm>

#include "launch.h"

namespace emulator {

namespace {
constexpr size_t kQueue = 32;  // instructions that a pipe's queue holds
}  // namespace

Core::Core(int index, int blocks, const Options& options, Findings& findings, Gm& gm,
           Launch& launch)
    : index(index),
      blocks(blocks),
      options(options),
      findings(findings),
      gm(gm),
      judge(index, options, findings, gm),
      launch_(launch),
      l2_(options.cost.l2_bytes / std::min(blocks, options.cores)),
      storage_(2 * kUbBytes + 2 * kGmLine) {
  const auto start = reinterpret_cast<uintptr_t>(storage_.data());
  ub_ = storage_.data() + (kGmLine - start % kGmLine) % kGmLine;
  scratch_ = ub_ + kUbBytes;
  poison(ub_, kUbBytes);
  for (int p = 1; p < kPipes; ++p) pipelines_.emplace_back(ub_, scratch_, flags_);
}

void Core::account(Instruction& i) {
  const Insertions inserted = judge.access(i);
  if (inserted.vector_barrier) {
    timeline.barrier(Pipe::V);
    if (adversarial()) pipelines_[0].push_barrier();
  }
  for (int p = 1; p < kPipes; ++p) {
    if (!inserted.scalar_waits[p]) continue;
    timeline.wait_flag(Pipe::S, timeline.set_flag(static_cast<Pipe>(p)));
    if (adversarial())
      block("automatic synchronisation", i.by.site, [this, p] { return pipelines_[p - 1].idle(); });
  }
  if (inserted.waits_for_scalar) timeline.wait_flag(i.pipe, timeline.set_flag(Pipe::S));
  if (i.pipe == Pipe::S) {
    timeline.access();
    if (adversarial()) maybe_yield();
    return;
  }
  for (const GmRange& range : i.gm) i.work.hbm_traffic += hbm_traffic(range);
  i.work.traffic = std::max(i.work.traffic, i.work.hbm_traffic);
  timeline.issue(i.pipe, i.by, i.work);
}

// What HBM moves for an access: lines that are not in L2, once where they are read or written, twice
// where they are added to. Whatever leaves L2 is written back at the cost of the access that brought it.
double Core::hbm_traffic(const GmRange& range) {
  const double beyond = options.cost.beyond_l2(gm.bytes());
  if (beyond == 0 && (!options.cost.cold_l2 || range.use != GmUse::read)) return 0;
  const uint64_t home = reinterpret_cast<uintptr_t>(range.allocation->address) / kGmLine;
  std::vector<bool>& read = range.allocation->read;
  double missing = 0;
  for (uint64_t line = range.begin / kGmLine; line * kGmLine < range.begin + range.size; ++line) {
    if (beyond > 0) {
      if (!l2_.touch(home + line)) missing += beyond;
    } else if (!read[line]) {
      read[line] = true;
      ++missing;
    }
  }
  return missing * kGmLine * (range.use == GmUse::atomic ? 2 : 1);
}

void Core::enqueue(const Instruction& i, Run run) {
  Pipeline& pipeline = pipelines_[emulator::index(i.pipe) - 1];
  const Pipe pipe = i.pipe;
  pipeline.push(i, std::move(run));
  if (pipeline.waiting() > kQueue) {
    block("room in the queue", i.by.site,
          [this, pipe] { return pipelines_[emulator::index(pipe) - 1].waiting() <= kQueue / 2; });
  }
  maybe_yield();
}

namespace {

std::string text_of(GmUse use, int64_t begin, uint64_t bytes, const Allocation& home) {
  const std::string where = begin < 0 ? joined(-begin, " bytes in front of ", home.name)
                                      : joined("byte ", begin, " of ", home.name);
  return joined(use == GmUse::read ? " reads " : " writes ", bytes, " bytes from ", where,
                " on, which has ", home.bytes);
}

}  // namespace

Inside Core::inside_gm(Instruction& i, Allocation* home, const uint8_t* address, uint64_t bytes,
                       GmUse use, uint8_t atomic_kind) {
  if (!home) {
    error("gm-unallocated", i.by.site, i.by.name, " touches GM that was not allocated");
    return {};
  }
  if (home->released) {
    error("gm-released", i.by.site, i.by.name, " touches ", home->name, ", which was released");
    return {};
  }
  home->last_epoch = gm.epoch;
  const int64_t begin = address - home->address, end = begin + static_cast<int64_t>(bytes);
  const auto limit = static_cast<int64_t>(home->bytes), slack = limit + options.gm_slack;
  if (begin < 0 || end > slack) {
    error("gm-bounds", i.by, text_of(use, begin, bytes, *home));
  } else if (end > limit) {
    unspecified("gm-slack", i.by, text_of(use, begin, bytes, *home),
                ": it lives on what the runtime adds behind an allocation");
  }
  const int64_t first = std::max<int64_t>(begin, 0), last = std::min(end, limit);
  if (first >= last) return {};
  const uint64_t inside = last - first;
  i.gm.push_back({home, static_cast<uint64_t>(first), inside, use, atomic_kind});
  return {static_cast<uint64_t>(first - begin), inside};
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

void Core::barrier(Pipe pipe) {
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

void Core::read_vector_register(std::function<bool()> ready, Site site) {
  timeline.wait_flag(Pipe::S, timeline.set_flag(Pipe::V));
  block("a register of the vector unit", site, std::move(ready));
}

Meeting& Core::arrive(Site site) {
  if (blocks > options.cores) {
    error("sync-all-blocks", site, "SyncAll with ", blocks, " blocks on ", options.cores,
          " cores: the blocks that wait for a core never arrive");
    throw Abandoned();
  }
  Meeting& meeting = launch_.meeting(met_++);
  if (++meeting.arrived == blocks) ++gm.epoch;
  return meeting;
}

void Core::poll(std::function<bool()> until, Site site) {
  block("the other cores in SyncAll", site, std::move(until));
}

void Core::set_mask_mode(bool counter) {
  timeline.mask();
  mask.counter = counter;
}

void Core::set_vector_mask(uint64_t high, uint64_t low) {
  timeline.mask();
  mask.high = high;
  mask.low = low;
  mask.owned = high == ~0ull && low == ~0ull;
  mask.dirty = false;
}

void Core::reset_masks() {
  set_mask_mode(false);
  set_vector_mask(~0ull, ~0ull);
}

void Core::finish() {
  if (adversarial()) block("kernel end", {}, [this] { return drained(); });
  judge.finish({});
  if (!judge.drained()) {
    error("not-drained", {},
          "the kernel ends while pipes may be busy: without a TPipe it ends with "
          "PipeBarrier<PIPE_ALL>");
  }
  if (mask.counter || mask.dirty) {
    error("mask-left-set", mask.site,
          mask.counter ? "the kernel ends in counter mode: SetMaskNorm is missing"
                       : "the kernel ends with a vector mask of its own: ResetMask is missing");
  }
  if (atomic.kind) {
    error("atomic-left-set", atomic.site,
          "the kernel ends in atomic mode: SetAtomicNone is missing");
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
