// A test is a function that registers itself; the last line of the output counts them.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "emulator.h"
#include "kernel_operator.h"

struct Test {
  const char* name;
  void (*run)();
};
inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline int& failures() {
  static int count = 0;
  return count;
}

#define TEST(name)                                                                \
  static void name();                                                             \
  static const bool name##_registered = (tests().push_back({#name, name}), true); \
  static void name()

#define CHECK(condition)                                          \
  do {                                                            \
    if (!(condition)) {                                           \
      std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      ++failures();                                               \
    }                                                             \
  } while (false)

inline int run_tests() {
  int passed = 0, failed = 0;
  for (const Test& test : tests()) {
    failures() = 0;
    test.run();
    if (failures()) std::printf("FAILED %s\n", test.name);
    failures() ? ++failed : ++passed;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}

using namespace AscendC;

// What most kernels of the tests work with: three vectors of UB, an input and an output in GM.
constexpr int kElements = 1024;

struct World {
  emulator::Gm gm;
  float* in;
  float* out;
  World() {
    std::vector<float> values(4 * kElements);
    for (size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(k % 251);
    in = gm.upload(values, "in");
    out = gm.upload(std::vector<float>(4 * kElements, 0.0f), "out");
  }
};

struct Kit {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  GlobalTensor<float> in, out;
  LocalTensor<float> x, y, z;
  explicit Kit(const World& world) {
    pipe.InitBuffer(buffer, 3 * kElements * sizeof(float));
    in.SetGlobalBuffer(world.in);
    out.SetGlobalBuffer(world.out);
    x = buffer.Get<float>(kElements);
    y = buffer.GetWithOffset<float>(kElements, kElements * sizeof(float));
    z = buffer.GetWithOffset<float>(kElements, 2 * kElements * sizeof(float));
  }
  template <HardEvent event>
  void sync() {
    SetFlag<event>(0);
    WaitFlag<event>(0);
  }
};
