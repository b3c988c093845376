// The weights of the pairs of a block in one tile and all scales, and products with them.

#ifndef JDA_ASCEND_WEIGHTS_H_
#define JDA_ASCEND_WEIGHTS_H_

#include "blocks.h"
#include "narrow.h"

namespace jda_ascend {

class Weights {
 public:
  __aicore__ inline Weights(const Tiling& tiling, Memory& memory, Blocks& blocks,
                            const Operands& operands)
      : t(tiling), memory_(memory), blocks_(blocks), narrow_(tiling.weight_format != kFloat32) {
    gm_weight_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(operands.weight));
    gm_narrow_.SetGlobalBuffer(reinterpret_cast<__gm__ Bits16*>(operands.weight));
    weights_ = memory_.Get<float>(t.weights);
  }

  // What a vector operation may read behind the last valid element is written once.
  __aicore__ inline void Clear() {
    Duplicate(weights_, 0.0f, static_cast<int32_t>(weights_.GetSize()));
  }

  // Weights of pair i of the block as they come: a row of weight_pitch floats for every scale.
  __aicore__ inline LocalTensor<float> At(int32_t buffer, int32_t i, int32_t scale) const {
    return weights_[static_cast<uint32_t>(((buffer * t.block_pairs + i) * t.scales + scale) *
                                          t.weight_pitch)];
  }

  // Of pairs [first, end) of the block in all scales, one copy for each run of pairs.
  __aicore__ inline void Load(const Step& step, int32_t first, int32_t end) {
    const Block& block = blocks_[step.block];
    for (int32_t i = first; i < end;) {
      const int32_t run = blocks_.RunOfPairs(block, i, end);
      LoadRun(step, i, run);
      i += run;
    }
  }

  // The weights of the step, in float32 and without those of other scales: Brcb knows no gaps.
  __aicore__ inline void Pick(const Packet& packet) {
    if (narrow_) return PickNarrow(packet);
    step_weights_ = At(packet.weights, 0, 0);
    if (t.scales == 1) return;
    step_weights_ = memory_.Get<float>(t.step_weights);
    Adds(step_weights_, At(packet.weights, 0, packet.scale), 0.0f,
         static_cast<uint64_t>(t.weight_pitch), static_cast<uint8_t>(blocks_[packet.block].pairs),
         UnaryRepeatParams{1, 1, RowBlocks(), static_cast<uint8_t>(t.scales * RowBlocks())});
  }

  // The weights of the packet, each filling a block: [sample][weight_pitch].
  __aicore__ inline void Spread(const Packet& packet, const LocalTensor<float>& to) {
    Brcb(to, step_weights_[packet.first * t.weight_pitch],
         static_cast<uint8_t>(packet.count * t.weight_pitch / kLanes), BrcbRepeatParams{1, kLanes});
  }

  // Rows of one row, every group multiplied by its weight in one of the samples.
  __aicore__ inline void Multiply(const LocalTensor<float>& to, const LocalTensor<float>& row,
                                  const LocalTensor<float>& spread, int32_t rows) {
    const uint8_t pitch = static_cast<uint8_t>(t.group_pitch / kLanes);
    const BinaryRepeatParams strides{1, 1, 0, pitch, pitch, 1};
    for (int32_t i = 0; i < rows; ++i) {
      for (int32_t c = 0; c < t.group_pitch; c += kRepeat) {
        const uint64_t lanes = static_cast<uint64_t>(Smaller(kRepeat, t.group_pitch - c));
        Mul(to[i * t.tile_pitch + c], row[c], spread[i * t.weight_pitch * kLanes], lanes,
            static_cast<uint8_t>(t.tile_groups), strides);
      }
    }
  }

  // The weights of the packet, each filling a block: [group][sample]. Groups are a block further apart
  // than there may be samples, so that what a repeat writes lies in different banks.
  __aicore__ inline void SpreadByGroup(const Packet& packet, const LocalTensor<float>& to) {
    const uint16_t apart = static_cast<uint16_t>(t.together + 1);
    const LocalTensor<float> from = step_weights_[packet.first * t.weight_pitch];
    if (t.weight_pitch == kLanes) {
      Brcb(to, from, static_cast<uint8_t>(packet.count), BrcbRepeatParams{apart, 1});
      return;
    }
    for (int32_t i = 0; i < packet.count; ++i) {
      Brcb(to[i * kLanes], from[i * t.weight_pitch], RowBlocks(),
           BrcbRepeatParams{apart, static_cast<uint16_t>(kLanes * apart)});
    }
  }

