// GlobalTensor and LocalTensor: views of GM and UB that remember the memory they came from.
#pragma once

#include <string>

#include "library.h"
#include "machine/dma.h"
#include "types.h"

namespace api {

// An element as kernels see it through operator(): knows whether it is read or written.
template <class Tensor, class T>
class Element {
 public:
  Element(Tensor tensor, uint64_t offset, Site site)
      : tensor_(tensor), offset_(offset), site_(site) {}
  operator T() const { return tensor_.GetValue(offset_, site_); }
  Element& operator=(T value) {
    tensor_.SetValue(offset_, value, site_);
    return *this;
  }
  Element& operator=(const Element& other) { return *this = static_cast<T>(other); }

 private:
  Tensor tensor_;
  uint64_t offset_;
  Site site_;
};

}  // namespace api

namespace AscendC {

using emulator::Caller;
using emulator::Site;

template <class T>
class GlobalTensor {
 public:
  void SetGlobalBuffer(T* buffer, uint64_t elements = ~0ull) {
    data_ = buffer;
    elements_ = elements;
    home_ = emulator::current().gm.find(buffer);
  }
  T* GetPhyAddr() const { return data_; }
  T* GetPhyAddr(uint64_t offset) const { return data_ + offset; }
  uint64_t GetSize() const { return elements_; }
  GlobalTensor operator[](uint64_t offset) const {
    GlobalTensor view = *this;
    view.data_ = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(data_) + offset * sizeof(T));
    if (elements_ != ~0ull)
      view.elements_ = static_cast<uint64_t>(static_cast<int64_t>(elements_ - offset));
    return view;
  }

  emulator::GmPlace place() const { return {home_, reinterpret_cast<const uint8_t*>(data_)}; }
  // `offset` and `bytes` in bytes. What lies outside of the allocation is not its business.
  void check(const Caller& by, int64_t offset, uint64_t bytes) const;

 private:
  T* data_ = nullptr;
  uint64_t elements_ = ~0ull;
  emulator::Allocation* home_ = nullptr;
};

template <class T>
class LocalTensor {
 public:
  LocalTensor() = default;
  LocalTensor(TPosition, uint32_t address, uint32_t elements)
      : address_(address), bytes_(elements * sizeof(T)) {}

  T GetValue(uint32_t offset, Site site = Site::here()) const;
  template <class U>
  void SetValue(uint32_t offset, U value, Site site = Site::here()) const;
  api::Element<LocalTensor, T> operator()(uint32_t offset, Site site = Site::here()) const {
    return {*this, offset, site};
  }
  LocalTensor operator[](uint32_t offset) const {
    LocalTensor view = *this;
    view.address_ = address_ + offset * static_cast<uint32_t>(sizeof(T));
    view.bytes_ = bytes_ - static_cast<int64_t>(offset) * static_cast<int64_t>(sizeof(T));
    return view;
  }
  template <class U>
  LocalTensor<U> ReinterpretCast() const {
    return LocalTensor<U>::view(address_, bytes_, buffer_, generation_);
  }
  uint32_t GetSize() const { return bytes_ / sizeof(T); }
  uint64_t GetPhyAddr() const { return address_; }
  uint64_t GetPhyAddr(uint32_t offset) const { return address_ + offset * sizeof(T); }

  static LocalTensor view(uint32_t address, int64_t bytes, int buffer = -1,
                          uint32_t generation = 0) {
    LocalTensor tensor;
    tensor.address_ = address;
    tensor.bytes_ = bytes;
    tensor.buffer_ = buffer;
    tensor.generation_ = generation;
    return tensor;
  }
  uint32_t address() const { return address_; }
  int64_t bytes() const { return bytes_; }
  int buffer() const { return buffer_; }
  uint32_t generation() const { return generation_; }
  // The tensor may be used, and has its first `extent` bytes: else there is a finding.
  void check(const Caller& by, const char* operand, uint64_t extent, uint32_t alignment) const;

 private:
  uint32_t address_ = 0;
  int64_t bytes_ = 0;
  int buffer_ = -1;  // of the TPipe; -1: a static tensor
  uint32_t generation_ = 0;
};

template <class T>
void LocalTensor<T>::check(const Caller& by, const char* operand, uint64_t extent,
                           uint32_t alignment) const {
  auto& core = emulator::current();
  if (buffer_ >= 0) {
    const api::Buffer& buffer = api::library().buffers[buffer_];
    if (buffer.state == api::Buffer::free || buffer.generation != generation_) {
      core.error("queue-use-after-free", by, ": ", operand,
                 " is a tensor that was given back with FreeTensor");
    }
  }
  if (address_ % alignment) {
    core.error("ub-alignment", by, ": ", operand, " starts at byte ", address_,
               " of UB, which is not a multiple of ", alignment);
  }
  if (bytes_ < 0) {
    core.error("ub-bounds", by, ": ", operand, " starts ", -bytes_, " bytes behind its end");
  } else if (static_cast<int64_t>(extent) > bytes_) {
    core.error("ub-bounds", by, ": ", operand, " has ", bytes_, " bytes, of which ", extent,
               " are used");
  }
}

template <class T>
T LocalTensor<T>::GetValue(uint32_t offset, Site site) const {
  check({"GetValue", site}, "tensor", (offset + 1ull) * sizeof(T), sizeof(T));
  T value{};
  emulator::load_scalar(emulator::current(), {"GetValue", site},
                        address_ + static_cast<uint64_t>(offset) * sizeof(T), &value, sizeof(T));
  return value;
}

template <class T>
template <class U>
void LocalTensor<T>::SetValue(uint32_t offset, U value, Site site) const {
  check({"SetValue", site}, "tensor", (offset + 1ull) * sizeof(T), sizeof(T));
  const T element = static_cast<T>(value);
  emulator::store_scalar(emulator::current(), {"SetValue", site},
                         address_ + static_cast<uint64_t>(offset) * sizeof(T), &element, sizeof(T));
}

template <class T>
void GlobalTensor<T>::check(const Caller& by, int64_t offset, uint64_t bytes) const {
  auto& core = emulator::current();
  if ((reinterpret_cast<uintptr_t>(data_) + offset) % sizeof(T)) {
    core.error("gm-alignment", by, ": the GM address is not a multiple of the element size");
  }
  if (elements_ != ~0ull &&
      offset + static_cast<int64_t>(bytes) > static_cast<int64_t>(elements_ * sizeof(T))) {
    core.error("gm-tensor-size", by,
               " passes the end of the GlobalTensor, which SetGlobalBuffer gave ",
               static_cast<int64_t>(elements_), " elements from here");
  }
}

}  // namespace AscendC
