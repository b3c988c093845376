// The machine that is emulated: one vector core of Atlas A2 (dav-2201) and its sizes.
#pragma once

#include <cstdint>

namespace emulator {

enum class Pipe : uint8_t { S, V, MTE2, MTE3 };
constexpr int kPipes = 4;
constexpr const char* kPipeName[kPipes] = {"S", "V", "MTE2", "MTE3"};
constexpr int index(Pipe pipe) { return static_cast<int>(pipe); }

constexpr uint32_t kBlock = 32;    // bytes, the unit of UB addresses
constexpr uint32_t kRepeat = 256;  // bytes, what one repeat covers
constexpr uint32_t kUbBytes = 192 * 1024;
constexpr uint32_t kMaxRepeats = 255;
constexpr int kEventIds = 8;
constexpr uint32_t kGmLine = 512;  // L2

// What memory holds that nothing has written: signalling NaNs.
inline void poison(uint8_t* at, uint64_t bytes) {
  for (uint64_t i = 0; i < bytes; ++i) at[i] = static_cast<uint8_t>(0x7FA0DEAD >> (8 * (i % 4)));
}

constexpr uint32_t round_up(uint32_t value, uint32_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace emulator
