#include "driver.h"

#include <dlfcn.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sstream>
#include <vector>

namespace emulated {

namespace {

// "a:b,c:d" in pieces.
std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> pieces;
  std::istringstream stream(text);
  for (std::string piece; std::getline(stream, piece, at);) pieces.push_back(piece);
  return pieces;
}

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Ends the program: a test that asks for something else than it gets shows nothing.
[[noreturn]] void give_up(const char* name, const std::string& word, const std::string& allowed) {
  std::fprintf(stderr, "%s holds '%s'; it may hold %s\n", name, word.c_str(), allowed.c_str());
  std::abort();
}

// A whole number from 0 to `largest`; -1: the text is none.
int64_t whole_number(const std::string& text, int64_t largest) {
  int64_t number = text.empty() ? -1 : 0;
  for (const char c : text) {
    const int digit = c - '0';
    if (digit < 0 || digit > 9 || number > (largest - digit) / 10) return -1;
    number = number * 10 + digit;
  }
  return number;
}

// Work of a stream, or a function of the driver, which its compiler's library beside it may have.
bool may_fail(const std::string& name) {
  if (name == "kernel" || name == "copy") return true;
  if (name.rfind("acl", 0) != 0) return false;
  const std::filesystem::path runtime = driver_library();
  for (const auto& path : {runtime, runtime.parent_path() / "libacl_rtc.so"}) {
    void* library = dlopen(path.c_str(), RTLD_LAZY);
    const bool found = library && dlsym(library, name.c_str());
    if (library) dlclose(library);
    if (found) return true;
  }
  return false;
}

}  // namespace

Settings::Settings()
    : numbers{{"devices", 1},
              {"cores", 48},
              {"core_limit", 0},
              {"memory", int64_t{64} << 30},
              {"seed", 0},
              {"kernel_types", 0},
              {"kernel_parameters", 0},
              {"workers", 0},
              {"transfer_microseconds", 0}},
      soc("Ascend910B1") {
  for (const std::string& piece : split(environment("JDA_EMULATED"), ',')) {
    const auto pair = split(piece, '=');
    const int64_t number = pair.size() == 2 ? whole_number(pair[1], INT64_MAX) : -1;
    if (pair.size() == 2 && pair[0] == "soc") {
      soc = pair[1];
    } else if (number >= 0 && numbers.count(pair[0])) {
      numbers[pair[0]] = number;
    } else {
      std::string allowed;
      for (const auto& [name, usual] : numbers) allowed += name + "=NUMBER, ";
      give_up("JDA_EMULATED", piece, allowed + "soc=NAME");
    }
  }
}

void Driver::reset() {
  books = Books();
  settings = Settings();
  device_peak = device_bytes;
  for (const std::string& piece : split(environment("JDA_EMULATED_FAIL"), ',')) {
    const auto parts = split(piece, ':');
    const bool three = parts.size() == 3;
    const int64_t n = three ? whole_number(parts[1], INT64_MAX) : -1;
    const int64_t code = three ? whole_number(parts[2], INT_MAX) : -1;
    if (n < 0 || code < 0 || !may_fail(parts[0])) {
      give_up("JDA_EMULATED_FAIL", piece,
              "FUNCTION:NUMBER:CODE: a function of the driver, 'kernel' or 'copy'");
    }
    books.fail(parts[0], n, static_cast<int>(code));
  }
}

Driver& the_driver() {
  // Never destroyed: streams may have threads, and calls may come late.
  static auto* driver = new Driver;
  return *driver;
}

std::filesystem::path driver_library() {
  Dl_info info = {};
  dladdr(reinterpret_cast<void*>(&aclInit), &info);
  return std::filesystem::canonical(info.dli_fname);
}

std::string Driver::user_of(const Ranges& memory) const {
  std::string user;
  each_pending([&](const Operation& operation) {
    if (user.empty() && overlap(operation.uses, memory)) user = operation.text;
  });
  if (!user.empty()) return user;
  const Done* done = history.unknown(host, memory);
  return done ? done->text : "";
}

aclError call(const char* function, const std::string& arguments,
              const std::function<void(Driver&, Lock&)>& body) {
  Driver& driver = the_driver();
  Lock lock(driver.mutex);
  aclError code = driver.books.enter(function);
  std::string text = "it was told to fail";
  if (code == ACL_SUCCESS) {
    try {
      body(driver, lock);
    } catch (const Refusal& refusal) {
      code = refusal.code;
      text = refusal.text;
    } catch (const std::bad_alloc&) {
      code = ACL_ERROR_RT_MEMORY_ALLOCATION;
      text = "the host has no memory left";
    }
  }
  std::string line = std::string(function) + "(" + arguments + ")";
  if (code != ACL_SUCCESS) {
    line += " = " + std::to_string(code);
    remember_error("emulated driver: " + line + ": " + text);
  }
  driver.books.trace(line);
  return code;
}

}  // namespace emulated
