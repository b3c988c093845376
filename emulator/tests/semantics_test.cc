// What each call computes, against straightforward host code.
#include <algorithm>
#include <cmath>
#include <random>

#include "check.h"

namespace {

std::mt19937 random_numbers(7);
float some() { return std::uniform_int_distribution<int>(-400, 400)(random_numbers) / 8.0f; }

// Runs on one core, with the compiler's synchronisation, in program order and in two others;
// nothing may be found.
void on_core(const std::function<void(Kit&)>& body) {
  for (uint64_t seed : {0, 5, 6}) {
    World world;
    emulator::Options options;
    options.seed = seed;
    random_numbers.seed(7);
    const emulator::Report report = emulator::launch(world.gm, options, 1, [&] {
      Kit kit(world);
      body(kit);
    });
    if (!report.clean()) std::printf("%s", report.text().c_str());
    CHECK(report.clean());
  }
}

template <class T>
std::vector<T> fill(const LocalTensor<T>& tensor, int count) {
  std::vector<T> values(count);
  for (int k = 0; k < count; ++k) {
    values[k] = static_cast<T>(some());
    tensor.SetValue(k, values[k]);
  }
  return values;
}

template <class T>
bool equals(const LocalTensor<T>& tensor, const std::vector<T>& want) {
  for (size_t k = 0; k < want.size(); ++k) {
    const T got = tensor.GetValue(k);
    if (got != want[k] && (got == got || want[k] == want[k])) {
      std::printf("element %zu: %g, not %g\n", k, static_cast<double>(got),
                  static_cast<double>(want[k]));
      return false;
    }
  }
  return true;
}

template <class T>
std::vector<T> values(const LocalTensor<T>& tensor, int count) {
  std::vector<T> got(count);
  for (int k = 0; k < count; ++k) got[k] = tensor.GetValue(k);
  return got;
}

template <class T>
void check_binary() {
  on_core([](Kit& k) {
    const auto x = k.x.ReinterpretCast<T>(), y = k.y.ReinterpretCast<T>(),
               z = k.z.ReinterpretCast<T>();
    const auto a = fill(x, 300), b = fill(y, 300);
    const auto check = [&](auto call, auto want) {
      std::vector<T> expected(300);
      for (int i = 0; i < 300; ++i) expected[i] = static_cast<T>(want(a[i], b[i]));
      call();
      CHECK(equals(z, expected));
    };
    check([&] { Add(z, x, y, 300); }, [](auto p, auto q) { return p + q; });
    check([&] { Sub(z, x, y, 300); }, [](auto p, auto q) { return p - q; });
    check([&] { Mul(z, x, y, 300); }, [](auto p, auto q) { return p * q; });
    check([&] { Max(z, x, y, 300); }, [](auto p, auto q) { return p > q ? p : q; });
    check([&] { Min(z, x, y, 300); }, [](auto p, auto q) { return p < q ? p : q; });
    const T s = static_cast<T>(3);
    check([&] { Adds(z, x, s, 300); }, [&](auto p, auto) { return p + s; });
    check([&] { Muls(z, x, s, 300); }, [&](auto p, auto) { return p * s; });
    check([&] { Maxs(z, x, s, 300); }, [&](auto p, auto) { return p > s ? p : s; });
    check([&] { Mins(z, x, s, 300); }, [&](auto p, auto) { return p < s ? p : s; });
  });
}

TEST(arithmetic_of_float) { check_binary<float>(); }
TEST(arithmetic_of_int32) { check_binary<int32_t>(); }
TEST(arithmetic_of_int16) { check_binary<int16_t>(); }
TEST(arithmetic_of_half) { check_binary<half>(); }

TEST(floating_functions) {
  on_core([](Kit& k) {
    auto a = fill(k.x, 100);
    for (int i = 0; i < 100; ++i) k.x.SetValue(i, a[i] = std::fabs(a[i]) + 0.5f);
    const auto b = fill(k.y, 100);
    const auto check = [&](auto call, auto want) {
      std::vector<float> expected(100);
      for (int i = 0; i < 100; ++i) expected[i] = want(a[i], b[i]);
      call();
      CHECK(equals(k.z, expected));
    };
    check([&] { Div(k.z, k.y, k.x, 100); }, [](float p, float q) { return q / p; });
    check([&] { Abs(k.z, k.y, 100); }, [](float, float q) { return std::fabs(q); });
    check([&] { Exp(k.z, k.x, 100); }, [](float p, float) { return std::exp(p); });
    check([&] { Ln(k.z, k.x, 100); }, [](float p, float) { return std::log(p); });
    check([&] { Sqrt(k.z, k.x, 100); }, [](float p, float) { return std::sqrt(p); });
    check([&] { Rsqrt(k.z, k.x, 100); }, [](float p, float) { return 1 / std::sqrt(p); });
    check([&] { Reciprocal(k.z, k.x, 100); }, [](float p, float) { return 1 / p; });
    check([&] { Relu(k.z, k.y, 100); }, [](float, float q) { return std::max(q, 0.0f); });
    check([&] { LeakyRelu(k.z, k.y, 0.5f, 100); },
          [](float, float q) { return q >= 0 ? q : q * 0.5f; });
  });
}

TEST(fused_multiplication_and_addition) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, 200), b = fill(k.y, 200);
    auto d = fill(k.z, 200);
    MulAddDst(k.z, k.x, k.y, 200);
    for (int i = 0; i < 200; ++i) d[i] += a[i] * b[i];
    CHECK(equals(k.z, d));
    Axpy(k.z, k.x, 0.5f, 200);
    for (int i = 0; i < 200; ++i) d[i] += a[i] * 0.5f;
    CHECK(equals(k.z, d));
  });
  on_core([](Kit& k) {  // half into float
    const auto x = k.x.ReinterpretCast<half>(), y = k.y.ReinterpretCast<half>();
    const auto a = fill(x, 200), b = fill(y, 200);
    auto d = fill(k.z, 200);
    MulAddDst(k.z, x, y, 200);
    for (int i = 0; i < 200; ++i) d[i] += static_cast<float>(a[i]) * static_cast<float>(b[i]);
    CHECK(equals(k.z, d));
  });
}

