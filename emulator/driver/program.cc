// libacl_rtc.so: run-time compilation. A program is compiled by the host's C++ compiler against the
// emulator's headers, which lie beside this library, and linked with libacl_rt.so.

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <regex>
#include <set>
#include <vector>

#include "driver.h"
#include "kernel.h"

extern char** environ;

using namespace emulated;

struct emulated::Program {
  std::string source, name, log;
  std::string data;  // the binary, once it is compiled
};

namespace {

std::shared_ptr<Program> program_of(Driver& driver, void* handle) {
  const auto known = driver.programs.find(handle);
  if (known == driver.programs.end()) refuse(ACL_ERROR_RTC_INVALID_PROG, "no such program");
  return known->second;
}

const std::string& binary_of(const Program& program) {
  if (program.data.empty()) refuse(ACL_ERROR_RTC_INVALID_INPUT, "nothing was compiled");
  return program.data;
}

struct Options {
  bool automatic_sync = true, reserve_scratch = true;
  std::vector<std::string> passed_on;
};

Options parse(int count, const char** options) {
  Options parsed;
  bool architecture = false;
  for (int i = 0; i < count; ++i) {
    const std::string option = options && options[i] ? options[i] : "";
    const auto starts = [&](const char* with) { return option.rfind(with, 0) == 0; };
    if (option == "--npu-arch=dav-2201") {
      architecture = true;
    } else if (option == "--cce-auto-sync=on" || option == "--cce-auto-sync=off") {
      parsed.automatic_sync = option.back() == 'n';
    } else if (option == "--cce-disable-asc-reserved-ubuf") {
      parsed.reserve_scratch = false;
    } else if (starts("-D") || starts("-U") || option == "-std=c++17") {
      parsed.passed_on.push_back(option);
    } else if (!starts("-O") || option.size() != 3) {
      refuse(ACL_ERROR_RTC_INVALID_OPTION, "no such option: " + option);
    }
  }
  if (!architecture) {
    refuse(ACL_ERROR_RTC_INVALID_OPTION,
           "--npu-arch=dav-2201 is missing: nothing else is emulated");
  }
  return parsed;
}

// The names of functions declared as kernels. Of a source that went through the preprocessor: comments
// and macros are gone, and __global__ was left as it is.
std::set<std::string> kernels_in(const std::string& text) {
  static const std::regex last_word(R"((\w+)\s*$)");
  const std::string mark = "__global__";
  std::set<std::string> names;
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
    const std::string declared = text.substr(at, text.find('(', at) - at);
    std::smatch name;
    if (std::regex_search(declared, name, last_word)) names.insert(name[1]);
  }
  return names;
}

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A folder that goes away again.
struct Scratch {
  std::filesystem::path path;
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "jda-emulated-XXXXXX").string();
    if (!mkdtemp(name.data())) refuse(ACL_ERROR_RTC_FAILURE, "no temporary folder");
    path = name;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

// Runs a command; what it prints goes into a file.
bool succeeds(const std::vector<std::string>& command, const std::filesystem::path& log) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t child;
  const int failed =
      posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) refuse(ACL_ERROR_RTC_FAILURE, command[0] + ": " + std::strerror(failed));
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) refuse(ACL_ERROR_RTC_FAILURE, "the compiler was lost");
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void compile(Program& program, const Options& options) {
  const Scratch scratch;
  const auto source = scratch.path / "kernels.cpp", plain = scratch.path / "plain.cpp",
             object = scratch.path / "kernels.so", log = scratch.path / "log";
  const std::filesystem::path library = driver_library(),
                              include = library.parent_path() / "include";
  const char* compiler = std::getenv("CXX");
  std::vector<std::string> command = {
      compiler && *compiler ? compiler : "g++", "-std=c++17",   "-w", "-I" + include.string(),
      "-I" + (include / "api").string(),        source.string()};
  command.insert(command.end(), options.passed_on.begin(), options.passed_on.end());
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.begin(), command.begin(), command.end());
    const bool done = succeeds(more, log);
    program.log = contents(log);
    if (!done) refuse(ACL_ERROR_RTC_COMPILATION, "the program does not compile");
  };
  std::string text = "#line 1 \"" + program.name + "\"\n" + program.source +
                     "\n#line 1 \"emulated\"\n#include \"driver/kernel.h\"\n";
  const auto write = [&] { std::ofstream(source, std::ios::binary) << text; };
  write();
  run({"-E", "-P", "-D__global__=__global__", "-o", plain.string()});
  for (const std::string& name : kernels_in(contents(plain))) {
    text += "JDA_EMULATED_KERNEL(" + name + ")\n";
  }
  text += "JDA_EMULATED_BINARY(\"" JDA_EMULATED_BUILD "\", " +
          std::to_string(options.automatic_sync) + ", " + std::to_string(options.reserve_scratch) +
          ")\n";
  write();
  run({"-O1", "-fPIC", "-shared", library.string(), "-o", object.string()});
  std::string data = contents(object);
  const uint64_t sum = checksum(data.data(), data.size());
  program.data = data.append(reinterpret_cast<const char*>(&sum), sizeof(sum));
}

