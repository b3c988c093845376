// Kernel binaries that are loaded, and their functions.
#pragma once

#include <memory>
#include <string>

#include "driver.h"
#include "kernel.h"

namespace emulated {

// A shared object stays as long as anything needs it: a handle, a function, a launch under way.
struct Loaded {
  Device* device = nullptr;
  void* library = nullptr;
  int file = -1;  // open as long as the library: its name is the file's number
  Binary binary{};
  uint32_t magic = 0;             // that it was loaded with; 0: none
  bool knows_types = false;       // it says itself which cores its kernels are for
  bool knows_parameters = false;  // it describes their parameters
  ~Loaded();
};

struct Function {
  Device* device;
  std::string name;
  std::shared_ptr<Loaded> loaded;
  const Kernel* kernel;
};

}  // namespace emulated
