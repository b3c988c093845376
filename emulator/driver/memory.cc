// Memory: of devices, whose addresses no host access survives, and pinned memory of the host.

#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

#include "machine/machine.h"

namespace emulated {

namespace {

constexpr uint64_t kPage = 4096;
// All that is promised is a start at a multiple of 64 bytes, so it is not one of 128.
constexpr uint32_t kMisalignment = 64;

uint64_t pages(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

// A device takes blocks of 32 bytes, and one more.
uint64_t taken(uint64_t bytes) { return (bytes + 31) / 32 * 32 + 32; }

void check_unused(Driver& driver, const char* freed, void* pointer, uint64_t bytes) {
  const std::string user = driver.user_of(range(pointer, bytes));
  if (user.empty()) return;
  driver.books.find("free-in-use",
                    std::string(freed) + " of " + text_of(bytes) +
                        " bytes, which the host does not know to be done with: " + user);
}

}  // namespace

Place place_of(Driver& driver, const void* address, uint64_t bytes) {
  for (auto& [id, device] : driver.devices) {
    if (!device->gm.owns(address)) continue;
    const emulator::Allocation* home = device->gm.find(address);
    std::string problem;
    if (!home) {
      problem = "device memory that was never allocated";
    } else if (home->released) {
      problem = home->name + ", which was freed";
    } else if (!home->holds(address, bytes)) {
      problem = text_of(bytes) + " bytes at byte " + text_of(home->offset(address)) + " of " +
                home->name + ", which has " + text_of(home->bytes);
    }
    return {Place::kDevice, device.get(), problem};
  }
  const auto at = reinterpret_cast<uintptr_t>(address);
  auto next = driver.pinned.upper_bound(at);
  if (next != driver.pinned.begin()) {
    const auto& [start, size] = *std::prev(next);
    if (at < start + pages(size)) {
      const bool inside = bytes <= size && at - start <= size - bytes;
      return {Place::kPinned, nullptr,
              inside ? "" : text_of(bytes) + " bytes do not fit into the pinned memory there"};
    }
  }
  return {Place::kPageable, nullptr, ""};
}

}  // namespace emulated

using namespace emulated;

aclError aclrtMalloc(void** pointer, size_t bytes, aclrtMemMallocPolicy policy) {
  return call("aclrtMalloc", text_of(bytes), [&](Driver& driver, Lock&) {
    Device& device = driver.device();
    if (!pointer || bytes == 0 || static_cast<unsigned>(policy) > 7) {
      refuse(ACL_ERROR_INVALID_PARAM, "0 bytes, no pointer or no such policy");
    }
    if (device.fault) refuse(device.fault, device.fault_text);
    const uint64_t limit = driver.settings["memory"], size = taken(bytes);
    if (bytes > limit || size > limit || device.used > limit - size) {
      refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, text_of(bytes) +
                                                 " bytes do not fit: " + text_of(device.used) +
                                                 " of " + text_of(limit) + " are taken");
    }
    const std::string name = "a device allocation of " + text_of(bytes) + " bytes";
    *pointer = device.gm.allocate(bytes, name, kMisalignment);
    device.memory[*pointer] = size;
    device.used += size;
    driver.device_bytes += size;
    driver.device_peak = std::max(driver.device_peak, driver.device_bytes);
  });
}

aclError aclrtFree(void* pointer) {
  return call("aclrtFree", "", [&](Driver& driver, Lock&) {
    if (!pointer) refuse(ACL_ERROR_INVALID_PARAM, "a null pointer");
    driver.device();
    for (auto& [id, device] : driver.devices) {
      const auto known = device->memory.find(pointer);
      if (known == device->memory.end()) continue;
      check_unused(driver, "aclrtFree of a device allocation", pointer,
                   device->gm.find(pointer)->bytes);
      device->gm.release(pointer);
      device->used -= known->second;
      driver.device_bytes -= known->second;
      device->memory.erase(known);
      return;
    }
    driver.books.refuse("free-unknown", ACL_ERROR_RT_PARAM_INVALID,
                        "aclrtFree of what is no device allocation, or not any more");
  });
}

aclError aclrtMallocHost(void** pointer, size_t bytes) {
  return call("aclrtMallocHost", text_of(bytes), [&](Driver& driver, Lock&) {
    driver.device();
    if (!pointer || bytes == 0) refuse(ACL_ERROR_INVALID_PARAM, "0 bytes or no pointer");
    void* start =
        mmap(nullptr, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "the host has no memory left");
    emulator::poison(static_cast<uint8_t*>(start), bytes);
    driver.pinned[reinterpret_cast<uintptr_t>(start)] = bytes;
    *pointer = start;
  });
}

aclError aclrtFreeHost(void* pointer) {
  return call("aclrtFreeHost", "", [&](Driver& driver, Lock&) {
    if (!pointer) refuse(ACL_ERROR_INVALID_PARAM, "a null pointer");
    const auto known = driver.pinned.find(reinterpret_cast<uintptr_t>(pointer));
    if (known == driver.pinned.end()) {
      driver.books.refuse("free-unknown", ACL_ERROR_RT_PARAM_INVALID,
                          "aclrtFreeHost of what is no pinned memory, or not any more");
    }
    check_unused(driver, "aclrtFreeHost of pinned memory", pointer, known->second);
    munmap(pointer, pages(known->second));
    driver.pinned.erase(known);
  });
}
