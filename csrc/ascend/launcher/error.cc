#include "error.h"

#include <utility>

namespace jda_ascend {
namespace {

struct Meaning {
  aclError code;
  jda_ascend_code kind;
  const char* text;
};

constexpr Meaning kMeanings[] = {
    {ACL_ERROR_INVALID_PARAM, JDA_ASCEND_INTERNAL, "invalid parameter"},
    {ACL_ERROR_REPEAT_INITIALIZE, JDA_ASCEND_INTERNAL, "initialised twice"},
    {ACL_ERROR_INVALID_FILE, JDA_ASCEND_FAILED_PRECONDITION, "invalid file"},
    {ACL_ERROR_RT_PARAM_INVALID, JDA_ASCEND_INTERNAL, "invalid parameter"},
    {ACL_ERROR_RT_INVALID_DEVICEID, JDA_ASCEND_UNAVAILABLE, "no card of that number"},
    {ACL_ERROR_RT_CONTEXT_NULL, JDA_ASCEND_INTERNAL, "the thread has no current card"},
    {ACL_ERROR_RT_STREAM_CONTEXT, JDA_ASCEND_INTERNAL, "the stream belongs to another context"},
    {ACL_ERROR_RT_INVALID_HANDLE, JDA_ASCEND_INTERNAL, "invalid handle"},
    {ACL_ERROR_RT_WAIT_TIMEOUT, JDA_ASCEND_INTERNAL, "waited too long"},
    {ACL_ERROR_RT_FEATURE_NOT_SUPPORT, JDA_ASCEND_FAILED_PRECONDITION, "not supported here"},
    {ACL_ERROR_RT_MEMORY_ALLOCATION, JDA_ASCEND_RESOURCE_EXHAUSTED, "out of memory"},
    {ACL_ERROR_RT_NO_DEVICE, JDA_ASCEND_UNAVAILABLE, "no card"},
    {ACL_ERROR_RT_AICORE_TIMEOUT, JDA_ASCEND_INTERNAL, "the kernel took too long"},
    {ACL_ERROR_RT_AICORE_EXCEPTION, JDA_ASCEND_INTERNAL, "the kernel failed on its core"},
    {ACL_ERROR_RT_VECTOR_CORE_TIMEOUT, JDA_ASCEND_INTERNAL, "the kernel took too long"},
    {ACL_ERROR_RT_VECTOR_CORE_EXCEPTION, JDA_ASCEND_INTERNAL, "the kernel failed on a vector core"},
    {ACL_ERROR_RT_VECTOR_CORE_TRAP_EXCEPTION, JDA_ASCEND_INTERNAL, "the kernel trapped"},
    {ACL_ERROR_RT_VECTOR_CORE_TRAP_READ_OVERFLOW, JDA_ASCEND_INTERNAL,
     "the kernel read out of bounds"},
    {ACL_ERROR_RT_VECTOR_CORE_TRAP_WRITE_OVERFLOW, JDA_ASCEND_INTERNAL,
     "the kernel wrote out of bounds"},
    {ACL_ERROR_RT_STREAM_SYNC_TIMEOUT, JDA_ASCEND_INTERNAL, "waited too long for the stream"},
    {ACL_ERROR_RT_DEVICE_MEM_ERROR, JDA_ASCEND_INTERNAL, "the card's memory is faulty"},
    {ACL_ERROR_RTC_INVALID_PROG, JDA_ASCEND_INTERNAL, "not a program"},
    {ACL_ERROR_RTC_INVALID_INPUT, JDA_ASCEND_INTERNAL, "invalid input of the compiler"},
    {ACL_ERROR_RTC_INVALID_OPTION, JDA_ASCEND_FAILED_PRECONDITION,
     "an option that the compiler does not know"},
    {ACL_ERROR_RTC_COMPILATION, JDA_ASCEND_FAILED_PRECONDITION, "the kernels do not compile"},
    {ACL_ERROR_RTC_LINKING, JDA_ASCEND_FAILED_PRECONDITION, "the kernels do not link"},
    {ACL_ERROR_RTC_PROG_CREATION_FAILURE, JDA_ASCEND_INTERNAL, "the compiler did not start"},
    {ACL_ERROR_RTC_OUT_OF_MEMORY, JDA_ASCEND_RESOURCE_EXHAUSTED, "no memory for the compiler"},
    {ACL_ERROR_RTC_FAILURE, JDA_ASCEND_INTERNAL, "internal error of the compiler"},
};

constexpr Meaning kUnknown{0, JDA_ASCEND_INTERNAL, "a code that jda does not know"};

const Meaning& MeaningOf(aclError code) {
  for (const Meaning& meaning : kMeanings) {
    if (meaning.code == code) return meaning;
  }
  return kUnknown;
}

thread_local std::string remarks;

}  // namespace

Error CallError(const char* call, aclError code, const std::string& detail) {
  const Meaning& meaning = MeaningOf(code);
  std::string text =
      std::string(call) + " failed with code " + std::to_string(code) + ": " + meaning.text;
  if (!detail.empty()) text += "; the runtime says: " + detail;
  return Error(meaning.kind, text);
}

void Remark(const std::string& text) {
  if (remarks.find(text) == std::string::npos) remarks += "; " + text;
}

std::string TakeRemarks() { return std::exchange(remarks, std::string()); }

}  // namespace jda_ascend
