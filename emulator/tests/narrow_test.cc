// 16-bit floats: every conversion from and to them against an exact model, in integers, and the
// limits of the calls that move them.
#include <cmath>
#include <cstdint>
#include <set>

#include "check.h"

namespace {

// A binary format with an implicit bit, subnormals, infinities and NaN.
struct Format {
  int exponent_bits, fraction_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  uint32_t infinity() const { return ((1u << exponent_bits) - 1) << fraction_bits; }
};
constexpr Format kHalf{5, 10}, kBfloat16{8, 7}, kFloat{8, 23};

// A magnitude is units * 2^exponent.
struct Magnitude {
  uint64_t units;
  int exponent;
};

Magnitude magnitude(uint32_t bits, const Format& f) {
  const uint32_t fraction = bits & ((1u << f.fraction_bits) - 1);
  const int field = static_cast<int>((bits & f.infinity()) >> f.fraction_bits);
  if (field == 0) return {fraction, 1 - f.bias() - f.fraction_bits};
  return {fraction | 1u << f.fraction_bits, field - f.bias() - f.fraction_bits};
}

uint32_t sign_of(uint32_t bits, const Format& f) {
  return bits >> (f.exponent_bits + f.fraction_bits) & 1;
}
uint32_t sign_bit(const Format& f) { return 1u << (f.exponent_bits + f.fraction_bits); }
bool is_nan(uint32_t bits, const Format& f) { return (bits & (sign_bit(f) - 1)) > f.infinity(); }

// Whether `units`, of which the last `dropped` bits go, is rounded up in magnitude.
bool rounds_up(uint64_t kept, uint64_t rest, uint64_t half_way, bool negative, RoundMode mode) {
  switch (mode) {
    case RoundMode::CAST_FLOOR:
      return negative && rest != 0;
    case RoundMode::CAST_CEIL:
      return !negative && rest != 0;
    case RoundMode::CAST_TRUNC:
      return false;
    case RoundMode::CAST_ROUND:
      return rest >= half_way;
    case RoundMode::CAST_ODD:
      return rest != 0 && kept % 2 == 0;
    default:
      return rest > half_way || (rest == half_way && kept % 2 == 1);
  }
}

// The bits of a finite or infinite float in a narrower format. Bits of a magnitude are in the order
// of the numbers, so that one unit more is the next number, and behind the largest comes infinity.
uint32_t expected_narrow(uint32_t bits, const Format& f, RoundMode mode) {
  const uint32_t sign = sign_of(bits, kFloat) ? sign_bit(f) : 0;
  if ((bits & 0x7FFFFFFF) == kFloat.infinity()) return sign | f.infinity();
  const Magnitude m = magnitude(bits, kFloat);
  int top = -1;  // the place of the leading bit
  for (uint64_t u = m.units; u != 0; u /= 2) ++top;
  const int lowest = 1 - f.bias();  // exponent of the smallest normal number
  const int leading = top < 0 ? lowest : std::max(top + m.exponent, lowest);
  const int dropped = std::max(0, leading - f.fraction_bits - m.exponent);
  const int capped = std::min(dropped, 40);  // more than a float has
  const uint64_t kept = m.units >> capped, rest = m.units & ((uint64_t{1} << capped) - 1);
  // Only a subnormal float in a format of its range has fewer bits than asked for.
  const uint64_t scaled = kept << std::max(0, m.exponent - (leading - f.fraction_bits));
  const bool normal = scaled >> f.fraction_bits != 0;
  const uint64_t field = normal ? static_cast<uint64_t>(leading + f.bias()) : 0;
  if (normal && field >= (1u << f.exponent_bits) - 1) {
    // Beyond the largest number: dropped bits are below it, or there is no upper neighbour but
    // infinity.
    const bool up = rounds_up(1, 3, 2, sign != 0, mode);
    return sign | (f.infinity() - (up && mode != RoundMode::CAST_ODD ? 0 : 1));
  }
  uint64_t number =
      normal ? (field << f.fraction_bits) + (scaled - (1ull << f.fraction_bits)) : scaled;
  if (rounds_up(kept, rest, capped ? 1ull << (capped - 1) : ~0ull, sign != 0, mode)) ++number;
  return sign | static_cast<uint32_t>(number);
}

uint32_t expected_float(uint16_t bits, const Format& f) {
  const uint32_t sign = sign_of(bits, f) ? 0x80000000 : 0;
  if ((bits & f.infinity()) == f.infinity()) return sign | kFloat.infinity();
  const Magnitude m = magnitude(bits, f);
  const double value = std::ldexp(static_cast<double>(m.units), m.exponent);
  return sign | emulator::bits_of(static_cast<float>(value));
}

void quietly(const std::function<void(Kit&)>& body) {
  World world;
  const emulator::Report report = emulator::launch(world.gm, {}, 1, [&] {
    Kit kit(world);
    body(kit);
  });
  if (!report.clean()) std::printf("%s", report.text().c_str());
  CHECK(report.clean());
}

// What Cast makes of `from`, a vector of UB at a time.
template <class To, class From>
std::vector<To> cast(const std::vector<From>& from, RoundMode mode) {
  std::vector<To> got(from.size());
  quietly([&](Kit& k) {
    const auto x = k.x.ReinterpretCast<From>();
    const auto y = k.y.ReinterpretCast<To>();
    for (size_t first = 0; first < from.size(); first += kElements) {
      const size_t count = std::min<size_t>(kElements, from.size() - first);
      for (size_t i = 0; i < count; ++i) x.SetValue(i, from[first + i]);
      Cast(y, x, mode, count);
      for (size_t i = 0; i < count; ++i) got[first + i] = y.GetValue(i);
    }
  });
  return got;
}

template <class T>
std::vector<T> every_pattern() {
  std::vector<T> all(1 << 16);
  for (uint32_t bits = 0; bits < all.size(); ++bits) all[bits].bits = static_cast<uint16_t>(bits);
  return all;
}

template <class T>
void check_widening(const Format& f) {
  const auto all = every_pattern<T>();
  const auto wide = cast<float>(all, RoundMode::CAST_NONE);
  int wrong = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const uint32_t got = emulator::bits_of(wide[i]);
    wrong += is_nan(all[i].bits, f) ? !std::isnan(wide[i]) : got != expected_float(all[i].bits, f);
  }
  CHECK(wrong == 0);
}

