// What the vector unit computes with. No header that kernels see includes <cmath>: a kernel may have
// the name of one of its functions.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace emulator {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The bits of a float with `exponent_bits` and `mantissa_bits`, to nearest, ties to even; and back.
uint16_t narrow(float value, int exponent_bits, int mantissa_bits);
float widen(uint16_t bits, int exponent_bits, int mantissa_bits);

template <int kExponent, int kMantissa>
struct Float16 {
  uint16_t bits;

  Float16() = default;
  Float16(float value) : bits(narrow(value, kExponent, kMantissa)) {}
  Float16(double value) : Float16(static_cast<float>(value)) {}
  Float16(int value) : Float16(static_cast<float>(value)) {}
  operator float() const { return widen(bits, kExponent, kMantissa); }
};

}  // namespace emulator

using half = emulator::Float16<5, 10>;
using bfloat16_t = emulator::Float16<8, 7>;

namespace emulator {

template <class T, class... Allowed>
constexpr bool one_of = (std::is_same_v<T, Allowed> || ...);

// Arithmetic of a lane: 16-bit floats compute in float and round once.
template <class T>
using Wide = std::conditional_t<one_of<T, half, bfloat16_t>, float, T>;

// Integers wrap around on overflow.
template <class T>
auto wrap(T value) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<std::make_unsigned_t<T>>(value);
  } else {
    return value;
  }
}
template <class T>
auto product(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<uint32_t>(wrap(a)) * static_cast<uint32_t>(wrap(b));
  } else {
    return a * b;
  }
}

template <class T>
T* at(uint8_t* ub, uint32_t address) {
  return reinterpret_cast<T*>(ub + address);
}

}  // namespace emulator
