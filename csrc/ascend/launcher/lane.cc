#include "lane.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "error.h"

namespace jda_ascend {
namespace {

constexpr size_t kBufferBytes = size_t{4} << 20;
constexpr size_t kAlignment = 64;
constexpr int kMostLanes = 4;

aclError Wait(const Lane& lane) { return TheDriver().aclrtSynchronizeStream.Try(lane.stream()); }

}  // namespace

Staging::Staging() {
  for (Buffer& buffer : buffers_) {
    buffer.memory = AllocatePinned(kBufferBytes);
    buffer.event = MakeEvent();
  }
}

void* Staging::Room(size_t& bytes, aclrtStream stream) {
  const Driver& driver = TheDriver();
  if (buffers_[current_].used == kBufferBytes) {
    driver.aclrtRecordEvent(buffers_[current_].event.get(), stream);
    buffers_[current_].in_flight = true;
    current_ = 1 - current_;
    Buffer& next = buffers_[current_];
    if (next.in_flight) driver.aclrtSynchronizeEvent(next.event.get());
    Land(next);
  }
  Buffer& buffer = buffers_[current_];
  bytes = std::min(bytes, kBufferBytes - buffer.used);
  void* room = static_cast<char*>(buffer.memory.get()) + buffer.used;
  buffer.used += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return room;
}

void Staging::Land(Buffer& buffer) {
  for (const Landing& landing : buffer.landings) {
    std::memcpy(landing.to, landing.from, landing.bytes);
  }
  buffer.landings.clear();
  buffer.used = 0;
  buffer.in_flight = false;
}

void Staging::Upload(void* to, const void* from, size_t bytes, aclrtStream stream) {
  for (size_t done = 0, piece = 0; done < bytes; done += piece) {
    piece = bytes - done;
    void* room = Room(piece, stream);
    std::memcpy(room, static_cast<const char*>(from) + done, piece);
    TheDriver().aclrtMemcpyAsync(static_cast<char*>(to) + done, piece, room, piece,
                                 ACL_MEMCPY_HOST_TO_DEVICE, stream);
  }
}

void Staging::Download(void* to, const void* from, size_t bytes, aclrtStream stream) {
  for (size_t done = 0, piece = 0; done < bytes; done += piece) {
    piece = bytes - done;
    void* room = Room(piece, stream);
    TheDriver().aclrtMemcpyAsync(room, piece, static_cast<const char*>(from) + done, piece,
                                 ACL_MEMCPY_DEVICE_TO_HOST, stream);
    buffers_[current_].landings.push_back({static_cast<char*>(to) + done, room, piece});
  }
}

void Staging::Finish(aclrtStream stream) {
  TheDriver().aclrtSynchronizeStream(stream);
  for (Buffer& buffer : buffers_) Land(buffer);
}

char* Lane::Reserve(size_t bytes) {
  if (room_ < bytes) {
    Release();
    memory_ = AllocateOnCard(bytes);
    room_ = bytes;
  }
  return static_cast<char*>(memory_.get());
}

void Lane::Release() {
  memory_ = CardMemory();
  room_ = 0;
}

Lanes::Loan::~Loan() {
  if (lane_ == nullptr) return;
  if (succeeded_) {
    lanes_->Return(std::move(lane_));
  } else {
    lanes_->GiveUp(std::move(lane_));
  }
}

Lanes::Loan Lanes::Take() {
  std::unique_lock<std::mutex> lock(mutex_);
  returned_.wait(lock, [this] { return lent_ < kMostLanes; });
  return TakeLocked(lock);
}

Lanes::Loan Lanes::TryTake() {
  std::unique_lock<std::mutex> lock(mutex_);
  return lent_ < kMostLanes ? TakeLocked(lock) : Loan();
}

Lanes::Loan Lanes::TakeLocked(std::unique_lock<std::mutex>& lock) {
  std::unique_ptr<Lane> lane;
  if (!idle_.empty()) {
    lane = std::move(idle_.back());
    idle_.pop_back();
  }
  if (lane == nullptr) lane = std::make_unique<Lane>();
  ++lent_;
  lock.unlock();
  return Loan(*this, std::move(lane));
}

void Lanes::Return(std::unique_ptr<Lane> lane) {
  const std::lock_guard<std::mutex> lock(mutex_);
  size_t kept = lane->room();
  for (const auto& idle : idle_) kept += idle->room();
  if (kept > most_kept_bytes_) lane->Release();
  idle_.push_back(std::move(lane));
  --lent_;
  returned_.notify_all();
}

void Lanes::GiveUp(std::unique_ptr<Lane> lane) {
  const aclError code = Wait(*lane);
  if (code == ACL_SUCCESS) {
    lane.reset();
  } else {
    Remark("aclrtSynchronizeStream failed too, with code " + std::to_string(code) +
           ": what the call took on the card and in pinned memory is kept, as it may be in use");
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (lane != nullptr) stuck_.push_back(std::move(lane));
  --lent_;
  // All: one that cannot make a lane for itself would wake no other.
  returned_.notify_all();
}

void Lanes::Trim() {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.clear();
  const auto done = [](const auto& lane) { return Wait(*lane) == ACL_SUCCESS; };
  stuck_.erase(std::remove_if(stuck_.begin(), stuck_.end(), done), stuck_.end());
}

}  // namespace jda_ascend
