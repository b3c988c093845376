#include "driver.h"

#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace emulated {

namespace {

// "a:b,c:d" in pieces.
std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> pieces;
  std::istringstream stream(text);
  for (std::string piece; std::getline(stream, piece, at);) pieces.push_back(piece);
  return pieces;
}

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

Settings::Settings()
    : numbers{{"devices", 1},
              {"cores", 48},
              {"core_limit", 0},
              {"memory", int64_t{64} << 30},
              {"seed", 0},
              {"workers", 0},
              {"transfer_microseconds", 0}},
      soc("Ascend910B1") {
  for (const std::string& piece : split(environment("JDA_EMULATED"), ',')) {
    const auto pair = split(piece, '=');
    if (pair.size() == 2 && pair[0] == "soc") {
      soc = pair[1];
    } else if (pair.size() == 2 && numbers.count(pair[0])) {
      numbers[pair[0]] = std::atoll(pair[1].c_str());
    } else {
      std::fprintf(stderr, "JDA_EMULATED: no such setting: %s\n", piece.c_str());
      std::abort();
    }
  }
}

void Driver::reset() {
  books = Books();
  settings = Settings();
  device_peak = device_bytes;
  for (const std::string& piece : split(environment("JDA_EMULATED_FAIL"), ',')) {
    const auto parts = split(piece, ':');
    if (parts.size() != 3) {
      std::fprintf(stderr, "JDA_EMULATED_FAIL: not function:n:code: %s\n", piece.c_str());
      std::abort();
    }
    books.fail(parts[0], std::atoll(parts[1].c_str()), std::atoi(parts[2].c_str()));
  }
}

Driver& the_driver() {
  // Never destroyed: streams may have threads, and calls may come late.
  static Driver* driver = [] {
    auto* made = new Driver;
    made->reset();
    return made;
  }();
  return *driver;
}

std::string Driver::user_of(const Ranges& memory) const {
  std::string user;
  each_stream([&](const Stream& stream) {
    for (const Operation& operation : stream.pending) {
      if (user.empty() && overlap(operation.uses, memory)) user = operation.text;
    }
  });
  if (!user.empty()) return user;
  const Done* done = history.unknown(host, memory);
  return done ? done->text : "";
}

}  // namespace emulated
