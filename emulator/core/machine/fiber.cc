#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define START_SWITCH(save, bottom, size) __sanitizer_start_switch_fiber(save, bottom, size)
#define FINISH_SWITCH(save, bottom, size) __sanitizer_finish_switch_fiber(save, bottom, size)
#else
#define START_SWITCH(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define FINISH_SWITCH(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#endif

namespace emulator {

namespace {
constexpr size_t kStack = 1 << 20;
}

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)) {
  stack_ = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack_ == MAP_FAILED) throw std::bad_alloc();
}

Fiber::~Fiber() { munmap(stack_, kStack); }

void Fiber::entry(unsigned high, unsigned low) {
  auto* self = reinterpret_cast<Fiber*>((static_cast<uintptr_t>(high) << 32) | low);
  FINISH_SWITCH(self->fake_inside_, &self->outside_stack_, &self->outside_size_);
  self->body_();
  START_SWITCH(nullptr, self->outside_stack_, self->outside_size_);
  swapcontext(&self->inside_, &self->outside_);
}

void Fiber::resume() {
  if (!started_) {
    started_ = true;
    getcontext(&inside_);
    inside_.uc_stack.ss_sp = stack_;
    inside_.uc_stack.ss_size = kStack;
    inside_.uc_link = nullptr;
    const auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&inside_, reinterpret_cast<void (*)()>(&Fiber::entry), 2,
                static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
  }
  START_SWITCH(&fake_outside_, stack_, kStack);
  swapcontext(&outside_, &inside_);
  FINISH_SWITCH(fake_outside_, nullptr, nullptr);
}

void Fiber::leave() {
  START_SWITCH(&fake_inside_, outside_stack_, outside_size_);
  swapcontext(&inside_, &outside_);
  FINISH_SWITCH(fake_inside_, &outside_stack_, &outside_size_);
}

}  // namespace emulator