// Around every number of the format and every middle between two: what is exact, what is a tie, and
// the floats next to them. And what no 16-bit number is near.
std::vector<float> telling_floats(const Format& f) {
  std::set<uint32_t> bits;
  const auto add = [&](double value) {
    const uint32_t near = emulator::bits_of(static_cast<float>(value));
    for (const uint32_t each : {near - 1, near, near + 1}) {
      if ((each & 0x7FFFFFFF) <= kFloat.infinity()) bits.insert({each, each ^ 0x80000000});
    }
  };
  const uint32_t step = f.exponent_bits == 5 ? 7 : 11;  // every pattern would be slow
  for (uint32_t b = 0; b < f.infinity(); ++b) {
    const uint32_t fraction = b & ((1u << f.fraction_bits) - 1);
    const bool at_an_end = fraction < 2 || fraction + 2 >= 1u << f.fraction_bits;
    if (b % step != 0 && !at_an_end) continue;
    const Magnitude here = magnitude(b, f);
    add(std::ldexp(static_cast<double>(here.units), here.exponent));
    add(std::ldexp(2.0 * static_cast<double>(here.units) + 1, here.exponent - 1));
  }
  for (const uint32_t b : {0u, 1u, 2u, 0x7FFFFFu, 0x800000u, 0x7F7FFFFFu, 0x7F800000u}) {
    bits.insert({b, b | 0x80000000});
  }
  std::vector<float> values;
  for (const uint32_t b : bits) values.push_back(emulator::float_of(b));
  return values;
}

template <class T>
void check_narrowing(const Format& f, const std::vector<RoundMode>& modes) {
  const std::vector<float> values = telling_floats(f);
  CHECK(values.size() > 10000);
  for (const RoundMode mode : modes) {
    const auto got = cast<T>(values, mode);
    int wrong = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const uint32_t want = expected_narrow(emulator::bits_of(values[i]), f, mode);
      if (got[i].bits == want) continue;
      if (wrong++ < 5) {
        std::printf("mode %d of %a: %04x, not %04x\n", static_cast<int>(mode),
                    static_cast<double>(values[i]), got[i].bits, want);
      }
    }
    CHECK(wrong == 0);
    CHECK(is_nan(cast<T>(std::vector<float>{NAN}, mode)[0].bits, f));
  }
}

const std::vector<RoundMode> kFiveModes = {RoundMode::CAST_RINT, RoundMode::CAST_FLOOR,
                                           RoundMode::CAST_CEIL, RoundMode::CAST_ROUND,
                                           RoundMode::CAST_TRUNC};

TEST(every_half_is_a_float) { check_widening<half>(kHalf); }
TEST(every_bfloat16_is_a_float) { check_widening<bfloat16_t>(kBfloat16); }

