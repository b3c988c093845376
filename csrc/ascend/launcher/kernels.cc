#include "kernels.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>
#include <vector>

#include "cache.h"
#include "environment.h"
#include "error.h"
#include "kernel_source.h"
#include "progress.h"

namespace jda_ascend {
namespace {

const char* const kOptions[] = {"--npu-arch=dav-2201"};

// A program of the run-time compiler.
class Program {
 public:
  explicit Program(const Driver& driver) : driver_(driver) {
    driver.aclrtcCreateProg(&program_, kKernelSource, "jda_kernels.asc", 0, nullptr, nullptr);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { driver_.aclrtcDestroyProg.Try(&program_); }

  std::string Compile() {
    const char* options[std::size(kOptions)];
    std::copy(std::begin(kOptions), std::end(kOptions), options);
    try {
      driver_.aclrtcCompileProg(program_, static_cast<int>(std::size(options)), options);
    } catch (const Error& error) {
      throw Error(error.code, std::string(error.what()) + Log());
    }
    size_t bytes = 0;
    driver_.aclrtcGetBinDataSize(program_, &bytes);
    std::string binary(bytes, '\0');
    driver_.aclrtcGetBinData(program_, binary.data());
    return binary;
  }

 private:
  std::string Log() const {
    size_t bytes = 0;
    if (driver_.aclrtcGetCompileLogSize.Try(program_, &bytes) != ACL_SUCCESS || bytes == 0) {
      return "";
    }
    std::string log(bytes + 1, '\0');
    if (driver_.aclrtcGetCompileLog.Try(program_, log.data()) != ACL_SUCCESS) return "";
    return std::string("; its log:\n") + log.c_str();
  }

  const Driver& driver_;
  aclrtcProg program_ = nullptr;
};

// Tells one compiler from the next even if the toolkit does not tell its version.
std::string CompilerIdentity(const Driver& driver) {
  char* resolved = realpath(driver.compiler_path.c_str(), nullptr);
  const std::string path = resolved == nullptr ? driver.compiler_path : resolved;
  std::free(resolved);
  struct stat status = {};
  stat(path.c_str(), &status);
  return path + " " + std::to_string(status.st_size) + " " + std::to_string(status.st_mtim.tv_sec) +
         "." + std::to_string(status.st_mtim.tv_nsec);
}

// The kernels need not say themselves that they are for vector cores: the magic does.
Binary LoadFromMemory(const Driver& driver, const std::string& bytes) {
  aclrtBinaryLoadOption option = {};
  option.type = ACL_RT_BINARY_LOAD_OPT_MAGIC;
  option.value.magic = ACL_RT_BINARY_MAGIC_ELF_VECTOR_CORE;
  const aclrtBinaryLoadOptions options = {&option, 1};
  aclrtBinHandle binary = nullptr;
  driver.aclrtBinaryLoadFromData(bytes.data(), bytes.size(), &options, &binary);
  return Binary(binary);
}

std::string Contents(const std::string& path) {
  const std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file || !bytes) {
    throw Error(JDA_ASCEND_FAILED_PRECONDITION, "there is no such file, or it is empty");
  }
  return bytes.str();
}

// Where it can be helped, the runtime does not read the file: then it takes no magic.
Binary LoadFromFile(const Driver& driver, const std::string& path) {
  try {
    if (driver.aclrtBinaryLoadFromData.found()) return LoadFromMemory(driver, Contents(path));
    aclrtBinHandle binary = nullptr;
    driver.aclrtBinaryLoadFromFile(path.c_str(), nullptr, &binary);
    return Binary(binary);
  } catch (const Error& error) {
    throw Error(error.code,
                "the kernels of JDA_ASCEND_KERNELS=" + path + " do not load: " + error.what());
  }
}

Kernels WithFunctions(const Driver& driver, Binary binary, const std::string& origin) {
  Kernels kernels;
  kernels.binary = std::move(binary);
  kernels.origin = origin;
  driver.aclrtBinaryGetFunction(kernels.binary.get(), "deformable_aggregation", &kernels.forward);
  driver.aclrtBinaryGetFunction(kernels.binary.get(), "deformable_aggregation_grad",
                                &kernels.backward);
  return kernels;
}

// Compiles, and tells of it: it takes seconds, or minutes.
std::string Compile(const Driver& driver, const std::string& soc, const std::string& folder) {
  const std::string what = (driver.emulated ? "emulated " : "") + soc;
  Tell("compiling kernels for " + what +
       (folder.empty() ? "; they cannot be kept" : ", once; kept in " + folder));
  const auto start = std::chrono::steady_clock::now();
  std::string bytes = Program(driver).Compile();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f s", taken.count());
  Tell("compiled kernels for " + what + " in " + seconds);
  return bytes;
}

Kernels CompiledOrCached(const Driver& driver, const std::string& soc) {
  if (driver.compiler_path.empty()) {
    throw Error(JDA_ASCEND_FAILED_PRECONDITION,
                "no kernels: JDA_ASCEND_KERNELS names no file that was built ahead, and " +
                    driver.compiler_problem);
  }
  std::vector<std::string> parts = {kKernelSource, ToolkitVersion(driver),
                                    CompilerIdentity(driver)};
  parts.insert(parts.end(), std::begin(kOptions), std::end(kOptions));
  Kernels kernels;
  const auto use = [&](const std::string& bytes) {
    try {
      kernels = WithFunctions(driver, LoadFromMemory(driver, bytes), "cache");
      return true;
    } catch (const Error& error) {
      if (error.code == JDA_ASCEND_RESOURCE_EXHAUSTED) throw;  // new ones would not fit either
      return false;
    }
  };
  const auto make = [&](const std::string& folder) {
    // Only what the card takes is kept.
    std::string bytes = Compile(driver, soc, folder);
    kernels = WithFunctions(driver, LoadFromMemory(driver, bytes), "compiled");
    return bytes;
  };
  FindOrMake(ConfiguredCache(), CacheKey(parts), use, make);
  return kernels;
}

}  // namespace

Kernels LoadKernels(const std::string& soc) {
  const Driver& driver = TheDriver();
  const std::string ahead = Environment("JDA_ASCEND_KERNELS");
  if (ahead.empty()) return CompiledOrCached(driver, soc);
  return WithFunctions(driver, LoadFromFile(driver, ahead), ahead);
}

}  // namespace jda_ascend
