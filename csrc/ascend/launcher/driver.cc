#include "driver.h"

#include <dlfcn.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "environment.h"
#include "error.h"

namespace jda_ascend {
namespace {

// The driver is never closed: streams and kernels of the whole process hang on it.
struct Opened {
  std::mutex mutex;
  Driver* driver = nullptr;
  std::string folder;
  pid_t initialised_by = 0;
};

Opened& TheOpened() {
  static auto* opened = new Opened;
  return *opened;
}

// Where libraries may be; "" leaves it to the loader.
std::vector<std::string> FoldersToSearch(const std::string& folder) {
  if (!folder.empty()) return {folder};
  std::vector<std::string> folders;
  for (const char* name : {"ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"}) {
    const std::string root = Environment(name);
    if (!root.empty()) folders.push_back(root + "/lib64");
  }
  folders.emplace_back();
  std::vector<std::string> roots = {"/usr/local/Ascend"};
  if (const std::string home = Environment("HOME"); !home.empty()) {
    roots.push_back(home + "/Ascend");
  }
  for (const std::string& root : roots) {
    folders.push_back(root + "/cann/lib64");
    folders.push_back(root + "/ascend-toolkit/latest/lib64");
  }
  return folders;
}

std::string PathOf(void* symbol, const std::string& fallback) {
  Dl_info info;
  return dladdr(symbol, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : fallback;
}

// One attempt after the other to open a library, and why each of them failed: a line for each reason.
class Search {
 public:
  void* Open(const std::string& folder, const char* name) {
    path_ = folder.empty() ? name : folder + "/" + name;
    if (!tried_.insert(path_).second) return nullptr;
    void* library = dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) Reject(dlerror());
    return library;
  }

  void Reject(std::string reason) {
    const std::string start = path_ + ": ";  // of the loader's messages
    if (reason.compare(0, start.size(), start) == 0) reason.erase(0, start.size());
    for (Failure& failure : failures_) {
      if (failure.reason != reason) continue;
      failure.paths += ", " + path_;
      return;
    }
    failures_.push_back({path_, reason});
  }

  const std::string& path() const { return path_; }

  std::string failures() const {
    std::string text;
    for (const Failure& failure : failures_) text += "\n  " + failure.paths + ": " + failure.reason;
    return text;
  }

 private:
  struct Failure {
    std::string paths, reason;
  };
  std::string path_;
  std::set<std::string> tried_;
  std::vector<Failure> failures_;
};

template <typename Pointer>
void Find(void* library, const char* name, Pointer& pointer, std::string& missing) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) missing += std::string(missing.empty() ? "" : ", ") + name;
  pointer = reinterpret_cast<Pointer>(symbol);
}

