// What the software on a core keeps: the buffers of its TPipe, and the event ids that are taken.
#pragma once

#include <vector>

#include "machine/core.h"

namespace api {

using namespace emulator;

constexpr uint32_t kUbSystem = 256;         // taken by the system, at the end of UB
constexpr uint32_t kUbScratch = 8 * 1024;   // reserved in front of it, for Select and others
constexpr uint32_t kMaxBuffers = 64;        // of a TPipe
constexpr int kUserEventIds = 6;            // 6 and 7 are reserved by convention
constexpr uint32_t kMaxBlockCount = 4095;   // of a copy in rows
constexpr uint32_t kMaxPadBytes = 2097151;  // blockLen of DataCopyPad

// A buffer of a TPipe.
struct Buffer {
  enum State : uint8_t { free, allocated, queued, dequeued };
  uint32_t address = 0, bytes = 0;
  State state = allocated;
  uint32_t generation = 0;
  Pipe filled_by = Pipe::S, freed_by = Pipe::S;
  int free_event = -1;  // flag id that FreeTensor has set
};

struct Library {
  std::vector<Buffer> buffers;
  uint32_t ub_used = 0;
  uint8_t reserved_events[kEvents] = {};  // bit mask of ids, AllocEventID
  int soft_syncs = 0;
  void* pipe = nullptr;  // the TPipe, for GetTPipePtr
};

inline Library& library() {
  auto& software = current().software;
  if (!software) software = std::make_shared<Library>();
  return *static_cast<Library*>(software.get());
}

// Bytes of UB that a kernel may use.
inline uint32_t ub_limit() {
  return kUbBytes - kUbSystem - (current().options.reserve_scratch ? kUbScratch : 0);
}

inline void take_ub(uint32_t end, const Caller& by) {
  uint32_t& used = library().ub_used;
  used = end > used ? end : used;
  if (end <= ub_limit()) return;
  current().error("ub-overflow", by, " takes UB to ", end, " bytes, of which a kernel may use ",
                  ub_limit());
}

}  // namespace api
