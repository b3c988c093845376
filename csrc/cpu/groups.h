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
//
//   FixedGroups    4 to 64 channels, a power of two known here: a block holds whole groups
//   VectorGroups   whole vectors: a vector has one coefficient
//   AnyGroups      groups begin and end within vectors
//
// In the latter two a group's sum may be begun by one block and ended by another (!kWholeGroups).

// D channels in each group, D a power of two.
template <int D>
struct FixedGroups {
  static constexpr bool kWholeGroups = true;
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

// Any number of vectors of L lanes in each group.
template <int L>
struct VectorGroups {
  static constexpr bool kWholeGroups = false;
  static constexpr int kSize = L;
  uint32_t size;
  VectorGroups(int64_t channels, int64_t groups) : size(static_cast<uint32_t>(channels / groups)) {}

  template <typename T, int N, int M>
  struct Block {
    uint32_t group[M];  // of each vector
    bool last[M];       // whether the vector is the last of its group
    bool begins;        // the first vector begins a group
    JDA_INLINE Block(VectorGroups groups, int64_t c) {
      uint32_t g = static_cast<uint32_t>(c) / groups.size,
               at = static_cast<uint32_t>(c) - g * groups.size;
      begins = at == 0;
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) {
        group[j] = g;
        at += N;
        last[j] = at == groups.size;
        g += last[j];
        at = last[j] ? 0 : at;
      }
    }

    JDA_INLINE T spread(const T* coefficient, int j) const { return coefficient[group[j]]; }

    JDA_INLINE void sum(Vector<T, N>* product, T* dots) const {
      bool begun = !begins;
      Vector<T, N> run = product[0];
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) {
        const bool done = j == M - 1 || last[j];
        if (done) {
          T total;
          lane_sums<T, N, 1>(&run, &total);
          dots[group[j]] = begun ? dots[group[j]] + total : total;
          begun = false;
        }
        if (j < M - 1) run = done ? product[j + 1] : run + product[j + 1];
      }
    }
  };
};

// Any number of channels in each group. The groups of a vector's lanes follow each other, so their
// coefficients are one load and one permutation. A group's sum is taken in steps that double the
// lanes it is taken over, as far as they are of the group; a permutation then brings the groups'
// first lanes, where the sums are, together.
struct AnyGroups {
  static constexpr bool kWholeGroups = false;
  static constexpr int kSize = 1;
  int64_t size, groups;
  AnyGroups(int64_t channels, int64_t groups) : size(channels / groups), groups(groups) {}

  template <typename T, int N, int M>
  struct Block {
    using I = IntegerLike<T>;
    static constexpr int kSteps = N > 8 ? 4 : N > 4 ? 3 : N > 2 ? 2 : N > 1 ? 1 : 0;
    int64_t groups;
    int steps;
    int64_t first[M];            // group of the first lane
    int32_t count[M];            // groups of the vector's lanes
    bool continues[M];           // the first lane does not begin a group
    Vector<I, N> group[M];       // of each lane, counted from the first's
    Vector<I, N> first_lane[M];  // of each group

    JDA_INLINE Block(AnyGroups layout, int64_t c) : groups(layout.groups), steps(0) {
      // Within a vector, groups of N lanes or more differ in where the next begins, if it does.
      const int64_t size = layout.size;
      const I reach = static_cast<I>(size < N ? size : N);
      while (1 << steps < reach) ++steps;
      const I reciprocal = 65536 / reach + 1;  // exact for dividends below 32
      int64_t g = c / size, at = c - g * size;
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) {
        const int64_t left = size - at;
        const I phase = static_cast<I>(size < N ? at : left < N ? N - left : 0);
        first[j] = g;
        continues[j] = at > 0;
        group[j] = (lane_numbers<I, N>() + phase) * reciprocal >> 16;
        const int64_t seen = ((N - 1 + phase) * reciprocal >> 16) + 1;
        count[j] = static_cast<int32_t>(seen < groups - g ? seen : groups - g);
        const Vector<I, N> begin = lane_numbers<I, N>() * reach - phase;
        const Vector<I, N> none{};
        first_lane[j] = begin > 0 ? begin : none;
        const int64_t passed = size < N ? (at + N) * reciprocal >> 16 : at + N >= size;
        g += passed;
        at += N - passed * size;
      }
    }

