// The threads that work on one call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

namespace jda {

// Runs a task on some other thread, at some time.
using Schedule = std::function<void(std::function<void()>)>;

// The caller and up to size-1 helpers. The caller takes part in all work and waits only for pieces
// that a helper has begun: a helper that never starts, because the pool is busy with other calls,
// costs speed but cannot block anything.
class Team {
 public:
  Team(int64_t size, Schedule schedule) : size_(size), schedule_(std::move(schedule)) {}

  int64_t size() const { return size_; }

  // Calls work(member, i) once for every i in [0, count), members in [0, size) each on one thread.
  template <typename Work>
  void for_each(int64_t count, const Work& work) {
    if (size_ == 1 || count <= 1) {
      for (int64_t i = 0; i < count; ++i) work(int64_t{0}, i);
      return;
    }
    auto job = std::make_shared<Job>(count, &work, [](const void* f, int64_t member, int64_t i) {
      (*static_cast<const Work*>(f))(member, i);
    });
    try {
      for (int64_t helper = 1; helper < std::min(size_, count); ++helper)
        schedule_([job, helper] { job->take_part(helper); });
    } catch (...) {
      // No memory for another helper. Those that have begun must be waited for all the same.
    }
    job->take_part(0);
    job->wait();
  }

  // Calls work(member, begin, end) for ranges of at most `span` that together are [0, count).
  template <typename Work>
  void for_ranges(int64_t count, int64_t span, const Work& work) {
    for_each((count + span - 1) / span, [&](int64_t member, int64_t i) {
      work(member, i * span, std::min(count, (i + 1) * span));
    });
  }

 private:
  struct Job {
    Job(int64_t count, const void* work, void (*call)(const void*, int64_t, int64_t))
        : count(count), work(work), call(call) {}

    void take_part(int64_t member) {
      for (int64_t i; (i = next.fetch_add(1)) < count;) {
        call(work, member, i);  // the caller waits for every i that was taken: `work` is alive
        done.fetch_add(1, std::memory_order_release);
      }
    }

    // For pieces that helpers have begun. They are short, unless a helper lost its processor.
    void wait() const {
      for (int i = 0; done.load(std::memory_order_acquire) < count; ++i)
        i < 1000 ? pause() : std::this_thread::yield();
    }

    static void pause() {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("yield");
#endif
    }

    const int64_t count;
    const void* const work;
    void (*const call)(const void*, int64_t, int64_t);
    std::atomic<int64_t> next{0}, done{0};
  };

  int64_t size_;
  Schedule schedule_;
};

}  // namespace jda
