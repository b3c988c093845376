// The forward's inner loop without plan and entries: anchor by anchor, in the order of the arguments.
#pragma once

#include "cells.h"
#include "formats.h"
#include "groups.h"
#include "kernels.h"
#include "rows.h"
#include "simd.h"
#include "weights.h"

namespace jda::JDA_ISA {

// The corners of a few anchors' samples are listed first; then they are summed, block of channels by block.
template <typename F, typename Groups>
class Direct {
 public:
  using T = Real<F>;

  JDA_INLINE Direct(const Anchors<F>& of, const DirectSpace<F>& space)
      : of_(of), space_(space), layout_(of.channels, of.groups) {}

  JDA_INLINE void run() {
    const int64_t most = of_.points * of_.cameras * of_.scales;
    int64_t left = 0;  // anchors of the batch element whose rows these are
    const F* features = nullptr;
    for (int64_t a = of_.begin; a < of_.end;) {
      first_ = a;
      count_ = 0;
      for (; a < of_.end && a < first_ + kDirectAnchors && count_ + most <= space_.samples_count;
           ++a, --left) {
        if (left == 0) {
          const int64_t element = a / of_.anchors;
          left = (element + 1) * of_.anchors - a;
          features = of_.features + element * of_.rows * of_.channels;
        }
        list(a, features);
        end_[a - first_] = count_;
      }
      anchors_ = a - first_;
      over_channels<T, Groups>(*this, of_.channels);
    }
  }

  // Sums of the listed anchors.
  template <int N, int M>
  JDA_INLINE void block(int64_t c, int used) const {
    if constexpr (N <= kFewLanes && M == 1) {  // numbers known here make loads of few lanes cheap
      if (used == 1) return sum<N, M>(c, 1);
      if (used == 2) return sum<N, M>(c, 2);
      if (used == 3) return sum<N, M>(c, 3);
    }
    sum<N, M>(c, N);
  }

 private:
  JDA_INLINE void list(int64_t anchor, const F* features) {
    const int64_t first = anchor * of_.points * of_.cameras;  // pair of key point and camera
    const T* location = of_.locations + first * 2;
    int64_t weight_at = first * of_.scales * of_.groups;
    for (int64_t p = 0; p < of_.points; ++p) {
      const Map* map = of_.maps;
      for (int64_t k = 0; k < of_.cameras; ++k, location += 2) {
        if (!visible(location[0], location[1])) {
          map += of_.scales;
          weight_at += of_.scales * of_.groups;
          continue;
        }
        const T y = location[of_.y_axis], x = location[1 - of_.y_axis];
        for (int64_t s = 0; s < of_.scales; ++s, ++map, weight_at += of_.groups)
          list_sample(*map, features, cell_at(y, x, *map), weight_at);
      }
    }
  }

  // Corners outside the map are zeros.
  JDA_INLINE void list_sample(const Map& map, const F* features, const Cell<T>& cell,
                              int64_t weight_at) {
    const auto [h, w, down, right] = cell;
    Sampled<F>& sample = space_.samples[count_];
    const int64_t column = of_.channels, line = map.width * column;
    const int64_t at = map.start * column + h * line + w * column;
    const bool above = within(h, map.height), below = within(h + 1, map.height);
    const bool at_left = within(w, map.width), at_right = within(w + 1, map.width);
    sample.feature[0] = above & at_left ? features + at : space_.zeros;
    sample.feature[1] = above & at_right ? features + at + column : space_.zeros;
    sample.feature[2] = below & at_left ? features + at + line : space_.zeros;
    sample.feature[3] = below & at_right ? features + at + line + column : space_.zeros;
    sample.share[0] = (1 - down) * (1 - right);
    sample.share[1] = (1 - down) * right;
    sample.share[2] = down * (1 - right);
    sample.share[3] = down * right;
    sample.weight = weights_at(of_.weights, weight_at, of_.groups,
                               space_.weights + count_ * space_.weights_stride);
    ++count_;
  }

  template <int N, int M>
  JDA_INLINE void sum(int64_t c, int used) const {
    constexpr int kApart = N * M * sizeof(F) < 32 ? 2 : 1;  // short rows beside each other are near
    const typename Groups::template Block<T, N, M> block(layout_, c);
    const Sampled<F>* sample = space_.samples;
    const Sampled<F>* all = sample + count_;
    for (int64_t v = 0; v < anchors_; ++v) {
      Vector<T, N> sum[M] = {};
      for (const Sampled<F>* end = space_.samples + end_[v]; sample < end; ++sample) {
        if (of_.ahead && sample + of_.ahead < all)
#pragma GCC unroll 4
          for (int k = 0; k < 4; k += kApart) prefetch_row<N, M>(sample[of_.ahead].feature[k] + c);
#pragma GCC unroll 16
        for (int j = 0; j < M; ++j) {
          Vector<T, N> value{};
#pragma GCC unroll 4
          for (int k = 0; k < 4; ++k)
            value += sample->share[k] * load<N>(sample->feature[k] + c + j * N, used);
          sum[j] += block.spread(sample->weight, j) * value;
        }
      }
      put<N, M>(of_.out + (first_ + v) * of_.channels + c, sum, used);
    }
  }

  const Anchors<F>& of_;
  const DirectSpace<F>& space_;
  const Groups layout_;
  int64_t first_ = 0, anchors_ = 0, count_ = 0;  // the listed anchors, and how many samples
  int64_t end_[kDirectAnchors];                  // one past each anchor's last sample
};

template <typename F, typename Groups>
void direct(const Anchors<F>& of, const DirectSpace<F>& space) {
  Direct<F, Groups>(of, space).run();
}

}  // namespace jda::JDA_ISA
