// Flags, barriers and the meeting of all cores.
#pragma once

#include <cstring>
#include <string>

#include "copy.h"

namespace api {

struct EventPipes {
  Pipe from, to;
};

// In the order of HardEvent.
constexpr EventPipes kEventPipes[] = {
    {Pipe::S, Pipe::V},    {Pipe::V, Pipe::S},       {Pipe::S, Pipe::MTE2},
    {Pipe::MTE2, Pipe::S}, {Pipe::S, Pipe::MTE3},    {Pipe::MTE3, Pipe::S},
    {Pipe::V, Pipe::MTE2}, {Pipe::MTE2, Pipe::V},    {Pipe::V, Pipe::MTE3},
    {Pipe::MTE3, Pipe::V}, {Pipe::MTE2, Pipe::MTE3}, {Pipe::MTE3, Pipe::MTE2},
    {Pipe::V, Pipe::V},
};
constexpr EventPipes event_pipes(AscendC::HardEvent event) {
  return kEventPipes[static_cast<int>(event)];
}

inline bool check_event(AscendC::HardEvent event, int id, const Caller& by) {
  Core& core = current();
  if (event == AscendC::HardEvent::V_V) {
    core.error("event-illegal", by, " of V_V, which the compiler keeps for itself");
  }
  if (id < 0 || id >= kEventIds) {
    core.error("event-id-range", by, " of event id ", id, ", not within 0 to 7");
    return false;
  }
  const EventPipes pipes = event_pipes(event);
  const bool reserved = library().reserved_events[event_index(pipes.from, pipes.to)] >> id & 1;
  if (id >= kUserEventIds && !reserved) {
    core.unspecified("event-id-reserved", by, " of event id ", id,
                     ": 6 and 7 are kept for the system and the compiler");
  }
  return true;
}

inline int lowest_free_event(Pipe from, Pipe to, Site site) {
  const uint8_t taken = library().reserved_events[event_index(from, to)];
  for (int id = 0; id < kEventIds; ++id) {
    if (!(taken >> id & 1)) return id;
  }
  current().error("event-ids", site, "all 8 event ids of ", event_name(event_index(from, to)),
                  " are taken: a release build hands out a ninth");
  throw Abandoned();
}

inline int allocate_event(Pipe from, Pipe to, Site site) {
  const int id = lowest_free_event(from, to, site);
  library().reserved_events[event_index(from, to)] |= 1 << id;
  return id;
}

inline void release_event(Pipe from, Pipe to, int id, Site site) {
  uint8_t& taken = library().reserved_events[event_index(from, to)];
  if (id < 0 || id >= kEventIds || !(taken >> id & 1)) {
    current().error("event-ids", site, "ReleaseEventID of id ", id, ", which is not allocated");
    return;
  }
  taken &= ~(1 << id);
}

inline void wait_and_release(Pipe from, Pipe to, int id, Site site) {
  current().wait_flag(from, to, id, site);
  release_event(from, to, id, site);
}

// What FreeTensor says to those who fill the buffer again.
inline void await_free(Buffer& buffer, Site site) {
  if (buffer.free_event >= 0) {
    wait_and_release(buffer.freed_by, buffer.filled_by, buffer.free_event, site);
  }
  buffer.free_event = -1;
}

// As bodies of library calls do: with an id that nobody has allocated.
template <Pipe from, Pipe to>
void fetch_and_sync(Site site) {
  const int id = lowest_free_event(from, to, site);
  current().set_flag(from, to, id, site);
  current().wait_flag(from, to, id, site);
}

// The soft SyncAll: counters in GM, a block of 32 bytes for each core. It takes ids that nobody has
// allocated, which is id 0 where nobody allocates any; and it returns while MTE2 still has to wait
// for S_MTE2, and on a core's first call MTE3 to store the counter. Source: the vendor's
// SoftSyncAllImpl.
class SoftSync {
 public:
  SoftSync(Core& core, const AscendC::GlobalTensor<int32_t>& workspace,
           const AscendC::LocalTensor<int32_t>& local, Site site)
      : core_(core), gm_(workspace), ub_(local), site_(site) {}

  void run() {
    core_.barrier_all();
    check_places();
    check_zeros();
    load(core_.index, 1);
    const int32_t turn = ub_.GetValue(own(), site_) + 1;
    const bool first = turn == 1;
    ub_.SetValue(own(), turn, site_);
    Meeting& meeting = core_.arrive(site_);
    store();
    meeting.came(core_.timeline.done(Pipe::MTE3));
    int64_t sum = 0;
    do {
      await_change(turn);
      core_.timeline.scalar_until(meeting.at);
      load(0, core_.blocks);
      if (first) {
        ub_.SetValue(own(), 1, site_);
        store();
      }
      sum = counters();
      fetch_and_sync<Pipe::S, Pipe::MTE2>(site_);
    } while (sum < int64_t{turn} * core_.blocks);
  }

 private:
  static constexpr uint32_t kStep = kBlock / sizeof(int32_t);

  uint32_t own() const { return core_.index * kStep; }

