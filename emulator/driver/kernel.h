// How a compiled kernel tells the driver its parameters. The run-time compiler appends these
// definitions to a kernel's source, and the driver looks them up by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace emulated {

struct Parameter {
  uint32_t bytes, alignment;
  bool pointer;  // into GM
};

struct Kernel {
  uint32_t count;
  const Parameter* parameters;
  void (*call)(void* const* arguments);  // arguments[i] points to the value of the i-th parameter
};

// What a binary was compiled for; it fits the driver that has the same `build`.
struct Binary {
  const char* build;
  bool automatic_sync, reserve_scratch;
};

// A binary ends with this number of all that is before it: what is damaged is not loaded.
inline uint64_t checksum(const void* data, size_t bytes) {
  uint64_t sum = 0xcbf29ce484222325u;  // FNV-1a
  for (size_t i = 0; i < bytes; ++i) {
    sum = (sum ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3u;
  }
  return sum;
}

// Of this binary alone: another one may have a kernel of the same name.
namespace {

template <auto kernel>
struct Described;

template <class... P, void (*kernel)(P...)>
struct Described<kernel> {
  // One more than there are: a kernel may have none.
  static constexpr Parameter parameters[] = {{sizeof(P), alignof(P), std::is_pointer_v<P>}...,
                                             {0, 0, false}};

  static void call(void* const* arguments) { call(arguments, std::index_sequence_for<P...>()); }
  template <size_t... i>
  static void call(void* const* arguments, std::index_sequence<i...>) {
    (void)arguments;
    kernel(*static_cast<const P*>(arguments[i])...);
  }
  static constexpr Kernel describe() { return {sizeof...(P), parameters, &call}; }
};

}  // namespace

}  // namespace emulated

#define JDA_EMULATED_KERNEL(name)                                \
  extern "C" const emulated::Kernel jda_emulated_kernel_##name;  \
  extern "C" const emulated::Kernel jda_emulated_kernel_##name = \
      emulated::Described<&name>::describe();

#define JDA_EMULATED_BINARY(build, automatic_sync, reserve_scratch) \
  extern "C" const emulated::Binary jda_emulated_binary;            \
  extern "C" const emulated::Binary jda_emulated_binary = {build, automatic_sync, reserve_scratch};
