// The weights of the pairs of a block in one tile and all scales, and products with them.

#ifndef JDA_ASCEND_WEIGHTS_H_
#define JDA_ASCEND_WEIGHTS_H_

#include "samples.h"

namespace jda_ascend {

class PairWeights : public Samples {
 protected:
  __aicore__ inline PairWeights(const Tiling& tiling, TPipe& pipe, GM_ADDR shapes, GM_ADDR starts,
                                GM_ADDR locations, GM_ADDR weight, GM_ADDR workspace)
      : Samples(tiling, pipe, shapes, starts, locations, workspace) {
    gm_weight_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(weight));
    weights_ = Get<float>(t.weights);
  }

  // What a vector operation may read behind the last valid element is written once.
  __aicore__ inline void ClearWeights() {
    Duplicate(weights_, 0.0f, static_cast<int32_t>(weights_.GetSize()));
  }

  // Weights of pair i of the block as they come: a row of weight_pitch floats for every scale.
  __aicore__ inline LocalTensor<float> Weights(int32_t buffer, int32_t i, int32_t scale) const {
    return weights_[static_cast<uint32_t>(((buffer * plane_ + i) * t.scales + scale) *
                                          t.weight_pitch)];
  }

  // Of pairs [first, end) of the block in all scales, one copy for each run of pairs.
  __aicore__ inline void LoadWeights(const Step& step, int32_t first, int32_t end) {
    const Block& block = blocks_[step.block];
    for (int32_t i = first; i < end;) {
      const int32_t run = RunOfPairs(block, i, end);
      LoadWeightRun(step, i, run);
      i += run;
    }
  }

  // Weights of `pairs` pairs from GM to UB.
  __aicore__ inline DataCopyExtParams WeightCopy(int32_t groups, int32_t pairs) const {
    const int64_t rows = pairs * t.scales;
    const uint32_t bytes = static_cast<uint32_t>(groups * sizeof(float));
    if (groups == t.groups && groups == t.weight_pitch) {
      return {1, static_cast<uint32_t>(rows * bytes), 0, 0, 0};
    }
    const uint32_t others = static_cast<uint32_t>((t.groups - groups) * sizeof(float));
    const uint32_t gap = static_cast<uint32_t>((t.weight_pitch - AlignUp(groups, kLanes)) / kLanes);
    return {static_cast<uint16_t>(rows), bytes, others, gap, 0};
  }

  __aicore__ inline uint64_t WeightElement(int64_t pair, int32_t tile) const {
    return static_cast<uint64_t>(pair * t.scales * t.groups +
                                 static_cast<int64_t>(tile) * t.tile_groups);
  }

  // The weights of the step without those of other scales: Brcb knows no gaps.
  __aicore__ inline void PickWeights(const Batch& batch) {
    step_weights_ = Weights(batch.weights, 0, 0);
    if (t.scales == 1) return;
    step_weights_ = Get<float>(t.step_weights);
    const uint8_t pitch = static_cast<uint8_t>(t.weight_pitch / kLanes);
    Adds(step_weights_, Weights(batch.weights, 0, batch.scale), 0.0f,
         static_cast<uint64_t>(t.weight_pitch), static_cast<uint8_t>(blocks_[batch.block].pairs),
         UnaryRepeatParams{1, 1, pitch, static_cast<uint8_t>(t.scales * pitch)});
  }

  // The weights of the batch, each filling a block: [sample][weight_pitch].
  __aicore__ inline void SpreadWeights(const Batch& batch, const LocalTensor<float>& to) {
    Brcb(to, step_weights_[batch.first * t.weight_pitch],
         static_cast<uint8_t>(batch.count * t.weight_pitch / kLanes), BrcbRepeatParams{1, kLanes});
  }

  // to[i] = from[i] with every group multiplied by its weight; `step` floats lie between rows of
  // `from`, which are all the same row where it is zero.
  __aicore__ inline void MultiplyByWeights(const LocalTensor<float>& to,
                                           const LocalTensor<float>& from, int32_t step,
                                           const LocalTensor<float>& spread, int32_t rows) {
    const uint8_t pitch = static_cast<uint8_t>(t.group_pitch / kLanes);
    const BinaryRepeatParams strides{1, 1, 0, pitch, pitch, 1};
    const int32_t all = rows * t.tile_groups;
    const bool at_once =
        step == t.tile_pitch && t.weight_pitch == t.tile_groups && all <= kMaxRepeats;
    const int32_t calls = at_once ? 1 : rows;
    const uint8_t repeats = static_cast<uint8_t>(at_once ? all : t.tile_groups);
    for (int32_t i = 0; i < calls; ++i) {
      for (int32_t c = 0; c < t.group_pitch; c += kRepeat) {
        const uint64_t lanes = static_cast<uint64_t>(Smaller(kRepeat, t.group_pitch - c));
        Mul(to[i * t.tile_pitch + c], from[i * step + c], spread[i * t.weight_pitch * kLanes],
            lanes, repeats, strides);
      }
    }
  }

  LocalTensor<float> step_weights_;

 private:
  __aicore__ inline void LoadWeightRun(const Step& step, int32_t i, int32_t run) {
    const int64_t pair = Pair(blocks_[step.block], i);
    const int32_t groups = GroupsOf(step.tile);
    const uint8_t padding = static_cast<uint8_t>(AlignUp(groups, kLanes) - groups);
    DataCopyPad(Weights(step.weights, i, 0), gm_weight_[WeightElement(pair, step.tile)],
                WeightCopy(groups, run),
                DataCopyPadExtParams<float>{padding != 0, 0, padding, 0.0f});
  }

  GlobalTensor<float> gm_weight_;
  LocalTensor<float> weights_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_WEIGHTS_H_
