#include "controls.h"

#include "driver.h"

using namespace emulated;

namespace {

thread_local std::string handed_out;

template <class Body>
auto locked(Body body) {
  Driver& driver = the_driver();
  const std::lock_guard<std::mutex> lock(driver.mutex);
  return body(driver);
}

}  // namespace

const char* jda_emulated_driver(void) { return "emulated driver, build " JDA_EMULATED_BUILD; }

int jda_emulated_set(const char* name, int64_t value) {
  return locked([&](Driver& driver) {
    const auto known = driver.settings.numbers.find(name);
    if (known == driver.settings.numbers.end()) return 0;
    known->second = value;
    driver.changed.notify_all();
    return 1;
  });
}

void jda_emulated_set_soc(const char* name) {
  locked([&](Driver& driver) { driver.settings.soc = name; });
}

void jda_emulated_fail(const char* function, int64_t n, int code) {
  locked([&](Driver& driver) { driver.books.fail(function, n, code); });
}

int64_t jda_emulated_calls(const char* function) {
  return locked([&](Driver& driver) { return driver.books.calls(function); });
}

int64_t jda_emulated_live(const char* what) {
  return locked([&](Driver& driver) -> int64_t {
    int64_t allocations = 0, pinned_bytes = 0;
    for (const auto& [id, device] : driver.devices) allocations += device->memory.size();
    for (const auto& [start, bytes] : driver.pinned) pinned_bytes += bytes;
    const std::map<std::string, int64_t> all = {
        {"device", allocations},
        {"device_bytes", driver.device_bytes},
        {"device_peak", driver.device_peak},
        {"pinned", driver.pinned.size()},
        {"pinned_bytes", pinned_bytes},
        {"streams", driver.streams.size()},
        {"events", driver.events.size()},
        {"binaries", driver.binaries.size()},
        {"programs", driver.programs.size()},
        {"transfers", driver.transfers},
    };
    const auto known = all.find(what);
    return known == all.end() ? -1 : known->second;
  });
}

int64_t jda_emulated_finding_count(void) {
  return locked([](Driver& driver) -> int64_t { return driver.books.finding_count(); });
}

const char* jda_emulated_findings(void) {
  handed_out = locked([](Driver& driver) { return driver.books.findings(); });
  return handed_out.c_str();
}

const char* jda_emulated_trace(void) {
  handed_out = locked([](Driver& driver) { return driver.books.trace_text(); });
  return handed_out.c_str();
}

void jda_emulated_reset(void) {
  locked([](Driver& driver) {
    driver.reset();
    driver.changed.notify_all();
  });
}