TEST(bits_of_integers) {
  on_core([](Kit& k) {
    const auto x = k.x.ReinterpretCast<uint16_t>(), y = k.y.ReinterpretCast<uint16_t>(),
               z = k.z.ReinterpretCast<uint16_t>();
    std::vector<uint16_t> a(100), b(100), want(100);
    for (int i = 0; i < 100; ++i) {
      x.SetValue(i, a[i] = static_cast<uint16_t>(random_numbers()));
      y.SetValue(i, b[i] = static_cast<uint16_t>(random_numbers()));
    }
    And(z, x, y, 100);
    for (int i = 0; i < 100; ++i) want[i] = a[i] & b[i];
    CHECK(equals(z, want));
    Or(z, x, y, 100);
    for (int i = 0; i < 100; ++i) want[i] = a[i] | b[i];
    CHECK(equals(z, want));
    Not(z, x, 100);
    for (int i = 0; i < 100; ++i) want[i] = ~a[i];
    CHECK(equals(z, want));
    ShiftLeft(z, x, uint16_t{3}, 100);
    for (int i = 0; i < 100; ++i) want[i] = a[i] << 3;
    CHECK(equals(z, want));
    ShiftRight(z, x, uint16_t{3}, 100);
    for (int i = 0; i < 100; ++i) want[i] = a[i] >> 3;
    CHECK(equals(z, want));
  });
}

// ---- lanes: masks, repeats and strides

