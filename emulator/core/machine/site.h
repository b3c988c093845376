// Where in the kernel's source a call stands.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace emulator {

struct Site {
  const char* file = "";
  int line = 0;

  // Used as a default argument, so that it names the line of the caller.
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
  std::string text() const {
    const char* slash = std::strrchr(file, '/');
    return std::string(slash ? slash + 1 : file) + ":" + std::to_string(line);
  }
};

}  // namespace emulator
