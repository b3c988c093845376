// Memory that a call needs while it runs.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace jda {

// Asks for large pages under a large range: touching fresh memory costs far less then. A hint,
// which changes no contents.
inline void prefer_large_pages(void* begin, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr size_t kPage = size_t{2} << 20, kWorthwhile = 2 * kPage;
  if (bytes < kWorthwhile) return;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + kPage - 1) / kPage * kPage;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(begin) + bytes) / kPage * kPage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)begin, (void)bytes;
#endif
}

// An uninitialised array, aligned for every vector; one that begins in it can be read to its end.
template <typename T>
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(size_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64 + 64;
    data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (!data_) throw std::bad_alloc();
    prefer_large_pages(data_.get(), bytes);
  }

  T* get() const { return data_.get(); }
  T& operator[](size_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace jda
