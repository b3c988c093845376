// The types of feature maps and weights (F), and those that arithmetic is done in (Real<F>), which
// is also the type of locations.
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

// Expands X(F) for each type of feature maps and weights.
#define JDA_FOR_TYPES(X) X(float) X(double) X(BFloat16) X(Float16)
