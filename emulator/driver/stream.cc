#include "stream.h"

#include <chrono>
#include <cstring>
#include <thread>

#include "memory.h"

namespace emulated {

namespace {

void check_watch(Driver& driver, const Watch& watch, const std::string& text) {
  if (!watch.at) return;
  const Place place = place_of(driver, watch.at, watch.expected.size());
  if (place.kind != Place::kPinned || !place.problem.empty()) return;  // freed: another finding
  if (std::memcmp(watch.at, watch.expected.data(), watch.expected.size()) != 0) {
    driver.books.find(watch.rule, text +
                                      ": the host touched its memory of the host before it "
                                      "knew that the copy is complete");
  }
}

// Memory that a stream writes in time is not memory that the host changed.
void stop_watching(Driver& driver, const Ranges& written) {
  const auto stop = [&](Watch& watch) {
    if (overlap(watch.memory(), written)) watch = {};
  };
  driver.each_pending([&](Operation& other) { stop(other.watch); });
  driver.history.each([&](Done& done) { stop(done.watch); });
}

// Executes the first operation of the stream, which waits for nothing any more.
void execute(Driver& driver, Stream& stream) {
  Operation& operation = stream.pending.front();
  Device& device = *stream.device;
  stream.known.learn(operation.before);
  if (operation.wait) stream.known.learn(operation.wait->known);
  const Clock known = stream.known;
  stream.known.learn(stream.id, operation.number);
  if (operation.run && !device.fault) {
    driver.books.trace("stream " + std::to_string(stream.id) + ": " + operation.text);
    try {
      const aclError code = driver.books.enter(operation.kind);
      if (code != ACL_SUCCESS) refuse(code, operation.text + " was told to fault");
      Watch watch = std::move(operation.watch);
      operation.watch = {};
      check_watch(driver, watch, operation.text);
      Effects effects = operation.run();
      stop_watching(driver, effects.writes);
      if (watch.at) watch.expected.assign(watch.at, watch.at + watch.expected.size());
      driver.history.add(
          {stream.id, operation.number, operation.text, std::move(effects), std::move(watch)},
          known, driver.books);
    } catch (const Refusal& refusal) {
      device.fault = refusal.code;
      device.fault_text = refusal.text;
      driver.books.trace("device " + std::to_string(device.id) + " faults: " + refusal.text);
    }
  }
  if (operation.record) {
    operation.record->known = stream.known;
    operation.record->done = true;
  }
  stream.completed = operation.number;
  stream.pending.pop_front();
  driver.changed.notify_all();
}

// What the first operation of the stream still waits for; null: it may be executed.
std::shared_ptr<Record> awaited(const Stream& stream) {
  const auto& record = stream.pending.front().wait;
  return record && !record->done && !record->stream->ended ? record : nullptr;
}

// Lets the time of a copy go by, unless the control says meanwhile that it takes none.
void transfer(Driver& driver, Lock& lock, const Stream& stream) {
  const std::chrono::microseconds delay(driver.settings["transfer_microseconds"]);
  ++driver.transfers;
  driver.changed.wait_for(
      lock, delay, [&] { return stream.ended || driver.settings["transfer_microseconds"] == 0; });
  --driver.transfers;
}

void work(Driver& driver, std::shared_ptr<Stream> stream) {
  Lock lock(driver.mutex);
  while (true) {
    driver.changed.wait(lock, [&] { return stream->ended || !stream->pending.empty(); });
    if (stream->ended) return;
    if (const auto record = awaited(*stream)) {
      finish(driver, lock, *record->stream, record->number);
      continue;
    }
    if (!std::strcmp(stream->pending.front().kind, "copy")) transfer(driver, lock, *stream);
    if (stream->ended) return;
    execute(driver, *stream);
  }
}

// What the host has waited for it may touch again; what all know needs no judging any more.
void learn(Driver& driver, const Clock& known) {
  driver.host.learn(known);
  driver.history.each([&](Done& done) {
    if (!driver.host.knows(done.stream, done.number)) return;
    check_watch(driver, done.watch, done.text);
    done.watch = {};
  });
  driver.history.forget([&](const Done& done) {
    bool known = driver.host.knows(done.stream, done.number);
    driver.each_pending([&](const Operation& operation) {
      known = known && operation.before.knows(done.stream, done.number);
    });
    return known;
  });
}

}  // namespace

std::shared_ptr<Stream> make_stream(Driver& driver, Device& device) {
  auto stream = std::make_shared<Stream>();
  stream->id = ++driver.last_stream;
  stream->device = &device;
  stream->threaded = driver.settings["workers"] != 0;
  if (stream->threaded) std::thread(work, std::ref(driver), stream).detach();
  return stream;
}

Stream& stream_of(Driver& driver, void* handle) {
  Device& device = driver.device();
  if (!handle) return *device.standard;
  const auto stream = driver.known(driver.streams, handle, "stream-unknown",
                                   "a call with what is no stream, or not any more");
  if (stream->device != &device) {
    refuse(ACL_ERROR_RT_STREAM_CONTEXT,
           "the stream is one of device " + std::to_string(stream->device->id) +
               ", this thread's device is " + std::to_string(device.id));
  }
  return *stream;
}

uint64_t submit(Driver& driver, Stream& stream, Operation operation) {
  if (stream.device->fault) refuse(stream.device->fault, stream.device->fault_text);
  operation.number = ++stream.submitted;
  operation.before = driver.host;
  stream.pending.push_back(std::move(operation));
  driver.changed.notify_all();
  return stream.submitted;
}

void finish(Driver& driver, Lock& lock, Stream& stream, uint64_t number) {
  const auto held = stream.shared_from_this();
  if (stream.threaded) {
    driver.changed.wait(lock, [&] { return stream.ended || stream.completed >= number; });
    return;
  }
  while (!stream.ended && stream.completed < number) {
    if (const auto record = awaited(stream)) {
      finish(driver, lock, *record->stream, record->number);
    } else {
      execute(driver, stream);
    }
  }
}

void synchronise(Driver& driver, Lock& lock, Stream& stream, uint64_t number) {
  const auto held = stream.shared_from_this();
  finish(driver, lock, stream, number);
  acknowledge(driver, stream.known, *stream.device);
}

void acknowledge(Driver& driver, const Clock& known, const Device& device) {
  learn(driver, known);
  if (device.fault) refuse(device.fault, device.fault_text);
}

}  // namespace emulated