  // Both workspaces hold a counter of every core: nobody can meet without them.
  void check_places() {
    const uint64_t bytes = static_cast<uint64_t>(core_.blocks) * kBlock;
    const GmPlace gm = gm_.place();
    const bool there = gm.home && !gm.home->released && gm.home->holds(gm.address, bytes);
    if (!there) {
      core_.error("sync-all-workspace", site_, "the workspace of SyncAll is not ", bytes,
                  " bytes of an allocation, 32 for each core");
    }
    ub_.check({"SyncAll", site_}, "the workspace in UB", bytes, kBlock);
    const bool in_ub = static_cast<int64_t>(bytes) <= ub_.bytes();
    if (!there || !in_ub || ub_.address() + bytes > kUbBytes) throw Abandoned();
  }

  // Every counter is 0 before anybody has met: it is the host that clears them.
  void check_zeros() {
    if (library().soft_syncs++ > 0) return;
    const GmPlace counter = gm_[own()].place();
    const uint8_t* bytes = counter.home->data + counter.home->offset(counter.address);
    for (uint32_t b = 0; b < kBlock; ++b) {
      if (bytes[b] == 0) continue;
      core_.error("sync-all-workspace", site_, "the workspace of SyncAll is not zero");
      throw Abandoned();
    }
  }

  void load(int first, int count) {
    Rows rows;
    rows.bytes = count * kBlock;
    copy_in(ub_[first * kStep], gm_[first * kStep], rows, {"SyncAll", site_}, GmUse::counter);
    fetch_and_sync<Pipe::MTE2, Pipe::S>(site_);
  }

  void store() {
    Rows rows;
    rows.bytes = kBlock;
    fetch_and_sync<Pipe::S, Pipe::MTE3>(site_);
    copy_out(gm_[own()], ub_[own()], rows, {"SyncAll", site_}, GmUse::counter);
    fetch_and_sync<Pipe::MTE3, Pipe::MTE2>(site_);
  }

  int64_t counters() const {
    int64_t sum = 0;
    for (int k = 0; k < core_.blocks; ++k) sum += ub_.GetValue(k * kStep, site_);
    return sum;
  }

  // The device loads again at once. Here a core waits until that would tell something new. In
  // program order it waits until all are there, which the model takes for the moment they are.
  void await_change(int32_t turn) {
    const int blocks = core_.blocks;
    const auto counter = [](const uint8_t* memory, int k) {
      int32_t value;
      std::memcpy(&value, memory + k * kBlock, sizeof(value));
      return value;
    };
    const GmPlace gm = gm_.place();
    const uint8_t *in_gm = gm.home->data + gm.home->offset(gm.address),
                  *in_ub = core_.ub() + ub_.address();
    const auto all_there = [=] {
      int64_t sum = 0;
      for (int k = 0; k < blocks; ++k) sum += counter(in_gm, k);
      return sum >= int64_t{turn} * blocks;
    };
    const auto news = [=] {
      for (int k = 0; k < blocks; ++k) {
        if (counter(in_gm, k) != counter(in_ub, k)) return true;
      }
      return all_there();
    };
    core_.adversarial() ? core_.poll(news, site_) : core_.poll(all_there, site_);
  }

  Core& core_;
  const AscendC::GlobalTensor<int32_t>& gm_;
  const AscendC::LocalTensor<int32_t>& ub_;
  const Site site_;
};

}  // namespace api

namespace AscendC {

template <HardEvent event>
void SetFlag(int32_t id, Site site = Site::here()) {
  constexpr auto pipes = api::event_pipes(event);
  if (!api::check_event(event, id, {"SetFlag", site})) return;
  emulator::current().set_flag(pipes.from, pipes.to, id, site);
}

template <HardEvent event>
void WaitFlag(int32_t id, Site site = Site::here()) {
  constexpr auto pipes = api::event_pipes(event);
  if (!api::check_event(event, id, {"WaitFlag", site})) return;
  emulator::current().wait_flag(pipes.from, pipes.to, id, site);
}

template <pipe_t pipe>
void PipeBarrier() {
  static_assert(pipe != PIPE_S, "PipeBarrier takes PIPE_V, PIPE_MTE2, PIPE_MTE3 or PIPE_ALL");
  auto& core = emulator::current();
  if constexpr (pipe == PIPE_ALL) {
    core.barrier_all();
  } else {
    core.barrier(static_cast<emulator::Pipe>(pipe));
  }
}

// By the hardware: a flag between cores.
template <bool isAIVOnly = true>
void SyncAll(Site site = Site::here()) {
  static_assert(isAIVOnly, "SyncAll with the cube's cores hangs in a vector kernel");
  auto& core = emulator::current();
  core.barrier_all();
  emulator::Meeting& meeting = core.arrive(site);
  meeting.came(core.timeline.now());
  core.poll([&] { return meeting.arrived == core.blocks; }, site);
  core.timeline.scalar_until(meeting.at + core.options.cost.hard_sync);
}

template <bool isAIVOnly = true>
void SyncAll(const GlobalTensor<int32_t>& workspace, const LocalTensor<int32_t>& local,
             int32_t used_cores = 0, Site site = Site::here()) {
  auto& core = emulator::current();
  if (used_cores && used_cores != core.blocks) {
    core.error("sync-all-blocks", site, "SyncAll of some of the cores is not emulated");
    throw emulator::Abandoned();
  }
  api::SoftSync(core, workspace, local, site).run();
}

inline void InitSocState() {
  auto& core = emulator::current();
  core.reset_masks();
  core.atomic = {};
}

inline int64_t GetBlockIdx() { return emulator::current().index; }
inline int64_t GetBlockNum() { return emulator::current().blocks; }
}  // namespace AscendC

#define block_idx (AscendC::GetBlockIdx())
