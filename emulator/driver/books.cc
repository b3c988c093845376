#include "books.h"

#include <algorithm>
#include <iterator>

#include "driver.h"

namespace emulated {

namespace {

constexpr size_t kLines = 100000;  // of the trace; a long run is not a leak

thread_local std::string recent, handed_out;

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace

void refuse(aclError code, const std::string& text) { throw Refusal{code, text}; }

void remember_error(const std::string& text) { recent = text; }

aclError Books::enter(const std::string& function) {
  ++calls_[function];
  aclError code = ACL_SUCCESS;
  for (auto failure = failures_.begin(); failure != failures_.end();) {
    const bool always = failure->left == 0;
    if (failure->function != function || (!always && --failure->left > 0)) {
      ++failure;
      continue;
    }
    if (code == ACL_SUCCESS) code = failure->code;
    failure = always ? std::next(failure) : failures_.erase(failure);
  }
  return code;
}

void Books::fail(const std::string& function, int64_t n, aclError code) {
  failures_.push_back({function, n, code});
}

void Books::trace(const std::string& line) {
  if (trace_.size() < kLines) trace_.push_back(line);
}

void Books::find(const std::string& rule, const std::string& text) {
  const std::string line = rule + ": " + text;
  if (std::find(findings_.begin(), findings_.end(), line) == findings_.end()) {
    findings_.push_back(line);
  }
}

void Books::refuse(const std::string& rule, aclError code, const std::string& text) {
  find(rule, text);
  emulated::refuse(code, text);
}

int64_t Books::calls(const std::string& function) const {
  const auto count = calls_.find(function);
  return count == calls_.end() ? 0 : count->second;
}

std::string Books::findings() const { return joined(findings_); }
std::string Books::trace_text() const { return joined(trace_); }

}  // namespace emulated

const char* aclGetRecentErrMsg(void) {
  using namespace emulated;
  Driver& driver = the_driver();
  const std::lock_guard<std::mutex> lock(driver.mutex);
  if (driver.books.enter("aclGetRecentErrMsg") || recent.empty()) return nullptr;
  handed_out.swap(recent);
  recent.clear();
  return handed_out.c_str();
}
