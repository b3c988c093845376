// The environment of the process.

#ifndef JDA_ASCEND_LAUNCHER_ENVIRONMENT_H_
#define JDA_ASCEND_LAUNCHER_ENVIRONMENT_H_

#include <string>

namespace jda_ascend {

// The value of a variable; "" if it is not set.
std::string Environment(const char* name);

// The whole number that a variable holds, or `otherwise` if it is not set or empty. Throws if it is
// negative, no number, or beyond an int.
int EnvironmentNumber(const char* name, int otherwise);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_ENVIRONMENT_H_
