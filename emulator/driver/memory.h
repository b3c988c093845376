// Which memory an address belongs to.
#pragma once

#include <cstdint>
#include <string>

#include "driver.h"

namespace emulated {

struct Place {
  enum Kind { kDevice, kPinned, kPageable } kind;
  Device* device;
  std::string problem;  // why the bytes may not be touched; empty: they may
};

Place place_of(Driver& driver, const void* address, uint64_t bytes);

}  // namespace emulated
