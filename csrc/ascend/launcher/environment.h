// The environment of the process.

#ifndef JDA_ASCEND_LAUNCHER_ENVIRONMENT_H_
#define JDA_ASCEND_LAUNCHER_ENVIRONMENT_H_

#include <cstdlib>
#include <string>

namespace jda_ascend {

// The value of a variable; "" if it is not set.
inline std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_ENVIRONMENT_H_
