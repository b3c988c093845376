#include "order.h"

#include "books.h"

namespace emulated {

void Clock::learn(int stream, uint64_t number) {
  uint64_t& count = counts_[stream];
  count = std::max(count, number);
}

void Clock::learn(const Clock& other) {
  for (const auto& [stream, number] : other.counts_) learn(stream, number);
}

bool overlap(const Ranges& a, const Ranges& b) {
  for (size_t i = 0, k = 0; i < a.size() && k < b.size();) {
    if (a[i].first < b[k].second && b[k].first < a[i].second) return true;
    a[i].second < b[k].second ? ++i : ++k;
  }
  return false;
}

Ranges range(const void* begin, uint64_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(begin);
  return {{at, at + bytes}};
}

void History::add(Done done, const Clock& known, Books& books) {
  for (const Done& other : done_) {
    if (known.knows(other.stream, other.number)) continue;
    const bool clash = overlap(done.effects.writes, other.effects.writes) ||
                       overlap(done.effects.writes, other.effects.reads) ||
                       overlap(done.effects.reads, other.effects.writes);
    if (!clash) continue;
    books.find("stream-race", done.text + " on stream " + std::to_string(done.stream) +
                                  " touches bytes of " + other.text + " on stream " +
                                  std::to_string(other.stream) + ", and no event orders them");
  }
  done_.push_back(std::move(done));
}

const Done* History::unknown(const Clock& host, const Ranges& memory) const {
  for (const Done& done : done_) {
    if (host.knows(done.stream, done.number)) continue;
    if (overlap(done.effects.reads, memory) || overlap(done.effects.writes, memory)) return &done;
  }
  return nullptr;
}

}  // namespace emulated
