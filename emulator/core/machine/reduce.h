// Instructions that sum over lanes.
#pragma once

#include <memory>

#include "vector.h"

namespace emulator {

// Pairwise, as a tree; lanes that take no part count as 0.
template <class T>
T tree_sum(const T* values, uint32_t count) {
  T level[128];
  for (uint32_t k = 0; k < count; ++k) level[k] = values[k];
  for (; count > 1; count /= 2) {
    for (uint32_t k = 0; k < count / 2; ++k) {
      level[k] = static_cast<T>(static_cast<Wide<T>>(level[2 * k]) +
                                static_cast<Wide<T>>(level[2 * k + 1]));
    }
  }
  return level[0];
}

// The active lanes of a repeat; the others are 0.
template <class T>
void active_values(const Lanes& lanes, const Operand& from, uint8_t* ub, uint32_t r,
                   T (&values)[128]) {
  for (T& value : values) value = T(0);
  each_chunk(lanes.of(r), 1,
             [&](uint32_t lane, uint32_t) { values[lane] = *at<T>(ub, from.lane(r, lane)); });
}

// A sum for each repeat that has active lanes, `step` elements apart.
template <class T>
void reduce(VectorInstruction v, uint32_t to, uint32_t step, const Operand& from) {
  v.reads(from);
  const Lanes& lanes = v.lanes;
  if (lanes.repeats == 0) return;
  const uint32_t end = ((lanes.repeats - 1) * step + 1) * sizeof(T);
  if (v.inside(to, end)) {
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      v.i.writes.add(to + r * step * sizeof(T), sizeof(T));
    }
  }
  // Later repeats must not read what earlier ones have written.
  const bool meet = to < from.address + extent(lanes, from) && from.address < to + end;
  for (uint32_t r = 1; meet && r < lanes.repeats; ++r) {
    const uint32_t read = from.lane(r, 0);
    if (to < read + kRepeat && read < to + ((r - 1) * step + 1) * sizeof(T)) {
      v.overlap_is_an_error("results and the source of a later repeat");
      break;
    }
  }
  v.i.work.latency = v.core.options.cost.reduce_latency;
  v.issue([=, lanes = v.lanes](uint8_t* ub) {
    T values[128];
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      active_values(lanes, from, ub, r, values);
      *at<T>(ub, to + r * step * sizeof(T)) = tree_sum(values, lanes.per_repeat);
    }
  });
}

// The sum of all lanes goes into a register, which the scalar unit reads later.
template <class T>
std::shared_ptr<T> accumulate(VectorInstruction v, const Operand& from) {
  v.reads(from);
  const auto sum = std::make_shared<T>(0.0f);
  v.i.work.latency = v.core.options.cost.reduce_latency;
  v.issue([=, lanes = v.lanes](uint8_t* ub) {
    T values[128];
    *sum = T(0);
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      active_values(lanes, from, ub, r, values);
      *sum = static_cast<T>(static_cast<Wide<T>>(*sum) +
                            static_cast<Wide<T>>(tree_sum(values, lanes.per_repeat)));
    }
  });
  return sum;
}

}  // namespace emulator
