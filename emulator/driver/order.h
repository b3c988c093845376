// What happens before what: operations of streams, ordered by their streams, by events and by the
// host's synchronisations. Two that touch the same bytes, one of them writing, need an order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace emulated {

class Books;

// By stream: how many of its operations are known to be complete.
class Clock {
 public:
  bool knows(int stream, uint64_t number) const {
    const auto at = counts_.find(stream);
    return at != counts_.end() && at->second >= number;
  }
  void learn(int stream, uint64_t number);
  void learn(const Clock& other);

 private:
  std::map<int, uint64_t> counts_;
};

using Ranges = std::vector<std::pair<uintptr_t, uintptr_t>>;  // begin and end; in order and apart

bool overlap(const Ranges& a, const Ranges& b);
Ranges range(const void* begin, uint64_t bytes);

// What an operation did.
struct Effects {
  Ranges reads, writes;
};

// Pinned memory that the host leaves alone until it knows that a copy is complete.
struct Watch {
  const uint8_t* at = nullptr;
  std::vector<uint8_t> expected;
  const char* rule = nullptr;
  Ranges memory() const { return at ? range(at, expected.size()) : Ranges(); }
};

struct Done {
  int stream;
  uint64_t number;  // in its stream
  std::string text;
  Effects effects;
  Watch watch;
};

// The operations that the host does not yet know to be complete.
class History {
 public:
  // `known`: what was complete for certain before it started.
  void add(Done done, const Clock& known, Books& books);
  const Done* unknown(const Clock& host, const Ranges& memory) const;
  template <class Visit>
  void each(Visit visit) {
    for (Done& done : done_) visit(done);
  }
  // Forgets what everybody who may come knows.
  template <class Known>
  void forget(Known known) {
    done_.erase(std::remove_if(done_.begin(), done_.end(), known), done_.end());
  }

 private:
  std::vector<Done> done_;
};

}  // namespace emulated
