// Weights of one sample, widened.
#pragma once

#include "formats.h"
#include "groups.h"
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

// Those that begin at some place, where a vector more than there are may be read: themselves, or a copy in
// `space`.
template <typename F, typename T = Real<F>>
JDA_INLINE const T* weights_at(const Weights<F>& weights, int64_t at, int64_t groups, T* space) {
  const auto copied = [&](const auto* weight) {
    over_groups<0>(groups, [&](auto lanes, int64_t g, int used) {
      constexpr int N = decltype(lanes)::kCount;
      store<N>(space + g, load<N>(weight + g, used), used);
    });
    return static_cast<const T*>(space);
  };
  if constexpr (sizeof(F) < sizeof(T))
    if (weights.narrow) return copied(static_cast<const F*>(weights.all) + at);
  const T* weight = static_cast<const T*>(weights.all) + at;
  return at + groups + kLanes<T> <= weights.count ? weight : copied(weight);
}

}  // namespace jda::JDA_ISA
