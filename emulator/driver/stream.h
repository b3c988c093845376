// Streams: operations that wait in order until a synchronisation needs them, or until the stream's
// own thread gets there. Events mark places in them.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "order.h"

namespace emulated {

struct Device;
struct Driver;
struct Stream;
using Lock = std::unique_lock<std::mutex>;  // of the driver

// One call of aclrtRecordEvent.
struct Record {
  std::shared_ptr<Stream> stream;
  uint64_t number;
  bool done = false;
  Clock known;
};

struct Event {
  Device* device;
  uint32_t flags;
  std::shared_ptr<Record> latest;
};

struct Operation {
  // "copy", "set", "kernel", "record" or "wait"
  explicit Operation(const char* kind, std::string text = "", Ranges uses = {})
      : kind(kind), text(std::move(text)), uses(std::move(uses)) {}
  const char* kind;
  std::string text;
  Ranges uses;                        // memory that has to stay until it is complete
  std::function<Effects()> run;       // throws a Refusal if it faults
  std::shared_ptr<const void> needs;  // the binary of a kernel
  std::shared_ptr<Record> record, wait;
  Watch watch;
  uint64_t number = 0;  // in its stream, from 1
  Clock before;         // what the host knew when it was submitted
};

struct Stream : std::enable_shared_from_this<Stream> {
  int id;
  Device* device;
  std::deque<Operation> pending;
  uint64_t submitted = 0, completed = 0;
  Clock known;
  bool threaded = false, ended = false;
};

std::shared_ptr<Stream> make_stream(Driver& driver, Device& device);
// The stream of a handle, which has to be one of this thread's device.
Stream& stream_of(Driver& driver, void* handle);
uint64_t submit(Driver& driver, Stream& stream, Operation operation);
// Returns when the first `number` operations of the stream are complete.
void finish(Driver& driver, Lock& lock, Stream& stream, uint64_t number);
// The same, and the host knows; refuses with the device's fault if there is one.
void synchronise(Driver& driver, Lock& lock, Stream& stream, uint64_t number);
void acknowledge(Driver& driver, const Clock& known, const Device& device);

}  // namespace emulated