// The driver is free while the compiler works.
struct Unlocked {
  Lock& lock;
  explicit Unlocked(Lock& lock) : lock(lock) { lock.unlock(); }
  ~Unlocked() { lock.lock(); }
};

// The driver's way of a call, with the compiler's codes.
template <class Body>
aclError compiler_call(const char* function, Body body) {
  return call(function, "", [&](Driver& driver, Lock& lock) {
    try {
      body(driver, lock);
    } catch (const std::bad_alloc&) {
      refuse(ACL_ERROR_RTC_OUT_OF_MEMORY, "the host has no memory left");
    } catch (const std::exception& error) {
      refuse(ACL_ERROR_RTC_FAILURE, error.what());
    }
  });
}

// Where the caller has a place for them.
void give_size(size_t size, size_t* to) {
  if (!to) refuse(ACL_ERROR_RTC_INVALID_INPUT, "nowhere to put the size");
  *to = size;
}

void give(const char* bytes, size_t count, char* to) {
  if (!to) refuse(ACL_ERROR_RTC_INVALID_INPUT, "nowhere to put the result");
  std::memcpy(to, bytes, count);
}

}  // namespace

aclError aclrtcCreateProg(aclrtcProg* program, const char* source, const char* name,
                          int header_count, const char** headers, const char** header_names) {
  return compiler_call("aclrtcCreateProg", [&](Driver& driver, Lock&) {
    if (!program || !source) refuse(ACL_ERROR_RTC_INVALID_INPUT, "a null pointer");
    if (header_count || headers || header_names) {
      refuse(ACL_ERROR_RTC_INVALID_INPUT, "headers are not supported: the source is one string");
    }
    *program = driver.new_handle();
    driver.programs[*program] =
        std::make_shared<Program>(Program{source, name ? name : "program", "", ""});
  });
}

aclError aclrtcCompileProg(aclrtcProg program, int option_count, const char** options) {
  return compiler_call("aclrtcCompileProg", [&](Driver& driver, Lock& lock) {
    const auto known = program_of(driver, program);
    const Unlocked unlocked(lock);
    compile(*known, parse(option_count, options));
  });
}

aclError aclrtcGetCompileLogSize(aclrtcProg program, size_t* bytes) {
  return compiler_call("aclrtcGetCompileLogSize", [&](Driver& driver, Lock&) {
    give_size(program_of(driver, program)->log.size() + 1, bytes);
  });
}

aclError aclrtcGetCompileLog(aclrtcProg program, char* log) {
  return compiler_call("aclrtcGetCompileLog", [&](Driver& driver, Lock&) {
    const auto known = program_of(driver, program);
    give(known->log.c_str(), known->log.size() + 1, log);
  });
}

aclError aclrtcGetBinDataSize(aclrtcProg program, size_t* bytes) {
  return compiler_call("aclrtcGetBinDataSize", [&](Driver& driver, Lock&) {
    give_size(binary_of(*program_of(driver, program)).size(), bytes);
  });
}

aclError aclrtcGetBinData(aclrtcProg program, char* data) {
  return compiler_call("aclrtcGetBinData", [&](Driver& driver, Lock&) {
    const auto known = program_of(driver, program);
    give(binary_of(*known).data(), binary_of(*known).size(), data);
  });
}

aclError aclrtcDestroyProg(aclrtcProg* program) {
  return compiler_call("aclrtcDestroyProg", [&](Driver& driver, Lock&) {
    if (!program) refuse(ACL_ERROR_RTC_INVALID_INPUT, "a null pointer");
    program_of(driver, *program);
    driver.programs.erase(*program);
    *program = nullptr;
  });
}
