#include "pool.h"

#include <pthread.h>

#include <algorithm>
#include <cfenv>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace jda {
namespace {

constexpr int64_t kMostThreads = 1024;

// Its threads sleep until there is a task, and end with the process. So it is never destroyed.
class Pool {
 public:
  void grow(int64_t threads) {
    const std::lock_guard<std::mutex> lock(mutex_);
    try {
      for (; threads_ < threads; ++threads_) std::thread([this] { work(); }).detach();
    } catch (const std::system_error&) {
      // A team can do with fewer helpers than it asked for.
    }
  }

  void schedule(std::function<void()> task) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    waiting_.notify_one();
  }

 private:
  [[noreturn]] void work() {
    for (;;) next()();
  }

  std::function<void()> next() {
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_.wait(lock, [this] { return !tasks_.empty(); });
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    return task;
  }

  std::mutex mutex_;
  std::condition_variable waiting_;
  std::deque<std::function<void()>> tasks_;
  int64_t threads_ = 0;
};

Pool* the_pool = new Pool;

// A child that was forked has none of its parent's threads, and may have a locked mutex.
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { the_pool = new Pool; });

}  // namespace

Team pool_team(int64_t threads) {
  const int64_t size = std::clamp<int64_t>(threads, 1, kMostThreads);
  Pool* const pool = the_pool;
  pool->grow(size - 1);
  // A helper rounds, and flushes denormal numbers to zero, as the caller does: which thread takes a
  // piece must not be seen in the result.
  std::fenv_t of_caller;
  std::fegetenv(&of_caller);
  return Team(size, [pool, of_caller](std::function<void()> task) {
    pool->schedule([of_caller, task = std::move(task)] {
      std::fesetenv(&of_caller);
      task();
    });
  });
}

}  // namespace jda
