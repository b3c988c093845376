#include "workspace.h"

#include <iterator>
#include <string>

#include "error.h"

namespace jda_ascend {
namespace {

constexpr size_t kLeastBytes = size_t{1} << 18;

// More are kept only while that many are in flight and all of them are too small.
constexpr size_t kMostBlocks = 16;

// A card that cannot be asked may still be at work.
bool IsComplete(const Event& event) {
  aclrtEventRecordedStatus status = ACL_EVENT_RECORDED_STATUS_NOT_READY;
  return TheDriver().aclrtQueryEventStatus.Try(event.get(), &status) == ACL_SUCCESS &&
         status == ACL_EVENT_RECORDED_STATUS_COMPLETE;
}

}  // namespace

void Workspaces::Use(size_t bytes, aclrtStream stream, const std::function<void(void*)>& use) {
  const Driver& driver = TheDriver();
  const std::lock_guard<std::mutex> lock(mutex_);
  const Blocks::iterator block = Take(bytes, stream);
  try {
    use(block->memory.get());
    driver.aclrtRecordEvent(block->event.get(), stream);
  } catch (...) {
    Recover(block);
    throw;
  }
}

// After an error: some work on the block may have been enqueued, and its event does not tell when the
// card is done with that.
void Workspaces::Recover(Blocks::iterator block) {
  const Driver& driver = TheDriver();
  if (driver.aclrtRecordEvent.Try(block->event.get(), block->stream) == ACL_SUCCESS) return;
  const aclError code = driver.aclrtSynchronizeStream.Try(block->stream);
  if (code == ACL_SUCCESS) {
    blocks_.erase(block);
    return;
  }
  stuck_.splice(stuck_.end(), blocks_, block);
  Remark("aclrtSynchronizeStream failed too, with code " + std::to_string(code) +
         ": a workspace on the card is kept, as it may be in use");
}

Workspaces::Blocks::iterator Workspaces::Take(size_t bytes, aclrtStream stream) {
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    if (block->stream == stream && block->bytes >= bytes) return block;
  }
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    const auto next = std::next(block);
    const bool small = block->bytes < bytes;
    const bool superfluous = block->stream == stream || blocks_.size() >= kMostBlocks;
    if ((!small || superfluous) && IsComplete(block->event)) {
      if (!small) {
        block->stream = stream;
        return block;
      }
      blocks_.erase(block);
    }
    block = next;
  }
  if (blocks_.size() >= kMostBlocks) {
    for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
      if (block->bytes < bytes) continue;
      TheDriver().aclrtStreamWaitEvent(stream, block->event.get());
      block->stream = stream;
      return block;
    }
  }
  return Allocate(bytes, stream);
}

Workspaces::Blocks::iterator Workspaces::Allocate(size_t bytes, aclrtStream stream) {
  // Doubled sizes: however much the calls grow, few blocks come to be.
  size_t size = kLeastBytes;
  while (size < bytes) size *= 2;
  blocks_.push_back({AllocateOnCard(size), size, MakeEvent(), stream});
  return std::prev(blocks_.end());
}

void Workspaces::Trim() {
  const std::lock_guard<std::mutex> lock(mutex_);
  blocks_.remove_if([](const Block& block) {
    return TheDriver().aclrtSynchronizeEvent.Try(block.event.get()) == ACL_SUCCESS;
  });
}

}  // namespace jda_ascend
