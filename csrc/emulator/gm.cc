#include "gm.h"

#include <cstring>
#include <stdexcept>

namespace emulator {

namespace {
constexpr uint64_t kRedZone = 4096;  // keeps neighbours apart: one's end is not another's start
constexpr uint32_t kPoison = 0x7FA0DEAD;  // a signalling NaN
}  // namespace

void* Gm::allocate(uint64_t bytes, const std::string& name, uint32_t misalign) {
  auto allocation = std::make_unique<Allocation>();
  allocation->name = name;
  allocation->bytes = bytes;
  allocation->storage.resize(bytes + misalign + 2 * kRedZone + kGmLine);
  auto start = reinterpret_cast<uintptr_t>(allocation->storage.data()) + kRedZone;
  start = (start + kGmLine - 1) / kGmLine * kGmLine + misalign;
  allocation->data = reinterpret_cast<uint8_t*>(start);
  for (uint64_t i = 0; i < bytes; ++i) {
    allocation->data[i] = static_cast<uint8_t>(kPoison >> (8 * (i % 4)));
  }
  allocation->shadow = Shadow<GmCell>(bytes);
  allocation->touched.resize(bytes / kGmLine + 1);
  bytes_ += bytes;
  allocations_.push_back(std::move(allocation));
  return allocations_.back()->data;
}

Allocation* Gm::find(const void* address) {
  const auto* at = static_cast<const uint8_t*>(address);
  for (auto& a : allocations_) {
    if (at >= a->data && at <= a->data + a->bytes) return a.get();
  }
  return nullptr;
}

Allocation& Gm::at(const void* address, uint64_t bytes) const {
  const auto* at = static_cast<const uint8_t*>(address);
  for (auto& a : allocations_) {
    if (at >= a->data && at + bytes <= a->data + a->bytes) return *a;
  }
  throw std::out_of_range("host access outside of every allocation");
}

void Gm::write(void* to, const void* from, uint64_t bytes) {
  Allocation& a = at(to, bytes);
  if (bytes) std::memcpy(to, from, bytes);
  a.shadow.each(static_cast<uint8_t*>(to) - a.data, bytes, false,
                [](GmCell& cell, uint64_t) { cell.defined = true; });
}

void Gm::fill(void* to, uint8_t value, uint64_t bytes) {
  const std::vector<uint8_t> values(bytes, value);
  write(to, values.data(), bytes);
}

void Gm::read(void* to, const void* from, uint64_t bytes) const {
  at(from, bytes);
  if (bytes) std::memcpy(to, from, bytes);
}

}  // namespace emulator
