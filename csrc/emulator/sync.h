// Flags, barriers and the meeting of all cores.
#pragma once

#include <string>

#include "tensor.h"

namespace emulator {

struct EventPipes {
  Pipe from, to;
};

constexpr EventPipes event_pipes(AscendC::HardEvent event) {
  using E = AscendC::HardEvent;
  switch (event) {
    case E::S_V:
      return {Pipe::S, Pipe::V};
    case E::V_S:
      return {Pipe::V, Pipe::S};
    case E::S_MTE2:
      return {Pipe::S, Pipe::MTE2};
    case E::MTE2_S:
      return {Pipe::MTE2, Pipe::S};
    case E::S_MTE3:
      return {Pipe::S, Pipe::MTE3};
    case E::MTE3_S:
      return {Pipe::MTE3, Pipe::S};
    case E::V_MTE2:
      return {Pipe::V, Pipe::MTE2};
    case E::MTE2_V:
      return {Pipe::MTE2, Pipe::V};
    case E::V_MTE3:
      return {Pipe::V, Pipe::MTE3};
    case E::MTE3_V:
      return {Pipe::MTE3, Pipe::V};
    case E::MTE2_MTE3:
      return {Pipe::MTE2, Pipe::MTE3};
    case E::MTE3_MTE2:
      return {Pipe::MTE3, Pipe::MTE2};
    case E::V_V:
      return {Pipe::V, Pipe::V};
  }
  return {Pipe::S, Pipe::S};
}

inline bool check_event(Core& core, AscendC::HardEvent event, int id, const char* name, Site site) {
  if (event == AscendC::HardEvent::V_V) {
    core.error("event-illegal", std::string(name) + " of V_V, which the compiler keeps for itself",
               site);
  }
  if (id < 0 || id >= kEventIds) {
    core.error("event-id-range",
               std::string(name) + " of event id " + std::to_string(id) + ", not within 0 to 7",
               site);
    return false;
  }
  const EventPipes pipes = event_pipes(event);
  const bool reserved = core.reserved_events[event_index(pipes.from, pipes.to)] >> id & 1;
  if (id >= kUserEventIds && !reserved) {
    core.report("event-id-reserved", Severity::unspecified,
                std::string(name) + " of event id " + std::to_string(id) +
                    ": 6 and 7 are kept for the system and the compiler",
                site);
  }
  return true;
}

inline void release_event(Core& core, Pipe from, Pipe to, int id, Site site) {
  if (id < 0 || id >= kEventIds || !(core.reserved_events[event_index(from, to)] >> id & 1)) {
    core.error("event-ids",
               "ReleaseEventID of id " + std::to_string(id) + ", which is not allocated", site);
    return;
  }
  core.reserved_events[event_index(from, to)] &= ~(1 << id);
}

}  // namespace emulator

namespace AscendC {

template <HardEvent event>
void SetFlag(int32_t id, Site site = Site::here()) {
  auto& core = emulator::current();
  if (!emulator::check_event(core, event, id, "SetFlag", site)) return;
  constexpr auto pipes = emulator::event_pipes(event);
  core.set_flag(pipes.from, pipes.to, id, site);
}

template <HardEvent event>
void WaitFlag(int32_t id, Site site = Site::here()) {
  auto& core = emulator::current();
  if (!emulator::check_event(core, event, id, "WaitFlag", site)) return;
  constexpr auto pipes = emulator::event_pipes(event);
  core.wait_flag(pipes.from, pipes.to, id, site);
}

template <pipe_t pipe>
void PipeBarrier(Site site = Site::here()) {
  static_assert(pipe != PIPE_S, "PipeBarrier takes PIPE_V, PIPE_MTE2, PIPE_MTE3 or PIPE_ALL");
  auto& core = emulator::current();
  if constexpr (pipe == PIPE_ALL) {
    core.barrier_all();
  } else {
    core.barrier(static_cast<emulator::Pipe>(pipe), site);
  }
}

// Waits for the memory of the scalar unit, whose stores the emulator never delays.
template <MemDsbT>
void DataSyncBarrier() {}

template <bool isAIVOnly = true>
void SyncAll(Site site = Site::here()) {
  emulator::current().sync_all("SyncAll", site);
}

template <bool isAIVOnly = true>
void SyncAll(const GlobalTensor<int32_t>& workspace, const LocalTensor<int32_t>& local,
             int32_t used_cores = 0, Site site = Site::here()) {
  auto& core = emulator::current();
  const int64_t cores = used_cores ? used_cores : core.blocks;
  auto& i = core.draft(emulator::Pipe::S, "SyncAll", site);
  const int64_t bytes = cores * emulator::kBlock;
  if (used_cores && used_cores != core.blocks) {
    core.error("sync-all-blocks", "SyncAll of some of the cores is not emulated", site);
    throw emulator::Abandoned();
  }
  if (local.usable(i, "local workspace", bytes, emulator::kBlock) &&
      workspace.range(i, 0, bytes, emulator::GmUse::read)) {
    // Before anybody has met, every counter must be 0: it is the host that clears them.
    emulator::GmRange& range = i.gm[0];
    for (int64_t b = 0; b < bytes; ++b) {
      if (core.soft_syncs == 0 && range.allocation->data[range.begin + b] != 0) {
        core.error("sync-all-workspace", "the workspace of SyncAll is not zero", site);
        break;
      }
    }
    range.allocation->shadow.each(
        range.begin, range.size, false, [&](emulator::GmCell& cell, uint64_t) {
          if (!cell.defined)
            core.error("gm-uninitialised", "the workspace of SyncAll was never written", site);
        });
  }
  ++core.soft_syncs;
  core.sync_all("SyncAll", site);
}

inline void InitSocState() {
  auto& core = emulator::current();
  core.mask = {};
  core.atomic = {};
}

inline int64_t GetBlockIdx() { return emulator::current().index; }
inline int64_t GetBlockNum() { return emulator::current().blocks; }
inline int64_t GetSubBlockIdx() { return 0; }
// In ticks of 50 MHz, as on the device; of the model, not of this machine.
inline int64_t GetSystemCycle() {
  auto& core = emulator::current();
  return static_cast<int64_t>(core.timeline.now() / core.options.cost.clock_mhz * 50);
}

}  // namespace AscendC

#define block_idx (AscendC::GetBlockIdx())