TEST(strides_and_masks) {
  on_core([](Kit& k) {
    Duplicate(k.z, -1.0f, kElements);
    const auto a = fill(k.x, kElements), b = fill(k.y, kElements);
    // Three repeats of 20 lanes; blocks of dst two apart, of src1 one and the same.
    Add(k.z, k.x, k.y, 20, 3, {2, 1, 0, 16, 8, 1});
    std::vector<float> want(kElements, -1.0f);
    for (int r = 0; r < 3; ++r) {
      for (int lane = 0; lane < 20; ++lane) {
        const int block = lane / 8, in = lane % 8;
        want[(r * 16 + block * 2) * 8 + in] = a[(r * 8 + block) * 8 + in] + b[r * 8 + in];
      }
    }
    CHECK(equals(k.z, want));
    // A pattern of lanes.
    uint64_t mask[2] = {0x8000000000000105ull, 0};
    Muls(k.z, k.x, 2.0f, mask, 2, {1, 1, 8, 8});
    for (int r = 0; r < 2; ++r) {
      for (int lane : {0, 2, 8, 63}) want[r * 64 + lane] = a[r * 64 + lane] * 2;
    }
    CHECK(equals(k.z, want));
  });
  on_core([](Kit& k) {  // 128 lanes of half, a pattern of two words
    const auto x = k.x.ReinterpretCast<half>(), z = k.z.ReinterpretCast<half>();
    const auto a = fill(x, 128);
    Duplicate(z, half(7.0f), 128);
    uint64_t mask[2] = {1, 2};
    Adds(z, x, half(1.0f), mask, 1, {1, 1, 8, 8});
    std::vector<half> want(128, half(7.0f));
    want[0] = a[0] + 1.0f;
    want[65] = a[65] + 1.0f;
    CHECK(equals(z, want));
  });
}

TEST(accumulation_over_repeats) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, 64 * 5);
    const auto b = fill(k.y, 64);
    Add(k.y, k.x, k.y, 64, 5, {1, 1, 1, 0, 8, 0});
    std::vector<float> want = b;
    for (int r = 0; r < 5; ++r) {
      for (int lane = 0; lane < 64; ++lane) want[lane] = a[r * 64 + lane] + want[lane];
    }
    CHECK(equals(k.y, want));
  });
}

TEST(counter_mode) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, 1024);
    Duplicate(k.z, 0.0f, 1024);
    SetMaskCount();
    SetVectorMask<float, MaskMode::COUNTER>(150);
    Muls<float, false>(k.z, k.x, 2.0f, MASK_PLACEHOLDER, 1,
                       {1, 1, 8, 16});  // 3 iterations, whatever repeatTime
    SetMaskNorm();
    ResetMask();
    std::vector<float> want(1024, 0.0f);
    for (int i = 0; i < 150; ++i) want[i] = a[i / 64 * 128 + i % 64] * 2;
    CHECK(equals(k.z, want));
  });
  on_core([](Kit& k) {  // count forms that leave the registers alone
    auto want = fill(k.z, 200);
    const auto a = fill(k.x, 200);
    SetMaskCount();
    SetVectorMask<float, MaskMode::COUNTER>(100);
    Adds<float, false>(k.z, k.x, 1.0f, 200);
    Axpy<float, float, false>(k.z, k.x, 2.0f, 200);
    SetMaskNorm();
    ResetMask();
    for (int i = 0; i < 100; ++i) want[i] = a[i] + 1 + a[i] * 2;
    CHECK(equals(k.z, want));
  });
  on_core([](Kit& k) {  // the mask register in normal mode
    const auto a = fill(k.x, 128);
    Duplicate(k.z, 0.0f, 128);
    SetVectorMask<float>(0, 0xF0);
    Muls<float, false>(k.z, k.x, 2.0f, MASK_PLACEHOLDER, 2, {1, 1, 8, 8});
    ResetMask();
    std::vector<float> want(128, 0.0f);
    for (int r = 0; r < 2; ++r) {
      for (int lane = 4; lane < 8; ++lane) want[r * 64 + lane] = a[r * 64 + lane] * 2;
    }
    CHECK(equals(k.z, want));
  });
}

TEST(filling) {
  on_core([](Kit& k) {
    const auto z = k.z.ReinterpretCast<int32_t>();
    Duplicate(z, -5, 100);
    for (int i = 0; i < 100; ++i) CHECK(z.GetValue(i) == -5);
    Duplicate(k.y, 1.5f, 64, 2, 2, 20);
    for (int r = 0; r < 2; ++r) {
      for (int lane = 0; lane < 64; ++lane)
        CHECK(k.y.GetValue((r * 20 + lane / 8 * 2) * 8 + lane % 8) == 1.5f);
    }
  });
}

