// The types of feature maps (F) and weights (W), and that in which both are added up (Real<F>), which
// is also the type of locations. W is F, or float beside 16-bit maps.
#pragma once

#include <cstdint>

namespace jda {

struct BFloat16 {  // the upper half of a float
  uint16_t bits;
};

struct Float16 {  // IEEE 754's binary16
  uint16_t bits;
};

template <typename F>
struct RealOf {
  using type = float;
};
template <>
struct RealOf<double> {
  using type = double;
};
template <typename F>
using Real = typename RealOf<F>::type;

}  // namespace jda

// Expands X(F) for each type of feature maps and of weights, and X(F, W) for each pair of them.
#define JDA_FOR_TYPES(X) X(float) X(double) X(BFloat16) X(Float16)
#define JDA_FOR_PAIRS(X) \
  X(float, float)        \
  X(double, double) X(BFloat16, BFloat16) X(BFloat16, float) X(Float16, Float16) X(Float16, float)
