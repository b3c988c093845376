#include "numbers.h"

#include <cmath>

namespace emulator {

float widen(uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int most = (1 << exponent_bits) - 1, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> mantissa_bits & most;
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16,
                 mantissa = bits & ((1 << mantissa_bits) - 1);
  if (exponent == most) return float_of(sign | 0x7F800000 | mantissa << (23 - mantissa_bits));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits);
    return sign ? -magnitude : magnitude;
  }
  return float_of(sign | static_cast<uint32_t>(exponent - bias + 127) << 23 |
                  mantissa << (23 - mantissa_bits));
}

uint16_t narrow(float value, int exponent_bits, int mantissa_bits) {
  const int most = (1 << exponent_bits) - 1, bias = (1 << (exponent_bits - 1)) - 1;
  const uint16_t sign = bits_of(value) >> 16 & 0x8000;
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | most << mantissa_bits | 1 << (mantissa_bits - 1);
  if (std::isinf(value)) return sign | most << mantissa_bits;
  if (magnitude == 0) return sign;
  int exponent;
  std::frexp(magnitude, &exponent);
  // Subnormals share an exponent.
  int lowest = exponent - 1 < 1 - bias ? 1 - bias : exponent - 1;
  const double scaled =
      std::nearbyint(std::ldexp(static_cast<double>(magnitude), mantissa_bits - lowest));
  uint32_t units = static_cast<uint32_t>(scaled);
  if (units >> (mantissa_bits + 1)) units >>= 1, ++lowest;
  if (lowest > bias) return sign | most << mantissa_bits;
  if (!(units >> mantissa_bits)) return sign | units;
  return sign | (lowest + bias) << mantissa_bits | (units & ((1 << mantissa_bits) - 1));
}

}  // namespace emulator
