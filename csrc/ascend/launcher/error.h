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

// What else has to be told of a call of this thread that fails: clean-up does not throw. The error of
// the call ends with it, once for each text.
void Remark(const std::string& text);
std::string TakeRemarks();

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_ERROR_H_