TEST(copies_within_ub) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, kElements);
    Duplicate(k.z, 0.0f, kElements);
    DataCopy(k.z, k.x, 64);
    DataCopy(k.z[128], k.x[128], DataCopyParams(3, 2, 1, 4));
    Copy(k.z[512], k.x[512], 10, 2, {1, 2, 8, 16});
    std::vector<float> want(kElements, 0.0f);
    std::copy_n(a.begin(), 64, want.begin());
    for (int row = 0; row < 3; ++row) std::copy_n(&a[128 + row * 24], 16, &want[128 + row * 48]);
    for (int r = 0; r < 2; ++r) {
      for (int lane = 0; lane < 10; ++lane) {
        want[512 + r * 64 + lane] = a[512 + r * 128 + lane / 8 * 16 + lane % 8];
      }
    }
    CHECK(equals(k.z, want));
  });
}

TEST(a_masked_copy_counts_the_elements_of_each_repeat) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, kElements);
    std::vector<float> want(kElements, 0.0f);
    Duplicate(k.z, 0.0f, kElements);
    uint64_t count[2] = {70, 0};
    SetMaskCount();
    Copy(k.z, k.x, count, 2, {1, 1, 12, 16});
    SetMaskNorm();
    ResetMask();
    for (int r = 0; r < 2; ++r) std::copy_n(&a[r * 128], 70, &want[r * 96]);
    CHECK(equals(k.z, want));
  });
}

// ---- GM

TEST(copies_in_rows) {
  on_core([](Kit& k) {
    Duplicate(k.x, -1.0f, kElements);
    k.sync<HardEvent::V_MTE2>();
    DataCopy(k.x, k.in[100], DataCopyParams(4, 2, 3, 1));
    k.sync<HardEvent::MTE2_V>();
    for (int row = 0; row < 4; ++row) {
      for (int i = 0; i < 24; ++i) {
        CHECK(k.x.GetValue(row * 24 + i) == (i < 16 ? (100 + row * 40 + i) % 251 : -1.0f));
      }
    }
    k.sync<HardEvent::V_MTE3>();
    DataCopy(k.out[8], k.x, DataCopyParams(2, 2, 1, 2));
    k.sync<HardEvent::MTE3_MTE2>();
    DataCopy(k.y, k.out, 64);
    for (int i = 0; i < 64; ++i) {
      const bool first = i >= 8 && i < 24, second = i >= 40 && i < 56;
      CHECK(k.y.GetValue(i) == (first ? (100 + i - 8) % 251 : second ? (140 + i - 40) % 251 : 0));
    }
  });
}

TEST(padded_copies) {
  on_core([](Kit& k) {
    // Rows of 5 numbers, 7 apart; one to the left and two to the right.
    DataCopyPad(k.x, k.in, {3, 5 * sizeof(float), 2 * sizeof(float), 1, 0}, {true, 1, 2, -9.0f});
    k.sync<HardEvent::MTE2_V>();
    for (int row = 0; row < 3; ++row) {
      for (int i = 0; i < 8; ++i) {
        CHECK(k.x.GetValue(row * 16 + i) == (i < 1 || i > 5 ? -9.0f : row * 7 + i - 1));
      }
    }
    // And back: 3 numbers of each row, 4 apart.
    DataCopyPad(k.out, k.x, {3, 3 * sizeof(float), 1, sizeof(float), 0});
    k.sync<HardEvent::MTE3_MTE2>();
    DataCopyPad(k.y, k.out, {1, 12 * sizeof(float), 0, 0, 0}, {false, 0, 0, 0});
    for (int i = 0; i < 12; ++i) {
      const float first = i / 4 * 7 - 1.0f;
      CHECK(k.y.GetValue(i) == (i % 4 == 3 ? 0 : i % 4 == 0 ? -9.0f : first + i % 4));
    }
  });
  on_core([](Kit& k) {
    DataCopyPad(k.y, k.in, {2, 8, 0, 0, 0}, {false, 0, 0, 0});
    CHECK(k.y.GetValue(1) == 1 && k.y.GetValue(8) == 2);
  });
}