TEST(floats_become_halves_in_every_mode) {
  auto modes = kFiveModes;
  modes.insert(modes.end(), {RoundMode::CAST_NONE, RoundMode::CAST_ODD});
  check_narrowing<half>(kHalf, modes);
}
TEST(floats_become_bfloat16_in_every_mode) { check_narrowing<bfloat16_t>(kBfloat16, kFiveModes); }

// The whole number that the mode wants, of a magnitude.
int64_t expected_whole(uint16_t bits, const Format& f, RoundMode mode) {
  const Magnitude m = magnitude(bits, f);
  const bool negative = sign_of(bits, f) != 0;
  const int dropped = std::min(40, std::max(0, -m.exponent));
  const uint64_t kept = m.exponent > 0 ? m.units << m.exponent : m.units >> dropped;
  const uint64_t rest = m.units & ((uint64_t{1} << dropped) - 1);
  const bool up = rounds_up(kept, rest, dropped ? 1ull << (dropped - 1) : ~0ull, negative, mode);
  const int64_t whole = static_cast<int64_t>(kept + up);
  return negative ? -whole : whole;
}

template <class Integer, class T>
void check_whole_numbers(const Format& f) {
  std::vector<T> finite;
  const double end = std::ldexp(1.0, 8 * sizeof(Integer) - 1) - 1;
  for (const T& each : every_pattern<T>()) {
    const float value = each;
    if (std::fabs(value) <= end) finite.push_back(each);
  }
  CHECK(finite.size() > 30000);
  for (const RoundMode mode : kFiveModes) {
    const auto got = cast<Integer>(finite, mode);
    int wrong = 0;
    for (size_t i = 0; i < finite.size(); ++i) {
      wrong += got[i] != expected_whole(finite[i].bits, f, mode);
    }
    CHECK(wrong == 0);
  }
}

TEST(halves_become_int32) { check_whole_numbers<int32_t, half>(kHalf); }
TEST(halves_become_int16) { check_whole_numbers<int16_t, half>(kHalf); }
TEST(bfloat16_become_int32) { check_whole_numbers<int32_t, bfloat16_t>(kBfloat16); }

TEST(int16_become_halves) {
  std::vector<int16_t> all(1 << 16);
  for (int i = 0; i < 1 << 16; ++i) all[i] = static_cast<int16_t>(i - 32768);
  auto modes = kFiveModes;
  modes.push_back(RoundMode::CAST_NONE);
  for (const RoundMode mode : modes) {
    const auto got = cast<half>(all, mode);
    int wrong = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      wrong += got[i].bits != expected_narrow(emulator::bits_of(all[i]), kHalf, mode);
    }
    CHECK(wrong == 0);
  }
}

// ---- limits, each with a kernel that passes it and one that keeps it

int marked;
#define MARK marked = __LINE__;

bool finds(const char* rule, const std::function<void(Kit&)>& body) {
  World world;
  marked = 0;
  const emulator::Report report = emulator::launch(world.gm, {}, 1, [&] {
    Kit kit(world);
    Duplicate(kit.x, 1.0f, kElements);
    Duplicate(kit.y, 1.0f, kElements);
    PipeBarrier<PIPE_V>();
    body(kit);
  });
  bool found = false;
  for (const emulator::Finding& f : report.findings) {
    found = found || (f.rule == rule && f.site.line == marked);
  }
  if (!found) std::printf("expected %s, got:\n%s", rule, report.text().c_str());
  return found;
}

template <class T>
void check_cast_modes(RoundMode missing, RoundMode there, bool narrows) {
  const auto body = [=](Kit& k, RoundMode mode) {
    const auto y = k.y.ReinterpretCast<T>();
    if (narrows) {
      MARK Cast(y, k.x, mode, 64);
    } else {
      MARK Cast(k.x, y, mode, 64);
    }
  };
  CHECK(finds("cast-mode", [&](Kit& k) { body(k, missing); }));
  quietly([&](Kit& k) {
    Duplicate(k.x, 1.0f, kElements);
    Duplicate(k.y, 1.0f, kElements);
    PipeBarrier<PIPE_V>();
    body(k, there);
  });
}

TEST(conversions_that_are_not_there) {
  check_cast_modes<bfloat16_t>(RoundMode::CAST_NONE, RoundMode::CAST_RINT, true);
  check_cast_modes<bfloat16_t>(RoundMode::CAST_ODD, RoundMode::CAST_FLOOR, true);
  check_cast_modes<half>(RoundMode::CAST_RINT, RoundMode::CAST_NONE, false);
  check_cast_modes<bfloat16_t>(RoundMode::CAST_RINT, RoundMode::CAST_NONE, false);
  const auto across = [](auto to, auto from, RoundMode mode) {
    return [=](Kit& k) {
      const auto x = k.x.ReinterpretCast<decltype(to)>();
      MARK Cast(x, k.y.ReinterpretCast<decltype(from)>(), mode, 64);
    };
  };
  for (const RoundMode mode : {RoundMode::CAST_NONE, RoundMode::CAST_RINT}) {
    CHECK(finds("cast-mode", across(half(), bfloat16_t(), mode)));  // only through a float
    CHECK(finds("cast-mode", across(bfloat16_t(), half(), mode)));
    CHECK(finds("cast-mode", across(half(), int32_t(), mode)));  // wants a scale of its own
  }
}

