#include "workspace.h"

namespace jda_ascend {
namespace {

constexpr size_t kLeastBytes = size_t{1} << 18;

// More are kept only while that many are in flight and all of them are too small.
constexpr size_t kMostBlocks = 16;

}  // namespace

void Workspaces::Use(size_t bytes, aclrtStream stream, const std::function<void(void*)>& use) {
  const Driver& driver = TheDriver();
  const std::lock_guard<std::mutex> lock(mutex_);
  const Blocks::iterator block = Take(bytes, stream);
  try {
    use(block->memory.get());
    driver.aclrtRecordEvent(block->event.get(), stream);
  } catch (...) {
    // Nothing tells when the card is done with the block, unless we wait.
    driver.aclrtSynchronizeStream.Try(stream);
    blocks_.erase(block);
    throw;
  }
}

Workspaces::Blocks::iterator Workspaces::Take(size_t bytes, aclrtStream stream) {
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    if (block->stream == stream && block->bytes >= bytes) return block;
  }
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    const auto next = std::next(block);
    const bool small = block->bytes < bytes;
    const bool superfluous = block->stream == stream || blocks_.size() >= kMostBlocks;
    if ((!small || superfluous) && Idle(block)) {
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

bool Workspaces::Idle(Blocks::iterator block) {
  aclrtEventRecordedStatus status = ACL_EVENT_RECORDED_STATUS_NOT_READY;
  try {
    TheDriver().aclrtQueryEventStatus(block->event.get(), &status);
  } catch (...) {
    TheDriver().aclrtSynchronizeEvent.Try(block->event.get());
    blocks_.erase(block);
    throw;
  }
  return status == ACL_EVENT_RECORDED_STATUS_COMPLETE;
}

void Workspaces::Trim() {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (!blocks_.empty()) {
    TheDriver().aclrtSynchronizeEvent.Try(blocks_.front().event.get());
    blocks_.pop_front();
  }
}

}  // namespace jda_ascend
