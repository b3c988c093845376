#include "handle.h"

#include <string>

#include "error.h"

namespace jda_ascend {

Stream MakeStream() {
  aclrtStream stream = nullptr;
  TheDriver().aclrtCreateStream(&stream);
  return Stream(stream);
}

Event MakeEvent() {
  aclrtEvent event = nullptr;
  TheDriver().aclrtCreateEventExWithFlag(&event,
                                         ACL_EVENT_SYNC | ACL_EVENT_CAPTURE_STREAM_PROGRESS);
  return Event(event);
}

CardMemory AllocateOnCard(size_t bytes) {
  const Driver& driver = TheDriver();
  void* memory = nullptr;
  try {
    driver.aclrtMalloc(&memory, bytes, ACL_MEM_MALLOC_HUGE_FIRST);
  } catch (const Error& error) {
    size_t free = 0, total = 0;
    if (error.code != JDA_ASCEND_RESOURCE_EXHAUSTED ||
        driver.aclrtGetMemInfo.Try(ACL_HBM_MEM, &free, &total) != ACL_SUCCESS) {
      throw;
    }
    throw Error(error.code, std::string(error.what()) + "; asked for " + std::to_string(bytes) +
                                " bytes where " + std::to_string(free) + " of " +
                                std::to_string(total) + " are free");
  }
  return CardMemory(memory);
}

PinnedMemory AllocatePinned(size_t bytes) {
  void* memory = nullptr;
  TheDriver().aclrtMallocHost(&memory, bytes);
  return PinnedMemory(memory);
}

}  // namespace jda_ascend
