// What tests of kernels share.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "emulator.h"
#include "kernel_operator.h"
#include "test.h"

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