TEST(atomic_addition) {
  World world;
  for (uint64_t seed : {0, 1, 2}) {
    world.gm.fill(world.out, 0, 64 * sizeof(float));
    emulator::Options options;
    options.seed = seed;
    const emulator::Report report = emulator::launch(world.gm, options, 5, [&] {
      Kit k(world);
      Duplicate(k.x, static_cast<float>(GetBlockIdx() + 1), 64);
      k.sync<HardEvent::V_MTE3>();
      SetAtomicAdd<float>();
      DataCopyPad(k.out, k.x, {1, 13 * sizeof(float), 0, 0, 0});
      SetAtomicNone();
    });
    CHECK(report.clean());
    for (int i = 0; i < 64; ++i) CHECK(world.out[i] == (i < 13 ? 15 : 0));
  }
  emulator::Gm gm;
  auto* numbers = gm.upload(std::vector<int32_t>(8, 100), "numbers");
  auto* halves = gm.upload(std::vector<half>(16, half(0.5f)), "halves");
  emulator::launch(gm, {}, 1, [&] {
    Kit k(world);
    GlobalTensor<int32_t> n;
    GlobalTensor<half> h;
    n.SetGlobalBuffer(numbers);
    h.SetGlobalBuffer(halves);
    Duplicate(k.x.ReinterpretCast<int32_t>(), -30, 8);
    Duplicate(k.y.ReinterpretCast<half>(), half(0.25f), 16);
    k.sync<HardEvent::V_MTE3>();
    SetAtomicAdd<int32_t>();
    DataCopy(n, k.x.ReinterpretCast<int32_t>(), 8);
    SetAtomicAdd<half>();
    DataCopy(h, k.y.ReinterpretCast<half>(), 16);
    SetAtomicNone();
  });
  CHECK(numbers[7] == 70 && halves[15] == 0.75f);
}

TEST(scalar_access) {
  on_core([](Kit& k) {
    k.x(3) = 2.0f;
    k.x(4) = k.x(3);
    CHECK(k.x.GetValue(4) == 2.0f);
  });
}

// ---- types

TEST(half_has_its_rounding) {
  CHECK(half(1.0f).bits == 0x3C00 && half(-2.0f).bits == 0xC000 && half(65504.0f).bits == 0x7BFF);
  CHECK(half(65520.0f).bits == 0x7C00 && half(65519.0f).bits == 0x7BFF);
  CHECK(half(5.9604645e-8f).bits == 1 && half(2.9802322e-8f).bits == 0 && half(2.99e-8f).bits == 1);
  CHECK(half(1.0f + 1.0f / 2048).bits == 0x3C00 && half(1.0f + 3.0f / 2048).bits == 0x3C02);
  CHECK(std::isnan(static_cast<float>(half(NAN))) && half(INFINITY).bits == 0x7C00);
  for (int bits = 0; bits < 0x10000; ++bits) {
    half h;
    h.bits = bits;
    const float f = h;
    if (f == f) CHECK(half(f).bits == bits);
    bfloat16_t b;
    b.bits = bits;
    const float g = b;
    if (g == g) CHECK(bfloat16_t(g).bits == bits);
  }
  CHECK(bfloat16_t(1.0f + 1.0f / 256).bits == 0x3F80 &&
        bfloat16_t(1.0f + 3.0f / 256).bits == 0x3F82);
}

