#include "progress.h"

#include <atomic>

namespace jda_ascend {
namespace {

std::atomic<Listener> the_listener{nullptr};

}  // namespace

void TellTo(Listener listener) { the_listener = listener; }

void Tell(const std::string& line) {
  const Listener listener = the_listener;
  if (listener != nullptr) listener(line.c_str());
}

}  // namespace jda_ascend