using namespace emulated;

aclError aclrtCreateStream(aclrtStream* stream) {
  return call("aclrtCreateStream", "", [&](Driver& driver, Lock&) {
    constexpr size_t kMost = 1984;
    Device& device = driver.device();
    if (!stream) refuse(ACL_ERROR_INVALID_PARAM, "nowhere to put the stream");
    if (device.fault) refuse(device.fault, device.fault_text);
    if (driver.streams.size() >= kMost) {
      refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "there are " + text_of(kMost) + " streams");
    }
    *stream = driver.new_handle();
    driver.streams[*stream] = make_stream(driver, device);
  });
}

aclError aclrtDestroyStream(aclrtStream stream) {
  return call("aclrtDestroyStream", "", [&](Driver& driver, Lock& lock) {
    if (!stream) refuse(ACL_ERROR_INVALID_PARAM, "a null pointer");
    const auto held = stream_of(driver, stream).shared_from_this();
    if (!held->pending.empty()) {
      driver.books.find("destroy-in-use",
                        "aclrtDestroyStream before a synchronisation: " + held->pending[0].text);
    }
    finish(driver, lock, *held, held->submitted);
    learn(driver, held->known);
    held->ended = true;
    driver.streams.erase(stream);
    driver.changed.notify_all();
  });
}

aclError aclrtSynchronizeStream(aclrtStream stream) {
  return call("aclrtSynchronizeStream", "", [&](Driver& driver, Lock& lock) {
    Stream& waited = stream_of(driver, stream);
    synchronise(driver, lock, waited, waited.submitted);
  });
}