TEST(casts) {
  on_core([](Kit& k) {
    const std::vector<float> a = {2.5f, -2.5f, 0.5f, 1.5f, -0.5f, 1.7f, -1.7f, -0x1p31f};
    for (size_t i = 0; i < a.size(); ++i) k.x.SetValue(i, a[i]);
    const auto n = k.z.ReinterpretCast<int32_t>();
    const auto check = [&](RoundMode mode, std::vector<int32_t> want) {
      Cast(n, k.x, mode, a.size());
      CHECK(equals(n, want));
    };
    const int32_t bottom = -2147483647 - 1;
    check(RoundMode::CAST_RINT, {2, -2, 0, 2, 0, 2, -2, bottom});
    check(RoundMode::CAST_FLOOR, {2, -3, 0, 1, -1, 1, -2, bottom});
    check(RoundMode::CAST_CEIL, {3, -2, 1, 2, 0, 2, -1, bottom});
    check(RoundMode::CAST_ROUND, {3, -3, 1, 2, -1, 2, -2, bottom});
    check(RoundMode::CAST_TRUNC, {2, -2, 0, 1, 0, 1, -1, bottom});
    Cast(k.z, k.x, RoundMode::CAST_FLOOR, a.size());
    CHECK(equals(k.z, {2, -3, 0, 1, -1, 1, -2, -0x1p31f}));
  });
  on_core([](Kit& k) {
    const auto n = k.x.ReinterpretCast<int32_t>();
    const std::vector<int32_t> a = {0, -5, 16777217, -16777217, 2147483647};
    for (size_t i = 0; i < a.size(); ++i) n.SetValue(i, a[i]);
    Cast(k.z, n, RoundMode::CAST_NONE, a.size());
    CHECK(equals(k.z, {0, -5, 16777216, -16777216, 2147483648.0f}));
    Cast(k.z, n, RoundMode::CAST_CEIL, a.size());
    CHECK(equals(k.z, {0, -5, 16777218, -16777216, 2147483648.0f}));
  });
  on_core([](Kit& k) {  // between float and half, 200 elements, and with strides
    const auto a = fill(k.x, 200);
    const auto h = k.y.ReinterpretCast<half>();
    Cast(h, k.x, RoundMode::CAST_NONE, 200);
    for (int i = 0; i < 200; ++i) CHECK(h.GetValue(i) == half(a[i]));
    Cast(k.z, h, RoundMode::CAST_NONE, 200);
    for (int i = 0; i < 200; ++i) CHECK(k.z.GetValue(i) == a[i]);
    Cast(k.z, h, RoundMode::CAST_NONE, 64, 2, {1, 1, 8, 4});
    for (int i = 0; i < 128; ++i) CHECK(k.z.GetValue(i) == a[i]);
    const float third = 1.0f / 3;
    Duplicate(k.x, third, 64);
    const auto rounded = [&](RoundMode mode) {
      Cast(h, k.x, mode, 64);
      return h.GetValue(9).bits;
    };
    CHECK(rounded(RoundMode::CAST_FLOOR) == 0x3555 && rounded(RoundMode::CAST_CEIL) == 0x3556);
    CHECK(rounded(RoundMode::CAST_ODD) == 0x3555 && rounded(RoundMode::CAST_TRUNC) == 0x3555);
  });
}

// ---- comparison

TEST(comparing) {
  on_core([](Kit& k) {
    auto a = fill(k.x, 128), b = fill(k.y, 128);
    b[3] = a[3];
    k.y.SetValue(3, a[3]);
    k.x.SetValue(4, a[4] = NAN);
    const auto bits = k.z.ReinterpretCast<uint8_t>();
    const auto check = [&](CMPMODE mode, auto want) {
      Compare(bits, k.x, k.y, mode, 128);
      for (int i = 0; i < 128; ++i)
        CHECK((bits.GetValue(i / 8) >> i % 8 & 1) == (i != 4 && want(a[i], b[i])));
      CompareScalar(bits, k.x, 1.0f, mode, 128);
      for (int i = 0; i < 128; ++i)
        CHECK((bits.GetValue(i / 8) >> i % 8 & 1) == (i != 4 && want(a[i], 1.0f)));
    };
    check(CMPMODE::LT, [](float p, float q) { return p < q; });
    check(CMPMODE::GT, [](float p, float q) { return p > q; });
    check(CMPMODE::EQ, [](float p, float q) { return p == q; });
    check(CMPMODE::LE, [](float p, float q) { return p <= q; });
    check(CMPMODE::GE, [](float p, float q) { return p >= q; });
    check(CMPMODE::NE, [](float p, float q) { return p != q; });
  });
}

// ---- lanes that move

