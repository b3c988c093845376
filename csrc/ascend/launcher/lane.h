// What a call needs that brings its arrays from the host: a stream, room on the card, and a way there
// and back through pinned memory. Calls that run at the same time use different lanes.

#ifndef JDA_ASCEND_LAUNCHER_LANE_H_
#define JDA_ASCEND_LAUNCHER_LANE_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "handle.h"

namespace jda_ascend {

// Copies between ordinary memory of the host and the card, in pieces through two pinned buffers:
// while the card reads or writes one of them, the host does the other.
class Staging {
 public:
  Staging();

  // `from` may change when this returns.
  void Upload(void* to, const void* from, size_t bytes, aclrtStream stream);

  // `to` is complete after Finish.
  void Download(void* to, const void* from, size_t bytes, aclrtStream stream);

  // Waits for all copies, and for all else on the stream.
  void Finish(aclrtStream stream);

 private:
  struct Landing {
    void* to;
    const void* from;
    size_t bytes;
  };
  struct Buffer {
    PinnedMemory memory;
    Event event;  // after its last copy
    size_t used = 0;
    bool in_flight = false;
    std::vector<Landing> landings;  // what the host copies out when the card is done
  };

  // Room for some of `bytes`, which becomes their number.
  void* Room(size_t& bytes, aclrtStream stream);
  static void Land(Buffer& buffer);

  Buffer buffers_[2];
  int current_ = 0;
};

class Lane {
 public:
  Lane() : stream_(MakeStream()) {}

  aclrtStream stream() const { return stream_.get(); }
  Staging& staging() { return staging_; }
  size_t room() const { return room_; }

  // At least `bytes` on the card. What was there is lost.
  char* Reserve(size_t bytes);
  void Release();

 private:
  Stream stream_;
  CardMemory memory_;
  size_t room_ = 0;
  Staging staging_;
};

// The lanes of one card: four at most. Between calls they keep what they allocated there, all of them
// together no more than a given number of bytes.
class Lanes {
 public:
  explicit Lanes(size_t most_kept_bytes) : most_kept_bytes_(most_kept_bytes) {}

  // A lane on loan. It goes back if the call succeeded; otherwise it is given up, after waiting for
  // the work that uses it. What cannot be waited for is kept: the card may still use it.
  class Loan {
   public:
    Loan() = default;
    Loan(Lanes& lanes, std::unique_ptr<Lane> lane) : lanes_(&lanes), lane_(std::move(lane)) {}
    Loan(Loan&& other) noexcept = default;
    Loan& operator=(Loan&&) = delete;
    ~Loan();

    explicit operator bool() const { return lane_ != nullptr; }
    Lane* operator->() const { return lane_.get(); }
    Lane& operator*() const { return *lane_; }
    void Succeed() { succeeded_ = true; }

   private:
    Lanes* lanes_ = nullptr;
    std::unique_ptr<Lane> lane_;
    bool succeeded_ = false;
  };

  Loan Take();     // waits until there is one
  Loan TryTake();  // none if all are lent

  // Frees what lanes that are not lent hold, but for those that still cannot be waited for.
  void Trim();

 private:
  Loan TakeLocked(std::unique_lock<std::mutex>& lock);
  void Return(std::unique_ptr<Lane> lane);
  void GiveUp(std::unique_ptr<Lane> lane);

  const size_t most_kept_bytes_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Lane>> idle_;
  std::vector<std::unique_ptr<Lane>> stuck_;  // given up, and not waited for
  int lent_ = 0;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_LANE_H_
