// The samples of a block in all scales: where their corners are, and the bilinear coefficients.
//
// A sample's geometry is a number in each of some planes, computed for the whole block in vectors.

#ifndef JDA_ASCEND_GEOMETRY_H_
#define JDA_ASCEND_GEOMETRY_H_

#include "blocks.h"
#include "maps.h"

namespace jda_ascend {

class Geometry {
 public:
  __aicore__ inline Geometry(const Tiling& tiling, Memory& memory, Maps& maps, Blocks& blocks)
      : t(tiling), maps_(maps), blocks_(blocks), keeps_(tiling.planes == kBackwardPlanes) {
    planes_ = memory.Get<float>(t.geometry);
    scratch_ = memory.Get<float>(t.scratch);
  }

  // Rows of the geometry of a block, for all of its pairs in all scales; the last ones are there for
  // gradients only.
  enum { kRow, kFlags, kWidth, kBilinear, kSizeY = 7, kSizeX, kFarY, kFarX };

  __aicore__ inline LocalTensor<float> Plane(const Block& block, int32_t plane,
                                             int32_t scale = 0) const {
    const int32_t row = plane * static_cast<int32_t>(t.scales) + scale;
    return planes_[block.buffer * t.planes * static_cast<int32_t>(t.scales) * t.block_pairs +
                   row * block.pitch];
  }

  __aicore__ inline LocalTensor<float> Plane(const Step& step, int32_t plane) const {
    return Plane(blocks_[step.block], plane, step.scale);
  }

  __aicore__ inline void Compute(const Block& block) {
    const int32_t n = static_cast<int32_t>(t.scales) * block.pitch;
    const int32_t both = 2 * n;  // y and x of all samples, one behind the other
    const LocalTensor<float> pixel = scratch_[0], cell = scratch_[both], spare = scratch_[2 * both];
    const LocalTensor<float> size = keeps_ ? Plane(block, kSizeY) : scratch_[4 * both];
    const LocalTensor<float> far = keeps_ ? Plane(block, kFarY) : pixel;
    const LocalTensor<float> near = scratch_[3 * both];
    // What the scalar unit wrote to the tables of maps, and read of an earlier block.
    SetFlag<HardEvent::S_V>(kLookedUpEvent);
    WaitFlag<HardEvent::S_V>(kLookedUpEvent);
    PipeBarrier<PIPE_V>();
    FindSizes(block, size, cell.ReinterpretCast<int32_t>());
    PipeBarrier<PIPE_V>();
    MultiplyByScales(block, pixel, blocks_.OfPairs(Blocks::kY), size);
    MultiplyByScales(block, pixel[n], blocks_.OfPairs(Blocks::kX), size[n]);
    PipeBarrier<PIPE_V>();
    Adds(pixel, pixel, -0.5f, both);
    RoundDown(cell, pixel, spare, both);

    Sub(far, pixel, cell, both);  // the coefficient of the far corner, 1 - far of the near one
    Adds(spare, size, -1.0f, both);
    PipeBarrier<PIPE_V>();
    Muls(near, far, -1.0f, both);
    Min(cell, cell, spare, both);
    PipeBarrier<PIPE_V>();
    Adds(near, near, 1.0f, both);
    Sub(spare, spare, cell, both);
    PipeBarrier<PIPE_V>();
    for (int32_t corner = 0; corner < 4; ++corner) {
      Mul(Plane(block, kBilinear + corner), corner / 2 == 0 ? near : far,
          (corner % 2 == 0 ? near : far)[n], n);
    }
    FindRows(block, cell, spare, keeps_ ? pixel : size, near.ReinterpretCast<int32_t>(), n);
    SetFlag<HardEvent::V_S>(kGeometryEvent + block.buffer);
  }

  // Before the scalar unit reads the geometry of the block.
  __aicore__ inline void Await(const Block& block) {
    WaitFlag<HardEvent::V_S>(kGeometryEvent + block.buffer);
  }

  // The bilinear coefficients of the next samples of the step, each filling a block. True if the
  // packet is the first that needs them.
  __aicore__ inline bool SpreadBilinear(const Packet& packet, const LocalTensor<float>& to) {
    if (packet.first % kSpread != 0) return false;
    const int64_t samples = Smaller(kSpread, blocks_[packet.block].pairs - packet.first);
    const uint8_t repeats = static_cast<uint8_t>((samples + kLanes - 1) / kLanes);
    const int32_t copies = keeps_ ? 1 : 2;
    const uint16_t step = SampleBlocks();
    for (int32_t copy = 0; copy < copies; ++copy) {
      for (int32_t corner = 0; corner < 4; ++corner) {
        Brcb(to[Bilinear(packet, corner / 2, corner % 2, copy)],
             Plane(packet, kBilinear + corner)[packet.first], repeats,
             BrcbRepeatParams{step, static_cast<uint16_t>(kLanes * step)});
      }
    }
    return true;
  }

