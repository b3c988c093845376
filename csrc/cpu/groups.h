// Channels in vectors, and how they map to groups.
#pragma once

#include "formats.h"
#include "kernels.h"
#include "simd.h"

namespace jda::JDA_ISA {

template <typename T>
constexpr int kLanes = JDA_VECTOR_BYTES / static_cast<int>(sizeof(T));

// How channels map to groups decides how coefficients are spread over lanes and how dots are
// summed. A Block knows that for M vectors of N lanes from some channel on.

// D channels in each group, D a power of two that is known here. Blocks hold whole groups.
template <int D>
struct FixedGroups {
  static constexpr bool kFixed = true;
  static constexpr int kSize = D;
  explicit FixedGroups(int64_t, int64_t) {}

  template <typename T, int N, int M>
  struct Block {
    int64_t first;  // group
    Block(FixedGroups, int64_t c) : first(c / D) {}

    // The coefficient of the lanes of vector j.
    JDA_INLINE T spread(const T* coefficient, int j) const {
      return coefficient[first + j * N / D];
    }

    // The sum of the products over each group.
    JDA_INLINE void sum(Vector<T, N>* product, T* dots) const {
      constexpr int kVectors = D / N, kGroups = M / kVectors;
#pragma GCC unroll 16
      for (int g = 0; g < kGroups; ++g) {
        Vector<T, N> v = product[g * kVectors];
#pragma GCC unroll 16
        for (int j = 1; j < kVectors; ++j) v += product[g * kVectors + j];
        product[g] = v;
      }
      lane_sums<T, N, kGroups>(product, dots + first);
    }
  };
};

// Any other number of channels in each group. Groups may begin and end within a vector, and a
// group's sum may be begun by one block and ended by the next.
struct AnyGroups {
  static constexpr bool kFixed = false;
  static constexpr int kSize = 1;
  int64_t size;
  AnyGroups(int64_t channels, int64_t groups) : size(channels / groups) {}

  template <typename T, int N, int M>
  struct Block {
    int64_t group[M * N];
    bool whole[M];  // all lanes of the vector are of one group
    bool begins;    // the first lane begins a group
    Block(AnyGroups groups, int64_t c) : begins(c % groups.size == 0) {
      int64_t g = c / groups.size, left = groups.size - c % groups.size;
      for (int i = 0; i < M * N; ++i) {
        group[i] = g;
        if (--left == 0) ++g, left = groups.size;
      }
      for (int j = 0; j < M; ++j) whole[j] = group[j * N] == group[j * N + N - 1];
    }

    JDA_INLINE Vector<T, N> spread(const T* coefficient, int j) const {
      Vector<T, N> v{};
      if (whole[j]) return v + coefficient[group[j * N]];
      for (int i = 0; i < N; ++i) v[i] = coefficient[group[j * N + i]];
      return v;
    }

    JDA_INLINE void sum(Vector<T, N>* product, T* dots) const {
      int64_t last = begins ? -1 : group[0];
      auto add = [&](int64_t g, T term) {
        dots[g] = g == last ? dots[g] + term : term;
        last = g;
      };
      for (int j = 0; j < M; ++j) {
        if (whole[j]) {
          T total;
          lane_sums<T, N, 1>(product + j, &total);
          add(group[j * N], total);
        } else {
          for (int i = 0; i < N; ++i) add(group[j * N + i], product[j][i]);
        }
      }
    }
  };
};

// Runs kernel.block<N, M>(c) over the channels from c on: blocks of M vectors of N lanes first,
// then narrower ones for what is left, down to D channels.
template <int N, int M, int D, typename Kernel>
JDA_INLINE void narrowing_blocks(const Kernel& kernel, int64_t channels, int64_t c) {
  for (; c + N * M <= channels; c += N * M) kernel.template block<N, M>(c);
  if (c == channels) return;
  if constexpr (M > 1 && N * M / 2 >= D) {
    narrowing_blocks<N, M / 2, D>(kernel, channels, c);
  } else if constexpr (N > 1 && N / 2 >= D) {
    narrowing_blocks<N / 2, 1, D>(kernel, channels, c);
  }
}

// Runs the kernel over all channels. Vectors and blocks never straddle groups of a fixed size.
template <typename T, typename Groups, typename Kernel>
JDA_INLINE void over_channels(const Kernel& kernel, int64_t channels) {
  constexpr int D = Groups::kSize, N = Groups::kFixed && D < kLanes<T> ? D : kLanes<T>;
  narrowing_blocks<N, (D > N * JDA_VECTORS ? D / N : JDA_VECTORS), D>(kernel, channels, 0);
}

}  // namespace jda::JDA_ISA
