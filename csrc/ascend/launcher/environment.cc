#include "environment.h"

#include <climits>
#include <cstdlib>

#include "error.h"

namespace jda_ascend {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

int EnvironmentNumber(const char* name, int otherwise) {
  const std::string text = Environment(name);
  if (text.empty()) return otherwise;
  long number = 0;
  for (const char digit : text) {
    number = digit < '0' || digit > '9' ? LONG_MAX : number * 10 + (digit - '0');
    if (number > INT_MAX) {
      throw Error(JDA_ASCEND_INVALID_ARGUMENT, std::string(name) + " is '" + text +
                                                   "'; it may be a whole number from 0 to " +
                                                   std::to_string(INT_MAX));
    }
  }
  return static_cast<int>(number);
}

}  // namespace jda_ascend