  // Where SpreadBilinear() put the coefficients of corner (y, x): one block for each sample of the
  // packet. Forward they are as far apart as the rows are in banks, for y = 0, for y = 1 and for the
  // next sample, and the blocks between them are a second copy, in other banks.
  __aicore__ inline uint32_t Bilinear(const Packet& packet, int32_t y, int32_t x,
                                      int32_t copy = 0) const {
    const int32_t i = packet.first % kSpread;
    const int32_t block = keeps_ ? (2 * x + y) * kSpread + i
                                 : x * kColumnBlocks + 2 * (2 * i + y) + copy * (kLanes + 1);
    return static_cast<uint32_t>(block * kLanes);
  }

 private:
  // Blocks from a sample's bilinear coefficients to those of the next one.
  __aicore__ inline uint16_t SampleBlocks() const { return keeps_ ? 1 : 4; }

  // Sizes and rows of the maps that the samples lie in; `size` has y and x.
  __aicore__ inline void FindSizes(const Block& block, const LocalTensor<float>& size,
                                   const LocalTensor<int32_t>& offsets) {
    const int32_t pitch = block.pitch;
    const LocalTensor<int32_t> camera = blocks_.OfPairs(Blocks::kCamera).ReinterpretCast<int32_t>();
    const LocalTensor<int32_t> width = Plane(block, kWidth).ReinterpretCast<int32_t>();
    const uint32_t n = static_cast<uint32_t>(t.scales * pitch);
    for (int32_t scale = 0; scale < t.scales; ++scale) {
      const uint32_t row = static_cast<uint32_t>(scale * pitch);
      Adds(offsets[row], camera, scale * static_cast<int32_t>(sizeof(float)), pitch);
      if (!maps_.same_sizes()) continue;
      Duplicate(size[row], maps_.Table(Maps::kHeight).GetValue(scale), pitch);
      Duplicate(size[n + row], maps_.Table(Maps::kMapWidth).GetValue(scale), pitch);
      Duplicate(width[row], maps_.IntTable(Maps::kIntWidth).GetValue(scale), pitch);
    }
    PipeBarrier<PIPE_V>();
    const LocalTensor<uint32_t> from = offsets.ReinterpretCast<uint32_t>();
    Gather(Plane(block, kRow), maps_.Table(Maps::kFirst), from, 0, n);
    if (maps_.same_sizes()) return;
    Gather(size, maps_.Table(Maps::kHeight), from, 0, n);
    Gather(size[n], maps_.Table(Maps::kMapWidth), from, 0, n);
    Gather(Plane(block, kWidth), maps_.Table(Maps::kIntWidth), from, 0, n);
  }

  // to = by with every scale multiplied by the same row
  __aicore__ inline void MultiplyByScales(const Block& block, const LocalTensor<float>& to,
                                          const LocalTensor<float>& row,
                                          const LocalTensor<float>& by) {
    const int32_t pitch = block.pitch;
    const uint8_t stride = static_cast<uint8_t>(pitch / kLanes);
    for (int32_t i = 0; i < pitch; i += kRepeat) {
      Mul(to[i], row[i], by[i], static_cast<uint64_t>(Smaller(kRepeat, pitch - i)),
          static_cast<uint8_t>(t.scales), BinaryRepeatParams{1, 1, 1, stride, 0, stride});
    }
  }

  // The row of the near corner: first row of the map + y * width + x, in whole numbers. And bits: 1
  // and 2 say that the near and the far rows lie in the map, 4 and 8 that the columns do.
  __aicore__ inline void FindRows(const Block& block, const LocalTensor<float>& cell,
                                  const LocalTensor<float>& beyond, const LocalTensor<float>& bits,
                                  const LocalTensor<int32_t>& whole, int32_t n) {
    const int32_t both = 2 * n;
    const LocalTensor<int32_t> row = Plane(block, kRow).ReinterpretCast<int32_t>();
    const LocalTensor<int32_t> width = Plane(block, kWidth).ReinterpretCast<int32_t>();
    Adds(bits, cell, 1.0f, both);
    Mins(beyond, beyond, 1.0f, both);
    PipeBarrier<PIPE_V>();
    Mins(bits, bits, 1.0f, both);
    Maxs(beyond, beyond, 0.0f, both);
    Cast(whole, cell, RoundMode::CAST_RINT, static_cast<uint32_t>(both));
    PipeBarrier<PIPE_V>();
    Muls(beyond, beyond, 2.0f, both);
    Mul(whole, whole, width, n);
    Add(row, row, whole[n], n);
    PipeBarrier<PIPE_V>();
    Add(bits, bits, beyond, both);
    Add(row, row, whole, n);
    PipeBarrier<PIPE_V>();
    Muls(bits[n], bits[n], 4.0f, n);
    PipeBarrier<PIPE_V>();
    Add(bits, bits, bits[n], n);
    PipeBarrier<PIPE_V>();
    Cast(Plane(block, kFlags).ReinterpretCast<int32_t>(), bits, RoundMode::CAST_RINT,
         static_cast<uint32_t>(n));
  }

  const Tiling& t;
  Maps& maps_;
  Blocks& blocks_;
  const bool keeps_;  // what gradients need
  LocalTensor<float> planes_, scratch_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_GEOMETRY_H_