  // Multiplies every group of some rows, `pitch` floats apart, by its weight. Where a group does not
  // fill a repeat, one has a block of each of eight rows.
  __aicore__ inline void MultiplyByGroup(const LocalTensor<float>& rows, int32_t pitch,
                                         const LocalTensor<float>& spread, int32_t count) {
    const uint8_t row = static_cast<uint8_t>(pitch / kLanes);
    const uint8_t group = static_cast<uint8_t>(t.group_pitch / kLanes);
    const int32_t apart = t.together + 1;
    if (t.group_pitch < kRepeat) {
      const BinaryRepeatParams strides{row, row, 1, group, group, static_cast<uint8_t>(apart)};
      for (int32_t i = 0; i < count; i += kLanes) {
        const uint64_t lanes = static_cast<uint64_t>(Smaller(kLanes, count - i) * kLanes);
        for (int32_t c = 0; c < t.group_pitch; c += kLanes) {
          const LocalTensor<float> part = rows[i * pitch + c];
          Mul(part, part, spread[i * kLanes], lanes, static_cast<uint8_t>(t.tile_groups), strides);
        }
      }
      return;
    }
    for (int32_t g = 0; g < t.tile_groups; ++g) {
      for (int32_t c = 0; c < t.group_pitch; c += kRepeat) {
        const LocalTensor<float> part = rows[g * t.group_pitch + c];
        Mul(part, part, spread[g * apart * kLanes],
            static_cast<uint64_t>(Smaller(kRepeat, t.group_pitch - c)), static_cast<uint8_t>(count),
            BinaryRepeatParams{1, 1, 0, row, row, 1});
      }
    }
  }

  // The gradient of the weights of a packet, `rows` rows of weight_pitch floats as far apart as `step`
  // of them, takes the place of the weights themselves, as it will be stored.
  __aicore__ inline void Replace(const Packet& packet, const LocalTensor<float>& near,
                                 const LocalTensor<float>& far, int32_t step) {
    const uint8_t from = static_cast<uint8_t>(step * RowBlocks());
    const uint64_t lanes = static_cast<uint64_t>(t.weight_pitch);
    const uint8_t rows = static_cast<uint8_t>(packet.count);
    if (!narrow_) {
      const uint8_t apart = static_cast<uint8_t>(t.scales * RowBlocks());
      Add(At(packet.weights, packet.first, packet.scale), near, far, lanes, rows,
          BinaryRepeatParams{1, 1, 1, apart, from, from});
      return;
    }
    Add(near, near, far, lanes, rows, BinaryRepeatParams{1, 1, 1, from, from, from});
    PipeBarrier<PIPE_V>();
    RoundRows(t.weight_format, NarrowAt(packet.weights, packet.first, packet.scale), near, lanes,
              rows, UnaryRepeatParams{1, 1, NarrowApart(), from});
  }

  // Stores what took the place of the weights of some pairs that follow each other.
  __aicore__ inline void StoreRun(const GlobalTensor<float>& gm,
                                  const GlobalTensor<Bits16>& gm_narrow, const Step& step,
                                  int32_t i, int32_t run) const {
    const uint64_t at = Element(blocks_.Pair(blocks_[step.block], i), step.tile);
    const int32_t groups = memory_.GroupsOf(step.tile);
    if (narrow_) {
      DataCopyPad(gm_narrow[at], NarrowAt(step.weights, i, 0),
                  Turned(Copy<Bits16>(groups, run, NarrowPitch())));
    } else {
      DataCopyPad(gm[at], At(step.weights, i, 0), Turned(Copy(groups, run, t.weight_pitch)));
    }
  }

  // What Pick() picked: a row of weight_pitch floats for every pair.
  __aicore__ inline const LocalTensor<float>& OfStep() const { return step_weights_; }