template <class T>
void check_limits() {
  const auto narrow = [](Kit& k) { return k.x.ReinterpretCast<T>(); };
  GlobalTensor<T> gm;
  const auto from_gm = [&](Kit& k) {
    gm.SetGlobalBuffer(reinterpret_cast<T*>(k.in.GetPhyAddr()));
    return gm;
  };
  const auto keeps = [&](const std::function<void(Kit&)>& body) {
    quietly([&](Kit& k) {
      Duplicate(k.x, 1.0f, kElements);
      Duplicate(k.y, 1.0f, kElements);
      PipeBarrier<PIPE_ALL>();
      body(k);
    });
  };
  // A mask counts lanes of the wider type.
  const auto masked = [&](Kit& k, int lanes) {
    MARK Cast(k.y, narrow(k), RoundMode::CAST_NONE, lanes, 2, {1, 1, 8, 4});
  };
  CHECK(finds("mask-range", [&](Kit& k) { masked(k, 65); }));
  keeps([&](Kit& k) { masked(k, 64); });
  const auto repeated = [&](Kit& k, int repeats) {
    MARK Cast(k.y, narrow(k), RoundMode::CAST_NONE, 64, repeats, {1, 1, 0, 0});
  };
  CHECK(finds("repeat-range", [&](Kit& k) { repeated(k, 256); }));
  keeps([&](Kit& k) { repeated(k, 255); });
  // Blocks are 16 elements.
  const auto shifted = [&](Kit& k, int first) {
    MARK Cast(k.y, narrow(k)[first], RoundMode::CAST_NONE, 64);
  };
  CHECK(finds("ub-alignment", [&](Kit& k) { shifted(k, 8); }));
  keeps([&](Kit& k) { shifted(k, 16); });
  const auto copied = [&](Kit& k, int count) { MARK DataCopy(narrow(k), from_gm(k), count); };
  CHECK(finds("copy-rounds-down", [&](Kit& k) { copied(k, 24); }));
  keeps([&](Kit& k) { copied(k, 32); });
  const auto padded = [&](Kit& k, int bytes, int padding) {
    MARK DataCopyPad(narrow(k), from_gm(k), DataCopyExtParams(1, bytes, 0, 0, 0),
                     DataCopyPadExtParams<T>(true, 0, padding, T(0.0f)));
  };
  CHECK(finds("block-length", [&](Kit& k) { padded(k, 31, 0); }));
  CHECK(finds("padding-range", [&](Kit& k) { padded(k, 32, 17); }));
  keeps([&](Kit& k) { padded(k, 30, 1); });
  keeps([&](Kit& k) { padded(k, 32, 16); });
  // Offsets of a gather are in bytes, its repeats have 128 elements.
  const auto gathered = [&](Kit& k, int offset) {
    const auto offsets = k.y.ReinterpretCast<uint32_t>();
    Duplicate(offsets, static_cast<uint32_t>(offset), 128);
    PipeBarrier<PIPE_V>();
    MARK Gather(k.z.ReinterpretCast<T>(), narrow(k), offsets, 0, 128);
  };
  CHECK(finds("gather-bounds", [&](Kit& k) { gathered(k, 3); }));
  CHECK(finds("gather-bounds", [&](Kit& k) { gathered(k, 4 * kElements); }));
  keeps([&](Kit& k) { gathered(k, 4 * kElements - 2); });
  const auto many = [&](Kit& k, int count) {
    Duplicate(k.y.ReinterpretCast<uint32_t>(), 0u, kElements);
    PipeBarrier<PIPE_V>();
    MARK Gather(k.z.ReinterpretCast<T>(), narrow(k), k.y.ReinterpretCast<uint32_t>(), 0, count);
  };
  CHECK(finds("repeat-range", [&](Kit& k) { many(k, 256 * 128); }));
  keeps([&](Kit& k) { many(k, 1024); });
}

TEST(limits_of_half) { check_limits<half>(); }
TEST(limits_of_bfloat16) { check_limits<bfloat16_t>(); }

}  // namespace

int main() { return run_tests(); }
