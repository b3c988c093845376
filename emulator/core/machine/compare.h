// The instruction that gives a bit for each lane.
#pragma once

#include "vector.h"

namespace emulator {

enum class Comparison { lt, gt, eq, le, ge, ne };

template <class T>
bool holds(T a, T b, Comparison comparison) {
  return comparison == Comparison::lt   ? a < b
         : comparison == Comparison::gt ? a > b
         : comparison == Comparison::eq ? a == b
         : comparison == Comparison::le ? a <= b
         : comparison == Comparison::ge ? a >= b
                                        : a < b || a > b;  // what is no number compares as false
}

// Bits at `to` say where a[k] compares with b[k] or, if there is no b, with the scalar. Sets no mask;
// whether it looks at the register no document says.
template <class T>
void compare(VectorInstruction v, uint32_t to, const Operand& a, const Operand* b, Wide<T> scalar,
             Comparison comparison) {
  const MaskRegister& mask = v.core.mask;
  if (!mask.owned && !mask.full()) {
    v.core.unspecified("mask-inherited", v.i.by,
                       " sets no mask, and may look at the one that another call left behind");
  }
  const uint32_t bytes = v.lanes.repeats * v.lanes.per_repeat / 8;
  const std::array<Operand, 2> sources = {a, b ? *b : a};
  for (size_t s = 0; s < (b ? 2 : 1); ++s) {
    v.reads(sources[s]);
    if (to < sources[s].address + extent(v.lanes, sources[s]) && sources[s].address < to + bytes) {
      v.overlap_is_an_error("source and destination");
    }
  }
  if (v.inside(to, bytes)) v.i.writes.add(to, bytes);
  v.issue([=, lanes = v.lanes, tensor = b != nullptr](uint8_t* ub) {
    uint32_t bit = 0;
    each_piece(lanes, sources, [&](const auto& p, uint32_t n) {
      const T *x = at<T>(ub, p[0]), *y = at<T>(ub, p[1]);
      for (uint32_t k = 0; k < n; ++k, ++bit) {
        uint8_t& byte = ub[to + bit / 8];
        const unsigned on =
            holds<Wide<T>>(x[k], tensor ? static_cast<Wide<T>>(y[k]) : scalar, comparison);
        byte = (byte & ~(1u << bit % 8)) | on << bit % 8;
      }
    });
  });
}

}  // namespace emulator