TEST(gathering) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, 256);
    const auto offsets = k.y.ReinterpretCast<uint32_t>();
    std::vector<uint32_t> from(200);
    for (int i = 0; i < 200; ++i) offsets.SetValue(i, from[i] = random_numbers() % 250 * 4);
    Gather(k.z, k.x, offsets, 16, 200);
    for (int i = 0; i < 200; ++i) CHECK(k.z.GetValue(i) == a[from[i] / 4 + 4]);
    Duplicate(k.z, 0.0f, 512);
    Gather(k.z, k.x, offsets, 0, 20, 2, 16);
    for (int r = 0; r < 2; ++r) {
      for (int i = 0; i < 20; ++i) CHECK(k.z.GetValue(r * 128 + i) == a[from[r * 64 + i] / 4]);
    }
  });
}

TEST(gathering_by_mask) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, 256);
    uint64_t kept = 0;
    for (int pattern = 1; pattern <= 7; ++pattern) {
      std::vector<float> want;
      for (int i = 0; i < 128; ++i) {
        if (emulator::pattern_bit(pattern, i % 64)) want.push_back(a[i]);
      }
      GatherMask(k.z, k.x, static_cast<uint8_t>(pattern), false, 0, {1, 2, 8, 0}, kept);
      CHECK(kept == want.size() && equals(k.z, want));
    }
    CHECK(emulator::pattern_bit(1, 0) && emulator::pattern_bit(2, 1) &&
          emulator::pattern_bit(3, 4) && emulator::pattern_bit(6, 3) &&
          emulator::pattern_bit(7, 2) && !emulator::pattern_bit(1, 1));
    // Counter mode: 70 elements of each repeat, the same bits for both.
    const auto bits = k.y.ReinterpretCast<uint32_t>();
    for (int i = 0; i < 8; ++i) bits.SetValue(i, 0x99999999u);
    std::vector<float> want;
    for (int r = 0; r < 2; ++r) {
      for (int i = 0; i < 70; ++i) {
        if (i % 4 == 0 || i % 4 == 3) want.push_back(a[r * 128 + i]);
      }
    }
    GatherMask(k.z, k.x, bits, true, 70, {1, 2, 16, 0}, kept);
    CHECK(kept == want.size() && equals(k.z, want));
    ResetMask();
    // In place, with fewer bits set in the second repeat.
    bits.SetValue(8, 0x1u);
    bits.SetValue(9, 0x0u);
    GatherMask(k.x, k.x, bits, false, 0, {1, 2, 8, 1}, kept);
    want.clear();
    for (int i = 0; i < 64; ++i) {
      if (i % 4 == 0 || i % 4 == 3) want.push_back(a[i]);
    }
    want.push_back(a[64]);
    CHECK(kept == want.size() && equals(k.x, want));
    ResetMask();
  });
}

TEST(broadcasting_into_blocks) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, 16);
    Brcb(k.z, k.x, 2, {2, 20});
    for (int i = 0; i < 16; ++i) {
      for (int lane = 0; lane < 8; ++lane)
        CHECK(k.z.GetValue((i / 8 * 20 + i % 8 * 2) * 8 + lane) == a[i]);
    }
  });
}

// ---- sums

TEST(reductions) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, 512);
    const auto sum = [&](int from, int count) {
      double s = 0;  // the numbers are multiples of 1/8: every order gives the same
      for (int i = 0; i < count; ++i) s += a[from + i];
      return static_cast<float>(s);
    };
    WholeReduceSum<float>(k.z, k.x, 50, 4, 2, 1, 8);
    for (int r = 0; r < 4; ++r) CHECK(k.z.GetValue(2 * r) == sum(64 * r, 50));
    // Half of the lanes, by bits.
    uint64_t odd[2] = {0xAAAAAAAAAAAAAAAAull, 0};
    WholeReduceSum<float>(k.z, k.x, odd, 1, 1, 1, 8);
    float odds = 0;
    for (int i = 1; i < 64; i += 2) odds += a[i];
    CHECK(k.z.GetValue(0) == odds);
    ResetMask();
    ReduceSum(k.z, k.x, k.y, 500);
    CHECK(k.z.GetValue(0) == sum(0, 500));
  });
}

