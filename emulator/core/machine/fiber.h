// A function with a stack of its own that can be left and entered again.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>

namespace emulator {

class Fiber {
 public:
  explicit Fiber(std::function<void()> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();  // from outside: runs until the body leaves or ends
  void leave();   // from inside

 private:
  static void entry(unsigned high, unsigned low);
  std::function<void()> body_;
  ucontext_t inside_, outside_;
  void* stack_ = nullptr;
  bool started_ = false;
  // What AddressSanitizer wants to know about a change of stacks.
  void* fake_inside_ = nullptr;
  void* fake_outside_ = nullptr;
  const void* outside_stack_ = nullptr;
  size_t outside_size_ = 0;
};

}  // namespace emulator