    // Reads up to N - 1 coefficients behind those of the block.
    JDA_INLINE Vector<T, N> spread(const T* coefficient, int j) const {
      return permuted<T, N>(load_lanes<N>(coefficient + first[j]), group[j]);
    }

    JDA_INLINE void sum(Vector<T, N>* product, T* dots) const {
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) {
        Vector<T, N> v = product[j];
#pragma GCC unroll 4
        for (int k = 0; k < kSteps; ++k)
          if (k < steps) {
            const Vector<I, N> further = lane_numbers<I, N>() + (1 << k);
            const Vector<I, N> same =
                (permuted<I, N>(group[j], further) == group[j]) & (further < N);
            v += (Vector<T, N>)((Vector<I, N>)permuted<T, N>(v, further) & same);
          }
        Vector<T, N> sums = permuted<T, N>(v, first_lane[j]);
        T* to = dots + first[j];
        if (continues[j]) sums[0] += to[0];
        if (first[j] + N <= groups)  // what is written too much is overwritten by the next vectors
          store_lanes<N>(to, sums);
        else
          for (int i = 0; i < count[j]; ++i) to[i] = sums[i];
      }
    }
  };
};

// The narrowest vector. What is left behind the last whole one is in the first lanes of one more.
template <typename T>
constexpr int kFewest = kLanes<T> < kFewLanes ? kLanes<T> : kFewLanes;

// Lanes of the vectors that groups are taken in: all G of them, or any number if G is 0.
template <int G>
constexpr int kGroupLanes = G == 0          ? 8
                            : G < kFewLanes ? kFewLanes
                                            : G;

template <int N>
struct LaneCount {
  static constexpr int kCount = N;
};

// Runs use(LaneCount<N>, g, used) over the groups, `used` of N at a time, from g on.
template <int G, typename Use>
JDA_INLINE void over_groups(int64_t groups, const Use& use) {
  constexpr int N = kGroupLanes<G>;
  if constexpr (G > 0) {
    use(LaneCount<N>{}, 0, G);
  } else {
    int64_t g = 0;
    for (; g + N <= groups; g += N) use(LaneCount<N>{}, g, N);
    for (; g < groups; g += kFewLanes) {
      const int64_t left = groups - g;
      use(LaneCount<kFewLanes>{}, g, static_cast<int>(left < kFewLanes ? left : kFewLanes));
    }
  }
}

// Runs kernel.block<N, M>(c, used) over the channels from c on, for M vectors of N lanes of which
// `used` are in use: wide blocks first, then narrower ones for what is left, down to D channels.
template <int N, int M, int D, typename T, typename Kernel>
JDA_INLINE void narrowing_blocks(const Kernel& kernel, int64_t channels, int64_t c) {
  for (; c + N * M <= channels; c += N * M) kernel.template block<N, M>(c, N);
  if (c == channels) return;
  if constexpr (M > 1 && N * M / 2 >= D) {
    narrowing_blocks<N, M / 2, D, T>(kernel, channels, c);
  } else if constexpr (N > kFewest<T> && N / 2 >= D) {
    narrowing_blocks<N / 2, 1, D, T>(kernel, channels, c);
  } else if constexpr (D == 1) {
    kernel.template block<N, 1>(c, static_cast<int>(channels - c));
  }
}

// Runs the kernel over all channels. Vectors never straddle groups, but of AnyGroups.
template <typename T, typename Groups, typename Kernel>
JDA_INLINE void over_channels(const Kernel& kernel, int64_t channels) {
  constexpr int D = Groups::kSize, N = D > 1 && D < kLanes<T> ? D : kLanes<T>;
  narrowing_blocks<N, (D > N * JDA_VECTORS ? D / N : JDA_VECTORS), D, T>(kernel, channels, 0);
}

}  // namespace jda::JDA_ISA
