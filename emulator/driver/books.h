// What the driver writes down: calls, the trace, findings, and the failures that it was told of.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "acl.h"

namespace emulated {

// Ends a call with an error code and a text for aclGetRecentErrMsg.
struct Refusal {
  aclError code;
  std::string text;
};
[[noreturn]] void refuse(aclError code, const std::string& text);

class Books {
 public:
  // Counts a call. The code that it was told to fail with; 0: none.
  aclError enter(const std::string& function);
  void fail(const std::string& function, int64_t n, aclError code);
  void trace(const std::string& line);
  // A broken rule; the same text is one finding.
  void find(const std::string& rule, const std::string& text);
  // ... that ends the call.
  [[noreturn]] void refuse(const std::string& rule, aclError code, const std::string& text);

  int64_t calls(const std::string& function) const;
  size_t finding_count() const { return findings_.size(); }
  std::string findings() const;
  std::string trace_text() const;

 private:
  struct Failure {
    std::string function;
    int64_t left;  // calls until it is due; 0: always
    aclError code;
  };
  std::map<std::string, int64_t> calls_;
  std::vector<Failure> failures_;
  std::vector<std::string> trace_, findings_;
};

// The text of this thread's last error, for aclGetRecentErrMsg.
void remember_error(const std::string& text);

}  // namespace emulated
