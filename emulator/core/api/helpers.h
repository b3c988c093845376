// Small things that kernels take for granted: arithmetic, constants, and UB without a TPipe.
#pragma once

#include "tensor.h"

namespace AscendC {

constexpr uint32_t ONE_BLK_SIZE = 32, ONE_REPEAT_BYTE_SIZE = 256;
constexpr uint8_t B16_DATA_NUM_PER_BLOCK = 16, B32_DATA_NUM_PER_BLOCK = 8;

// In 32 bits, as on the device: wider arguments are cut.
constexpr uint32_t DivCeil(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
constexpr uint32_t AlignUp(uint32_t a, uint32_t unit) { return DivCeil(a, unit) * unit; }

enum class Hardware : uint8_t { GM, UB };

// Takes UB from its start on, one piece behind the other, without alignment or bound. Not together
// with a TPipe, which starts there too.
template <Hardware hardware = Hardware::UB>
class LocalMemAllocator {
 public:
  static_assert(hardware == Hardware::UB, "a vector core has UB alone");

  template <TPosition position, class T>
  LocalTensor<T> Alloc(uint32_t elements, Site site = Site::here()) {
    const uint32_t address = head_;
    head_ += elements * sizeof(T);
    api::take_ub(head_, {"LocalMemAllocator", site});
    return LocalTensor<T>(position, address, elements);
  }
  template <class T>
  LocalTensor<T> Alloc(uint32_t elements, Site site = Site::here()) {
    return Alloc<TPosition::VECCALC, T>(elements, site);
  }
  template <TPosition position, class T, uint32_t elements>
  LocalTensor<T> Alloc(Site site = Site::here()) {
    return Alloc<position, T>(elements, site);
  }
  template <class T, uint32_t elements>
  LocalTensor<T> Alloc(Site site = Site::here()) {
    return Alloc<TPosition::VECCALC, T>(elements, site);
  }

 private:
  uint32_t head_ = 0;
};

}  // namespace AscendC

// The compiler knows these without a namespace.
template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)
