// Failures, and what the runtime's codes mean.

#ifndef JDA_ASCEND_LAUNCHER_ERROR_H_
#define JDA_ASCEND_LAUNCHER_ERROR_H_

#include <stdexcept>
#include <string>

#include "acl.h"
#include "launcher.h"

namespace jda_ascend {

class Error : public std::runtime_error {
 public:
  Error(jda_ascend_code code, const std::string& text) : std::runtime_error(text), code(code) {}
  const jda_ascend_code code;
};

// The error of a call that returned `code`; `detail` is what the runtime itself says, or "".
Error CallError(const char* call, aclError code, const std::string& detail);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_ERROR_H_
