// Where in the kernel's source a call stands.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

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

// A call of the kernel: its name, and where it stands.
struct Caller {
  const char* name = "";
  Site site;
  Caller() = default;
  Caller(Site site) : site(site) {}
  Caller(const char* name, Site site) : name(name), site(site) {}
};

// One text of words and numbers.
template <class... Parts>
std::string joined(const Parts&... parts) {
  std::string all;
  const auto add = [&all](const auto& part) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>) {
      all += std::to_string(part);
    } else {
      all += part;
    }
  };
  (add(parts), ...);
  return all;
}

}  // namespace emulator
