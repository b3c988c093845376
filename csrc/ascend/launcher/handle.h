// What the runtime hands out, freed when it is no longer needed.

#ifndef JDA_ASCEND_LAUNCHER_HANDLE_H_
#define JDA_ASCEND_LAUNCHER_HANDLE_H_

#include <cstddef>
#include <utility>

#include "driver.h"

namespace jda_ascend {

// Owns a handle that `kFree` frees. The card on which it was made must be current then. A failure to
// free is not reported: there is nothing to do about it, and the error that led here matters more.
template <auto kFree>
class Handle {
 public:
  Handle() = default;
  explicit Handle(void* handle) : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Handle() {
    if (handle_ != nullptr) (TheDriver().*kFree).Try(handle_);
  }

  void* get() const { return handle_; }

 private:
  void* handle_ = nullptr;
};

using Stream = Handle<&Driver::aclrtDestroyStream>;
using Event = Handle<&Driver::aclrtDestroyEvent>;
using CardMemory = Handle<&Driver::aclrtFree>;
using PinnedMemory = Handle<&Driver::aclrtFreeHost>;
using Binary = Handle<&Driver::aclrtBinaryUnLoad>;

Stream MakeStream();
Event MakeEvent();                          // may be recorded again and again
CardMemory AllocateOnCard(size_t bytes);    // at least one byte
PinnedMemory AllocatePinned(size_t bytes);  // at least one byte

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_HANDLE_H_
