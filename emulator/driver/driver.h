// The state of the emulated driver, and the way of every call into it.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "books.h"
#include "emulator.h"
#include "stream.h"

namespace emulated {

struct Settings {
  std::map<std::string, int64_t> numbers;
  std::string soc;
  Settings();
  int64_t operator[](const char* name) const { return numbers.at(name); }
};

struct Device {
  explicit Device(int id) : id(id) {}
  const int id;
  emulator::Gm gm{true};
  std::map<void*, uint64_t> memory;  // allocations and what they take
  uint64_t used = 0;
  int references = 0;       // aclrtSetDevice less aclrtResetDevice
  uint64_t generation = 0;  // of its context: changes with a reset
  std::shared_ptr<Stream> standard;
  aclError fault = ACL_SUCCESS;  // of the context, until a reset
  std::string fault_text;
};

struct Loaded;  // binary.h
struct Function;
struct Program;  // program.cc

struct Driver {
  Driver() { reset(); }
  std::mutex mutex;
  std::condition_variable changed;  // an operation is complete, or there is a new one
  Books books;
  Settings settings;
  bool initialised = false;
  std::map<int, std::unique_ptr<Device>> devices;
  std::map<void*, std::shared_ptr<Stream>> streams;
  std::map<void*, std::shared_ptr<Event>> events;
  std::map<void*, std::shared_ptr<Loaded>> binaries;
  std::map<void*, std::shared_ptr<Function>> functions;
  std::map<void*, std::shared_ptr<Program>> programs;  // of the run-time compiler
  std::map<uintptr_t, uint64_t> pinned;                // host memory: start and bytes
  int64_t transfers = 0;                               // copies under way on threads of streams
  uint64_t device_bytes = 0, device_peak = 0;
  int last_stream = 0;
  Clock host;  // what the host has synchronised with
  History history;

  template <class Visit>
  void each_stream(Visit visit) const {
    for (const auto& [handle, stream] : streams) visit(*stream);
    for (const auto& [id, device] : devices) {
      if (device->standard) visit(*device->standard);
    }
  }
  template <class Visit>
  void each_pending(Visit visit) const {
    each_stream([&](Stream& stream) {
      for (Operation& operation : stream.pending) visit(operation);
    });
  }
  void reset();  // books and settings, to what the environment says
  // Handles are never used twice, and point nowhere.
  void* new_handle() { return reinterpret_cast<void*>(next_handle_ += 16); }
  // What a handle stands for. One that was given back, or never handed out, breaks the rule.
  template <class T>
  std::shared_ptr<T> known(const std::map<void*, std::shared_ptr<T>>& all, void* handle,
                           const char* rule, const char* text) {
    const auto found = all.find(handle);
    if (found == all.end()) books.refuse(rule, ACL_ERROR_RT_INVALID_HANDLE, text);
    return found->second;
  }
  Device& device();  // of this thread
  Device& device(int id);
  // The first operation under way on the memory, as far as the host knows; empty: none.
  std::string user_of(const Ranges& memory) const;

 private:
  uintptr_t next_handle_ = 0x1000;
};

Driver& the_driver();
// Where libacl_rt.so is; the compiler's library and the headers lie beside it.
std::filesystem::path driver_library();

inline std::string text_of(uint64_t number) { return std::to_string(number); }

// Takes out what is gone.
template <class T, class Gone>
void drop(std::map<void*, std::shared_ptr<T>>& all, Gone gone) {
  for (auto at = all.begin(); at != all.end();) at = gone(*at->second) ? all.erase(at) : ++at;
}

// The way of every call: counted, traced, and refused if it was told to fail.
aclError call(const char* function, const std::string& arguments,
              const std::function<void(Driver&, Lock&)>& body);

}  // namespace emulated
