#include "gm.h"

#include <sys/mman.h>

#include <cstring>
#include <iterator>
#include <new>
#include <stdexcept>

namespace emulator {

namespace {

constexpr uint64_t kRedZone = 4096;  // keeps neighbours apart: one's end is not another's start
constexpr uint64_t kAddresses = uint64_t{1} << 40;

uint64_t aligned(uint64_t at) { return (at + kGmLine - 1) / kGmLine * kGmLine; }

void extend(Touched::Ranges& ranges, uint64_t begin, uint64_t end) {
  if (!ranges.empty() && ranges.back().second == begin) {
    ranges.back().second = end;
  } else {
    ranges.emplace_back(begin, end);
  }
}

}  // namespace

Gm::Gm(bool apart) {
  if (!apart) return;
  void* range =
      mmap(nullptr, kAddresses, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) throw std::bad_alloc();
  reserved_ = static_cast<uint8_t*>(range);
}

Gm::~Gm() {
  if (reserved_) munmap(reserved_, kAddresses);
}

void* Gm::allocate(uint64_t bytes, const std::string& name, uint32_t misalign) {
  auto allocation = std::make_unique<Allocation>();
  allocation->name = name;
  allocation->bytes = bytes;
  if (reserved_) {
    const uint64_t start = aligned(taken_ + kRedZone) + misalign;
    if (bytes > kAddresses || start > kAddresses - bytes) throw std::bad_alloc();
    allocation->storage.resize(bytes);
    allocation->data = allocation->storage.data();
    allocation->address = reserved_ + start;
    taken_ = start + bytes;
  } else {
    allocation->storage.resize(bytes + misalign + 2 * kRedZone + kGmLine);
    const auto start = reinterpret_cast<uintptr_t>(allocation->storage.data()) + kRedZone;
    allocation->data = reinterpret_cast<uint8_t*>(aligned(start) + misalign);
    allocation->address = allocation->data;
  }
  poison(allocation->data, bytes);
  allocation->shadow = Shadow<GmCell>(bytes);
  allocation->read.resize(bytes / kGmLine + 1);
  bytes_ += bytes;
  auto* address = const_cast<uint8_t*>(allocation->address);
  allocations_[reinterpret_cast<uintptr_t>(address)] = std::move(allocation);
  return address;
}

void Gm::release(void* address) {
  const auto known = allocations_.find(reinterpret_cast<uintptr_t>(address));
  if (known == allocations_.end() || known->second->released) {
    throw std::invalid_argument("what is released is no allocation");
  }
  Allocation& a = *known->second;
  a.released = true;
  bytes_ -= a.bytes;
  a.shadow = Shadow<GmCell>();
  a.read = std::vector<bool>();  // not {}, which would keep the memory
  // Without addresses of its own, the storage stays: nothing else may get its addresses.
  if (!reserved_) return;
  a.storage = std::vector<uint8_t>();
  a.data = nullptr;
}

bool Gm::owns(const void* address) const {
  const auto* at = static_cast<const uint8_t*>(address);
  return reserved_ && at >= reserved_ && at < reserved_ + kAddresses;
}

Allocation* Gm::find(const void* address) const {
  auto next = allocations_.upper_bound(reinterpret_cast<uintptr_t>(address));
  if (next == allocations_.begin()) return nullptr;
  Allocation* a = std::prev(next)->second.get();
  return a->offset(address) <= a->bytes ? a : nullptr;
}

Allocation& Gm::at(const void* address, uint64_t bytes) const {
  Allocation* a = find(address);
  if (!a || a->released || !a->holds(address, bytes)) {
    throw std::out_of_range("host access outside of every allocation");
  }
  return *a;
}

void Gm::write(void* to, const void* from, uint64_t bytes) {
  Allocation& a = at(to, bytes);
  const uint64_t begin = a.offset(to);
  if (bytes) std::memcpy(a.data + begin, from, bytes);
  a.shadow.each(begin, bytes, false, [](GmCell& cell, uint64_t) { cell.defined = true; });
}

void Gm::fill(void* to, uint8_t value, uint64_t bytes) {
  const std::vector<uint8_t> values(bytes, value);
  write(to, values.data(), bytes);
}

void Gm::read(void* to, const void* from, uint64_t bytes) const {
  const Allocation& a = at(from, bytes);
  if (bytes) std::memcpy(to, a.data + a.offset(from), bytes);
}

bool Gm::defined(const void* from, uint64_t bytes) const {
  Allocation& a = at(from, bytes);
  bool all = true;
  a.shadow.each(a.offset(from), bytes, false,
                [&](GmCell& cell, uint64_t) { all = all && cell.defined; });
  return all;
}

std::vector<Touched> Gm::touched() const {
  std::vector<Touched> all;
  for (const auto& [address, a] : allocations_) {
    if (a->released || a->last_epoch <= launch_epoch) continue;
    Touched touched{a.get(), {}, {}};
    // A cell is visited at its first byte and ends where the next one begins.
    uint64_t begin = 0;
    bool read = false, written = false;
    const auto close = [&](uint64_t end) {
      if (read) extend(touched.reads, begin, end);
      if (written) extend(touched.writes, begin, end);
    };
    a->shadow.each(0, a->bytes, false, [&](GmCell& cell, uint64_t at) {
      close(at);
      begin = at;
      const bool now = cell.epoch > launch_epoch;
      read = now && cell.reader >= 0;
      written = (now && cell.writer >= 0) || cell.changed > launch_epoch;
    });
    close(a->bytes);
    all.push_back(std::move(touched));
  }
  return all;
}

}  // namespace emulator
