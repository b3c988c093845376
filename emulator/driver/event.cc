// Events: a record marks what a stream was given so far; others wait for the latest record.

#include "driver.h"

using namespace emulated;

namespace {

Event& event_of(Driver& driver, void* handle) {
  driver.device();
  return *driver.known(driver.events, handle, "event-unknown",
                       "a call with what is no event, or not any more");
}

}  // namespace

aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t flags) {
  return call("aclrtCreateEventExWithFlag", text_of(flags), [&](Driver& driver, Lock&) {
    constexpr uint32_t kFlags =
        ACL_EVENT_SYNC | ACL_EVENT_CAPTURE_STREAM_PROGRESS | ACL_EVENT_TIME_LINE;
    Device& device = driver.device();
    if (!event || flags == 0 || (flags & ~kFlags)) {
      refuse(ACL_ERROR_INVALID_PARAM, "nowhere to put the event, or flags that are not emulated");
    }
    *event = driver.new_handle();
    driver.events[*event] = std::make_shared<Event>(Event{&device, flags, nullptr});
  });
}

aclError aclrtDestroyEvent(aclrtEvent event) {
  return call("aclrtDestroyEvent", "", [&](Driver& driver, Lock&) {
    if (!event) refuse(ACL_ERROR_INVALID_PARAM, "a null pointer");
    event_of(driver, event);
    driver.events.erase(event);
  });
}

aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
  return call("aclrtRecordEvent", "", [&](Driver& driver, Lock&) {
    Event& recorded = event_of(driver, event);
    Stream& marked = stream_of(driver, stream);
    Operation operation("record");
    operation.record = std::make_shared<Record>();
    operation.record->stream = marked.shared_from_this();
    operation.record->number = marked.submitted + 1;
    const auto record = operation.record;
    submit(driver, marked, std::move(operation));
    recorded.latest = record;
  });
}

aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
  return call("aclrtStreamWaitEvent", "", [&](Driver& driver, Lock&) {
    Event& waited = event_of(driver, event);
    Stream& waiting = stream_of(driver, stream);
    if (!(waited.flags & ACL_EVENT_SYNC)) {
      refuse(ACL_ERROR_RT_PARAM_INVALID, "the event was made without ACL_EVENT_SYNC");
    }
    if (!waited.latest) {
      driver.books.find("event-not-recorded", "aclrtStreamWaitEvent waits for nothing");
      return;
    }
    Operation operation("wait");
    operation.wait = waited.latest;
    submit(driver, waiting, std::move(operation));
  });
}

aclError aclrtSynchronizeEvent(aclrtEvent event) {
  return call("aclrtSynchronizeEvent", "", [&](Driver& driver, Lock& lock) {
    Event& waited = event_of(driver, event);
    if (!waited.latest) {
      driver.books.find("event-not-recorded", "aclrtSynchronizeEvent waits for nothing");
      return;
    }
    const auto record = waited.latest;
    finish(driver, lock, *record->stream, record->number);
    acknowledge(driver, record->known, *record->stream->device);
  });
}

aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status) {
  return call("aclrtQueryEventStatus", "", [&](Driver& driver, Lock& lock) {
    Event& queried = event_of(driver, event);
    if (!status) refuse(ACL_ERROR_INVALID_PARAM, "nowhere to put the result");
    const auto record = queried.latest;
    const bool done = !record || record->done;
    *status = done ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
    if (!record) return;
    if (done) {
      acknowledge(driver, record->known, *record->stream->device);
    } else if (!record->stream->threaded) {
      // Who asks again and again gets an answer in the end.
      finish(driver, lock, *record->stream, record->stream->completed + 1);
    }
  });
}
