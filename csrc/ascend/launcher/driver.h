// CANN's libraries, opened while the program runs.

#ifndef JDA_ASCEND_LAUNCHER_DRIVER_H_
#define JDA_ASCEND_LAUNCHER_DRIVER_H_

#include <string>

#include "acl.h"

// Every function of the driver: Required, Optional, or of the Compiler's own library. Of the two
// optional ones that launch kernels, one is needed.
// clang-format off: one entry a line
#define JDA_ACL_FUNCTIONS(Required, Optional, Compiler) \
  Required(aclInit) \
  Required(aclrtSetDevice) \
  Required(aclrtGetDevice) \
  Required(aclrtGetDeviceCount) \
  Optional(aclrtGetDeviceInfo) \
  Optional(aclrtGetDeviceResLimit) \
  Optional(aclsysGetCANNVersion) \
  Required(aclrtCreateStream) \
  Required(aclrtDestroyStream) \
  Required(aclrtSynchronizeStream) \
  Required(aclrtCreateEventExWithFlag) \
  Required(aclrtDestroyEvent) \
  Required(aclrtRecordEvent) \
  Required(aclrtStreamWaitEvent) \
  Required(aclrtSynchronizeEvent) \
  Required(aclrtQueryEventStatus) \
  Required(aclrtMalloc) \
  Required(aclrtFree) \
  Required(aclrtMallocHost) \
  Required(aclrtFreeHost) \
  Required(aclrtMemcpyAsync) \
  Required(aclrtMemsetAsync) \
  Required(aclrtGetMemInfo) \
  Required(aclrtBinaryLoadFromFile) \
  Optional(aclrtBinaryLoadFromData) \
  Required(aclrtBinaryGetFunction) \
  Required(aclrtBinaryUnLoad) \
  Optional(aclrtLaunchKernelWithArgsArray) \
  Optional(aclrtLaunchKernelWithHostArgs) \
  Compiler(aclrtcCreateProg) \
  Compiler(aclrtcCompileProg) \
  Compiler(aclrtcGetCompileLogSize) \
  Compiler(aclrtcGetCompileLog) \
  Compiler(aclrtcGetBinDataSize) \
  Compiler(aclrtcGetBinData) \
  Compiler(aclrtcDestroyProg)
// clang-format on

namespace jda_ascend {

// Throws the error of a call, with the runtime's own message.
[[noreturn]] void RaiseCallError(const char* call, aclError code);

// Throws that this driver lacks an optional function.
[[noreturn]] void RaiseMissing(const char* call);

// A function of a library, which throws when it fails.
template <typename Signature>
class Function;

template <typename... Arguments>
class Function<aclError(Arguments...)> {
 public:
  explicit Function(const char* name) : name_(name) {}

  void operator()(Arguments... arguments) const {
    if (!found()) RaiseMissing(name_);
    const aclError code = Try(arguments...);
    if (code != ACL_SUCCESS) RaiseCallError(name_, code);
  }

  // Returns the code: for clean-up, and where a code is an answer.
  aclError Try(Arguments... arguments) const { return pointer_(arguments...); }

  const char* name() const { return name_; }
  bool found() const { return pointer_ != nullptr; }
  void Point(void* to) { pointer_ = reinterpret_cast<aclError (*)(Arguments...)>(to); }

 private:
  const char* name_;
  aclError (*pointer_)(Arguments...) = nullptr;
};

struct Driver {
#define JDA_DECLARE(name) Function<decltype(::name)> name{#name};
  JDA_ACL_FUNCTIONS(JDA_DECLARE, JDA_DECLARE, JDA_DECLARE)
#undef JDA_DECLARE
  decltype(::aclrtGetSocName)* aclrtGetSocName = nullptr;
  decltype(::aclGetRecentErrMsg)* aclGetRecentErrMsg = nullptr;

  std::string runtime_path;
  std::string compiler_path;     // "" without run-time compilation
  std::string compiler_problem;  // why there is none
  bool emulated = false;
};

// Opens the driver in `folder`, or where it usually is if that is empty.
void OpenDriver(const std::string& folder);

// The open driver. Throws if none is.
const Driver& TheDriver();

// The open driver after aclInit, which other libraries of the process may have called before. It
// is never finalised: they may go on using it.
const Driver& InitialisedDriver();

// CANN's version; "" if it does not tell.
std::string ToolkitVersion(const Driver& driver);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_DRIVER_H_