 private:
  // Weights of `pairs` pairs from GM to UB, in rows of `pitch` numbers.
  template <typename T = float>
  __aicore__ inline DataCopyExtParams Copy(int32_t groups, int32_t pairs, int64_t pitch) const {
    constexpr int32_t lanes = 32 / sizeof(T);
    const int64_t rows = pairs * t.scales;
    const uint32_t bytes = static_cast<uint32_t>(groups * sizeof(T));
    if (groups == t.groups && groups == pitch) {
      return {1, static_cast<uint32_t>(rows * bytes), 0, 0, 0};
    }
    const uint32_t others = static_cast<uint32_t>((t.groups - groups) * sizeof(T));
    const uint32_t gap = static_cast<uint32_t>((pitch - groups) / lanes);
    return {static_cast<uint16_t>(rows), bytes, others, gap, 0};
  }

  __aicore__ inline uint64_t Element(int64_t pair, int32_t tile) const {
    return static_cast<uint64_t>(pair * t.scales * t.groups +
                                 static_cast<int64_t>(tile) * t.tile_groups);
  }

  // Blocks of a row of float32.
  __aicore__ inline uint8_t RowBlocks() const {
    return static_cast<uint8_t>(t.weight_pitch / kLanes);
  }

  // Numbers of a row of 16 bits. It takes no more blocks than one of float32.
  __aicore__ inline int64_t NarrowPitch() const { return AlignUp(t.tile_groups, kLanes16); }

  __aicore__ inline LocalTensor<Bits16> NarrowAt(int32_t buffer, int32_t i, int32_t scale) const {
    const int64_t row = (static_cast<int64_t>(buffer) * t.block_pairs + i) * t.scales + scale;
    return weights_.ReinterpretCast<Bits16>()[static_cast<uint32_t>(row * NarrowPitch())];
  }

  // Blocks from a pair's row in a scale to the next pair's.
  __aicore__ inline uint8_t NarrowApart() const {
    return static_cast<uint8_t>(t.scales * NarrowPitch() / kLanes16);
  }

  // The other way round, from UB to GM.
  __aicore__ inline DataCopyExtParams Turned(const DataCopyExtParams& copy) const {
    return {copy.blockCount, copy.blockLen, copy.dstStride, copy.srcStride, 0};
  }

  __aicore__ inline void PickNarrow(const Packet& packet) {
    step_weights_ = memory_.Get<float>(t.step_weights);
    const int32_t pairs = blocks_[packet.block].pairs;
    for (int32_t i = 0; i < pairs; i += kMaxRepeats) {
      WidenRows(t.weight_format, step_weights_[i * t.weight_pitch],
                NarrowAt(packet.weights, i, packet.scale), static_cast<uint64_t>(t.weight_pitch),
                static_cast<uint8_t>(Smaller(kMaxRepeats, pairs - i)),
                UnaryRepeatParams{1, 1, RowBlocks(), NarrowApart()});
    }
  }

  __aicore__ inline void LoadRun(const Step& step, int32_t i, int32_t run) {
    const int64_t pair = blocks_.Pair(blocks_[step.block], i);
    const int32_t groups = memory_.GroupsOf(step.tile);
    const int32_t lanes = narrow_ ? kLanes16 : kLanes;
    const uint8_t padding = static_cast<uint8_t>(AlignUp(groups, lanes) - groups);
    if (narrow_) {
      DataCopyPad(NarrowAt(step.weights, i, 0), gm_narrow_[Element(pair, step.tile)],
                  Copy<Bits16>(groups, run, NarrowPitch()),
                  DataCopyPadExtParams<Bits16>{padding != 0, 0, padding, 0});
    } else {
      DataCopyPad(At(step.weights, i, 0), gm_weight_[Element(pair, step.tile)],
                  Copy(groups, run, t.weight_pitch),
                  DataCopyPadExtParams<float>{padding != 0, 0, padding, 0.0f});
    }
  }

  const Tiling& t;
  Memory& memory_;
  Blocks& blocks_;
  const bool narrow_;
  GlobalTensor<float> gm_weight_;
  GlobalTensor<Bits16> gm_narrow_;
  LocalTensor<float> weights_, step_weights_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_WEIGHTS_H_