TEST(sums_are_trees) {
  on_core([](Kit& k) {
    Duplicate(k.x, 1.0f, 64);
    k.x.SetValue(0, 16777216.0f);  // 2^24: adding ones to it one by one would lose them all
    WholeReduceSum<float>(k.z, k.x, 64, 1, 1, 1, 8);
    CHECK(k.z.GetValue(0) == 16777216.0f + 62);
  });
}

TEST(library_calls) {
  on_core([](Kit& k) {
    const auto a = fill(k.x, 512);
    const uint32_t to[] = {8, 72}, column[] = {8, 1}, row[] = {1, 72};
    BroadCast<float, 2, 1>(k.z, k.x, to, column);
    for (int i = 0; i < 8 * 72; ++i) CHECK(k.z.GetValue(i) == a[i / 72]);
    BroadCast<float, 2, 0>(k.z, k.x, to, row);
    for (int i = 0; i < 8 * 72; ++i) CHECK(k.z.GetValue(i) == a[i % 72]);
    for (const uint32_t k_odd : {1u, 5u, 12u, 71u}) {  // rows that are no multiple of 32 bytes
      const uint32_t odd[] = {9, k_odd}, column9[] = {9, 1}, row_odd[] = {1, k_odd};
      BroadCast<float, 2, 1>(k.z, k.x, odd, column9);
      for (uint32_t i = 0; i < 9 * k_odd; ++i) CHECK(k.z.GetValue(i) == a[i / k_odd]);
      BroadCast<float, 2, 0>(k.z, k.x, odd, row_odd);
      for (uint32_t i = 0; i < 9 * k_odd; ++i) CHECK(k.z.GetValue(i) == a[i % k_odd]);
    }
    for (const uint32_t k_one : {1u, 40u}) {  // of one element
      const uint32_t wide[] = {1, k_one}, one[] = {1, 1};
      BroadCast<float, 2, 1>(k.z, k.x, wide, one);
      for (uint32_t i = 0; i < k_one; ++i) CHECK(k.z.GetValue(i) == a[0]);
    }
    Sum(k.z, k.x, SumParams{4, 64, 50});
    for (int r = 0; r < 4; ++r) {
      float sum = 0;
      for (int i = 0; i < 50; ++i) sum += a[r * 64 + i];
      CHECK(k.z.GetValue(r) == sum);
    }
    Sum(k.z, k.x, SumParams{2, 128, 100});
    float sum = 0;
    for (int i = 0; i < 100; ++i) sum += a[128 + i];
    CHECK(k.z.GetValue(1) == sum);
    ResetMask();
  });
}

TEST(scalar_instructions) {
  CHECK((ScalarCast<float, int32_t, RoundMode::CAST_FLOOR>(-1.5f) == -2));
  CHECK((ScalarCast<float, int32_t, RoundMode::CAST_RINT>(2.5f) == 2));
  CHECK((ScalarCast<float, int32_t, RoundMode::CAST_CEIL>(0.1f) == 1));
  CHECK(ScalarGetSFFValue<1>(0x50) == 4 && ScalarGetSFFValue<1>(0) == -1 &&
        ScalarGetSFFValue<0>(7) == 3);
  CHECK(ScalarGetCountOfValue<1>(0xF0F) == 8 && ScalarGetCountOfValue<0>(~0ull) == 0);
  CHECK(sbitset1(0, 5) == 32 && sbitset0(63, 5) == 31);
}

TEST(tensors) {
  on_core([](Kit& k) {
    CHECK(k.x.GetSize() == kElements && k.x[8].GetSize() == kElements - 8);
    CHECK(k.x.ReinterpretCast<half>().GetSize() == 2 * kElements);
    CHECK(k.y.GetPhyAddr() == k.x.GetPhyAddr() + kElements * sizeof(float));
    CHECK(GetTPipePtr() == &k.pipe);
    CHECK(GetBlockIdx() == 0 && GetBlockNum() == 1 && block_idx == 0);
    const half one = 1.0f;
    CHECK(one == 1.0f);
  });
}

}  // namespace

int main() { return run_tests(); }
