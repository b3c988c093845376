#include "judge.h"

#include <algorithm>

namespace emulator {

namespace {

std::string ub_bytes(uint32_t begin) { return joined("byte ", begin, " of UB"); }

std::string gm_bytes(const GmRange& range, uint64_t at) {
  return joined("byte ", at, " of ", range.allocation->name);
}

}  // namespace

void Judge::report(const char* rule, Severity severity, std::string message, Site site, Site other,
                   uint32_t number, uint32_t other_number) {
  Finding finding;
  finding.rule = rule;
  finding.severity = severity;
  finding.message = std::move(message);
  finding.site = site;
  finding.other = other;
  finding.core = core_;
  finding.number = number;
  finding.other_number = other_number;
  findings_.add(std::move(finding));
}

void Judge::raise(int pipe, const Knowledge& to) {
  for (size_t q = 0; q < to.size(); ++q) knowledge_[pipe][q] = std::max(knowledge_[pipe][q], to[q]);
}

Knowledge Judge::all_of(Pipe pipe) const {
  Knowledge all = knowledge_[index(pipe)];
  for (int q : {index(pipe), waits_of(pipe)}) all[q] = issued_[q];
  return all;
}

void Judge::scalar_waits(Pipe pipe) {
  for (int p = 0; p < kPipes; ++p) raise(p, all_of(pipe));
}

void Judge::barrier(Pipe pipe) { knowledge_[index(pipe)][index(pipe)] = issued_[index(pipe)]; }

void Judge::barrier_all() {
  for (auto& knowledge : knowledge_) knowledge = issued_;
}

// The earlier instruction must be complete before this one starts.
void Judge::require(const Instruction& i, int other, uint32_t number, const char* rule,
                    const char* memory, const std::string& where) {
  const int p = index(i.pipe);
  if (number == 0 || known(i.pipe, other, number)) return;
  if (p == other && i.pipe == Pipe::S) return;
  if (options_.automatic_sync) {
    if (i.pipe == Pipe::V && other == index(Pipe::V)) {
      knowledge_[p][p] = issued_[p] - 1;  // all but this instruction
      inserted_.vector_barrier = true;
      return;
    }
    if (i.pipe == Pipe::S) {
      scalar_waits(static_cast<Pipe>(other));
      inserted_.scalar_waits[other] = true;
      return;
    }
    if (other == index(Pipe::S)) {
      raise(p, all_of(Pipe::S));
      inserted_.waits_for_scalar = true;
      return;
    }
  }
  const Caller& call = calls_[other][number - 1];
  const std::string missing =
      p == other ? joined("PipeBarrier<PIPE_", kPipeName[p], ">")
                 : "flag " + event_name(event_index(static_cast<Pipe>(other), i.pipe));
  report(rule, Severity::error,
         joined(i.by.name, rule[0] == 'r' ? " reads " : " overwrites ", memory, " that ", call.name,
                rule[2] == 'r' ? " reads" : " writes", ", without a ", missing,
                " between them (first at ", where, ")"),
         i.by.site, call.site, issued_[p], number);
}

void Judge::check_ub(const Instruction& i) {
  const int p = index(i.pipe);
  const uint32_t t = issued_[p];
  bool never = false, dummy = false;
  uint32_t never_at = 0, dummy_at = 0;
  for (const Interval& part : i.reads) {
    ub_.each(part.begin, part.size, false, [&](UbCell& cell, uint64_t at) {
      if (!known(i.pipe, cell.write_pipe, cell.write)) {
        require(i, cell.write_pipe, cell.write, "raw", "UB", ub_bytes(at));
      }
      if (cell.value == UbCell::never && !never) never = true, never_at = at;
      if (cell.value == UbCell::dummy && !dummy) dummy = true, dummy_at = at;
    });
  }
  for (const Interval& part : i.writes) {
    ub_.each(part.begin, part.size, true, [&](UbCell& cell, uint64_t at) {
      if (!known(i.pipe, cell.write_pipe, cell.write)) {
        require(i, cell.write_pipe, cell.write, "waw", "UB", ub_bytes(at));
      }
      for (int q = 0; q < kPipes; ++q) {
        if (!known(i.pipe, q, cell.read[q])) require(i, q, cell.read[q], "war", "UB", ub_bytes(at));
        cell.read[q] = 0;
      }
      cell.write = t;
      cell.write_pipe = p;
      if (i.defines) cell.value = UbCell::defined;
    });
  }
  for (const Interval& part : i.dummies) {
    ub_.each(part.begin, part.size, true,
             [](UbCell& cell, uint64_t) { cell.value = UbCell::dummy; });
  }
  for (const Interval& part : i.reads) {
    ub_.each(part.begin, part.size, false, [&](UbCell& cell, uint64_t) { cell.read[p] = t; });
  }
  if (never) clash("ub-uninitialised", i, "reads UB that nothing has written", ub_bytes(never_at));
  if (dummy) {
    clash("ub-dummy", i, "reads padding of a DataCopyPad whose value is not specified",
          ub_bytes(dummy_at), Severity::unspecified);
  }
}

void Judge::clash(const char* rule, const Instruction& i, const char* what,
                  const std::string& where, Severity severity) {
  report(rule, severity, joined(i.by.name, " ", what, " (first at ", where, ")"), i.by.site, {},
         issued_[index(i.pipe)]);
}

// Copies of two cores that end within one 32-byte block touch different bytes of it; what the
// hardware makes of that no document says.
void Judge::check_shared_blocks(const Instruction& i, const GmRange& range) {
  const uint64_t end = range.begin + range.size, limit = range.allocation->bytes;
  bool shared = false;
  uint64_t shared_at = 0;
  const auto look = [&](uint64_t begin) {
    const uint64_t size = std::min<uint64_t>(kBlock, limit - begin);
    range.allocation->shadow.each(begin, size, false, [&](GmCell& cell, uint64_t at) {
      const bool inside = range.begin <= at && at < end;  // a race, which is judged by itself
      if (inside || shared || cell.epoch != gm_.epoch || cell.atomic) return;
      if (cell.writer >= 0 && cell.writer != core_) shared = true, shared_at = at;
    });
  };
  if (range.begin % kBlock) look(range.begin / kBlock * kBlock);
  if (end % kBlock && end < limit) look(end / kBlock * kBlock);
  if (!shared) return;
  clash("gm-shared-block", i,
        "writes a part of a 32-byte block of GM, of which another core writes a part before the "
        "next SyncAll",
        gm_bytes(range, shared_at), Severity::unspecified);
}

// Another write of the byte before this access: by another core, or by this one.
void Judge::check_writer(const Instruction& i, const GmRange& range, const GmCell& cell,
                         uint64_t at) {
  const bool others_wrote = cell.many_writers || (cell.writer >= 0 && cell.writer != core_);
  const bool unordered =
      others_wrote || (cell.writer == core_ && !known(i.pipe, cell.write_pipe, cell.write));
  if (!unordered) return;
  const bool writes = range.use != GmUse::read;
  const bool both_atomic = range.use == GmUse::atomic && cell.atomic == range.atomic;
  const bool plain_by_others = cell.plain_writer >= 0 && cell.plain_writer != core_;
  if (both_atomic && !(others_wrote && plain_by_others)) {
    findings_.note("the order of atomic additions to " + range.allocation->name +
                   " is not determined");
  } else if (others_wrote) {
    clash("gm-race", i,
          writes ? "writes GM that another core writes before the next SyncAll"
                 : "reads GM that another core writes before the next SyncAll",
          gm_bytes(range, at));
  } else {
    require(i, cell.write_pipe, cell.write, writes ? "waw" : "raw", "GM", gm_bytes(range, at));
  }
}

void Judge::write_gm(const Instruction& i, const GmRange& range, GmCell& cell, uint64_t at) {
  const int p = index(i.pipe);
  if (cell.many_readers || (cell.reader >= 0 && cell.reader != core_)) {
    clash("gm-race", i, "writes GM that another core reads before the next SyncAll",
          gm_bytes(range, at));
  } else if (cell.reader == core_) {
    require(i, index(Pipe::MTE2), cell.read, "war", "GM", gm_bytes(range, at));
  }
  cell.reader = -1;
  cell.many_readers = false;
  cell.read = 0;
  cell.many_writers = cell.many_writers || (cell.writer >= 0 && cell.writer != core_);
  cell.writer = core_;
  cell.write = issued_[p];
  cell.write_pipe = p;
  cell.atomic = range.use == GmUse::atomic ? range.atomic : 0;
  if (range.use == GmUse::write) cell.plain_writer = core_;
  cell.defined = true;
  cell.changed = gm_.epoch;
}

void Judge::check_gm(const Instruction& i, const GmRange& range) {
  if (range.use == GmUse::write) check_shared_blocks(i, range);
  bool undefined = false;
  uint64_t undefined_at = 0;
  range.allocation->shadow.each(range.begin, range.size, true, [&](GmCell& cell, uint64_t at) {
    if (cell.epoch != gm_.epoch) {
      GmCell fresh;
      fresh.defined = cell.defined;
      fresh.changed = cell.changed;
      cell = fresh;
      cell.epoch = gm_.epoch;
    }
    if (range.use != GmUse::write && !cell.defined && !undefined)
      undefined = true, undefined_at = at;
    if (range.use == GmUse::counter) {
      cell.changed = gm_.epoch;
      return;
    }
    check_writer(i, range, cell, at);
    if (range.use != GmUse::read) return write_gm(i, range, cell, at);
    if (cell.reader != core_) {
      cell.many_readers = cell.reader >= 0;
      cell.reader = core_;
    }
    cell.read = issued_[index(i.pipe)];
  });
  if (undefined) {
    clash("gm-uninitialised", i,
          range.use == GmUse::atomic ? "adds to GM that neither host nor kernel has written"
                                     : "reads GM that neither host nor kernel has written",
          gm_bytes(range, undefined_at));
  }
}

Insertions Judge::access(const Instruction& i) {
  inserted_ = {};
  const int p = index(i.pipe);
  ++issued_[p];
  calls_[p].push_back(i.by);
  check_ub(i);
  for (const GmRange& range : i.gm) check_gm(i, range);
  return inserted_;
}

void Judge::define(uint32_t begin, uint32_t size) {
  ub_.each(begin, size, false, [](UbCell& cell, uint64_t) { cell.value = UbCell::defined; });
}

void Judge::forget(uint32_t begin, uint32_t size) {
  ub_.each(begin, size, false, [](UbCell& cell, uint64_t) { cell.value = UbCell::never; });
}

void Judge::set_flag(Pipe from, Pipe to, int id, Site site, FlagOwner owner) {
  Flag& flag = flags_[event_index(from, to)][id];
  const std::string name = flag_name(event_index(from, to), id);
  if (flag.full) {
    report("flag-repeated", Severity::error, "SetFlag " + name + " on a flag that is already set",
           site, flag.site);
  } else if (owner == FlagOwner::kernel && flag.wait > knowledge_[index(from)][waits_of(to)]) {
    report("flag-early", Severity::error,
           "SetFlag " + name + " while the WaitFlag before it may still have to be executed", site,
           flag.wait_site);
  }
  flag.full = true;
  flag.site = site;
  flag.payload = all_of(from);
}

void Judge::wait_flag(Pipe from, Pipe to, int id, Site site) {
  Flag& flag = flags_[event_index(from, to)][id];
  if (!flag.full) {
    report("flag-never-set", Severity::error,
           joined("WaitFlag ", flag_name(event_index(from, to), id),
                  " with no SetFlag before it: the pipe would hang"),
           site);
    return;
  }
  flag.full = false;
  flag.wait = ++issued_[waits_of(to)];
  flag.wait_site = site;
  raise(index(to), flag.payload);
  if (to == Pipe::S) {
    flag.payload[waits_of(Pipe::S)] = flag.wait;
    for (int p = 0; p < kPipes; ++p) raise(p, flag.payload);
  }
}

bool Judge::drained() const {
  for (int p = 1; p < kPipes; ++p) {
    if (!known(Pipe::S, p, issued_[p])) return false;
  }
  return true;
}

void Judge::finish(Site site) {
  for (int event = 0; event < kEvents; ++event) {
    for (int id = 0; id < kEventIds; ++id) {
      const Flag& flag = flags_[event][id];
      if (!flag.full) continue;
      report("flag-left-set", Severity::error,
             joined("the kernel ends with flag ", flag_name(event, id),
                    " set: no WaitFlag met its SetFlag"),
             flag.site, site);
    }
  }
}

}  // namespace emulator