// Points the driver to the functions of the runtime; returns the names of those that it lacks.
std::string FindRuntime(void* library, Driver& driver) {
  std::string missing;
#define JDA_REQUIRED(name)                  \
  driver.name.Point(dlsym(library, #name)); \
  if (!driver.name.found()) missing += (missing.empty() ? "" : ", ") + std::string(#name);
#define JDA_OPTIONAL(name) driver.name.Point(dlsym(library, #name));
#define JDA_NOTHING(name)
  JDA_ACL_FUNCTIONS(JDA_REQUIRED, JDA_OPTIONAL, JDA_NOTHING)
  Find(library, "aclrtGetSocName", driver.aclrtGetSocName, missing);
  Find(library, "aclGetRecentErrMsg", driver.aclGetRecentErrMsg, missing);
  if (!driver.aclrtLaunchKernelWithArgsArray.found() &&
      !driver.aclrtLaunchKernelWithHostArgs.found()) {
    missing += (missing.empty() ? "" : ", ") + std::string("aclrtLaunchKernelWithHostArgs");
  }
  return missing;
}

std::string FindCompiler(void* library, Driver& driver) {
  std::string missing;
  JDA_ACL_FUNCTIONS(JDA_NOTHING, JDA_NOTHING, JDA_REQUIRED)
#undef JDA_REQUIRED
#undef JDA_OPTIONAL
#undef JDA_NOTHING
  return missing;
}

void OpenRuntime(const std::vector<std::string>& folders, Driver& driver) {
  Search search;
  for (const std::string& folder : folders) {
    for (const char* name : {"libacl_rt.so", "libascendcl.so"}) {
      void* library = search.Open(folder, name);
      if (library == nullptr) continue;
      const std::string missing = FindRuntime(library, driver);
      if (missing.empty()) {
        void* symbol = dlsym(library, "aclInit");
        driver.runtime_path = PathOf(symbol, search.path());
        driver.emulated = dlsym(library, "jda_emulated_driver") != nullptr;
        return;
      }
      search.Reject("lacks " + missing);
      dlclose(library);
    }
  }
  throw Error(JDA_ASCEND_FAILED_PRECONDITION,
              "CANN's runtime was not found (source its set_env.sh); tried" + search.failures());
}

void OpenCompiler(std::vector<std::string> folders, Driver& driver) {
  Search search;
  if (const size_t slash = driver.runtime_path.rfind('/'); slash != std::string::npos) {
    folders.insert(folders.begin(), driver.runtime_path.substr(0, slash));
  }
  for (const std::string& folder : folders) {
    void* library = search.Open(folder, "libacl_rtc.so");
    if (library == nullptr) continue;
    const std::string missing = FindCompiler(library, driver);
    if (missing.empty()) {
      driver.compiler_path = PathOf(dlsym(library, "aclrtcCreateProg"), search.path());
      return;
    }
    search.Reject("lacks " + missing);
    dlclose(library);
  }
  driver.compiler_problem =
      "this CANN cannot compile kernels at run time; tried" + search.failures();
}

}  // namespace

void RaiseCallError(const char* call, aclError code) {
  const char* detail = TheDriver().aclGetRecentErrMsg();
  throw CallError(call, code, detail == nullptr ? "" : detail);
}

void RaiseMissing(const char* call) {
  throw Error(JDA_ASCEND_FAILED_PRECONDITION,
              TheDriver().runtime_path + " has no " + call + ": this CANN is too old");
}

void OpenDriver(const std::string& folder) {
  Opened& opened = TheOpened();
  const std::lock_guard<std::mutex> lock(opened.mutex);
  if (opened.driver != nullptr) {
    if (opened.folder == folder) return;
    throw Error(JDA_ASCEND_FAILED_PRECONDITION,
                "the driver of " + opened.driver->runtime_path +
                    " is open, and a process can use only one; asked for " +
                    (folder.empty() ? "CANN's own" : folder));
  }
  auto driver = std::make_unique<Driver>();
  const std::vector<std::string> folders = FoldersToSearch(folder);
  OpenRuntime(folders, *driver);
  OpenCompiler(folders, *driver);
  opened.folder = folder;
  opened.driver = driver.release();
}

const Driver& TheDriver() {
  Opened& opened = TheOpened();
  const std::lock_guard<std::mutex> lock(opened.mutex);
  if (opened.driver == nullptr) {
    throw Error(JDA_ASCEND_FAILED_PRECONDITION, "no driver for Ascend cards is open");
  }
  return *opened.driver;
}

const Driver& InitialisedDriver() {
  const Driver& driver = TheDriver();
  Opened& opened = TheOpened();
  const std::lock_guard<std::mutex> lock(opened.mutex);
  if (opened.initialised_by == 0) {
    const aclError code = driver.aclInit.Try(nullptr);
    if (code != ACL_SUCCESS && code != ACL_ERROR_REPEAT_INITIALIZE) {
      const char* detail = driver.aclGetRecentErrMsg();
      throw CallError("aclInit", code, detail == nullptr ? "" : detail);
    }
    opened.initialised_by = getpid();
  } else if (opened.initialised_by != getpid()) {
    throw Error(JDA_ASCEND_FAILED_PRECONDITION,
                "this process was forked after its parent had used an Ascend card; start it with "
                "'spawn' or 'forkserver' instead");
  }
  return driver;
}

std::string ToolkitVersion(const Driver& driver) {
  aclCANNPackageVersion version = {};
  if (!driver.aclsysGetCANNVersion.found()) return "";
  if (driver.aclsysGetCANNVersion.Try(ACL_PKG_NAME_CANN, &version) != ACL_SUCCESS) return "";
  version.version[sizeof(version.version) - 1] = '\0';
  return version.version;
}

}  // namespace jda_ascend
