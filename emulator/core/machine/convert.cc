#include "convert.h"

#include <cmath>

namespace emulator {

double round_to_integer(double value, Rounding mode) {
  return mode == Rounding::down      ? std::floor(value)
         : mode == Rounding::up      ? std::ceil(value)
         : mode == Rounding::away    ? std::round(value)
         : mode == Rounding::to_zero ? std::trunc(value)
                                     : std::nearbyint(value);
}

float worst_floor(float value) {
  constexpr double kNear = 1.0 / 4096;
  return static_cast<float>(std::floor(value + kNear));
}

namespace {

// Of the two neighbours of a value that is not exact, the one that the mode wants. `nearest` is
// one of them; down and up move by one unit.
template <class T, class Value, class Down, class Up, class Odd>
T choose(double exact, T nearest, Rounding mode, Value value, Down down, Up up, Odd odd) {
  const double got = value(nearest);
  if (got == exact || exact != exact) return nearest;
  const T below = got < exact ? nearest : down(nearest),
          above = got < exact ? up(nearest) : nearest;
  switch (mode) {
    case Rounding::down:
      return below;
    case Rounding::up:
      return above;
    case Rounding::to_zero:
      return exact > 0 ? below : above;
    case Rounding::odd:
      return odd(below) ? below : above;
    case Rounding::away: {
      const double middle = (value(below) + value(above)) / 2;
      return exact != middle ? nearest : exact > 0 ? above : below;
    }
    default:
      return nearest;
  }
}

template <class F>
F of_bits(uint16_t bits) {
  F number;
  number.bits = bits;
  return number;
}

template <class F>
uint16_t round_to_16(float exact, Rounding mode) {
  // Bits of a sign-magnitude number, one unit towards +infinity or -infinity.
  const auto towards = [](uint16_t bits, bool up) -> uint16_t {
    const bool negative = bits & 0x8000;
    if ((bits & 0x7FFF) == 0) return up ? 0x0001 : 0x8001;
    return negative == up ? bits - 1 : bits + 1;
  };
  return choose(
      exact, F(exact).bits, mode,
      [](uint16_t b) { return static_cast<double>(static_cast<float>(of_bits<F>(b))); },
      [&](uint16_t b) { return towards(b, false); }, [&](uint16_t b) { return towards(b, true); },
      [](uint16_t b) { return b & 1; });
}

}  // namespace

float round_to_float(double value, Rounding mode) {
  return choose(
      value, static_cast<float>(value), mode, [](float f) { return static_cast<double>(f); },
      [](float f) { return std::nextafter(f, -INFINITY); },
      [](float f) { return std::nextafter(f, INFINITY); }, [](float f) { return bits_of(f) & 1; });
}

uint16_t round_to_half(float value, Rounding mode) { return round_to_16<half>(value, mode); }
uint16_t round_to_bfloat16(float value, Rounding mode) {
  return round_to_16<bfloat16_t>(value, mode);
}

}  // namespace emulator
