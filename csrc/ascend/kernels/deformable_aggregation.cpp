// Deformable aggregation, forward: every anchor's weighted sum of bilinear samples.

#include "packet_kernel.h"
#include "vector_kernel.h"

namespace jda_ascend {

class Forward : PacketKernel {
 public:
  __aicore__ inline Forward(const Tiling& tiling, TPipe& pipe, const Operands& operands,
                            GM_ADDR out)
      : PacketKernel(tiling, pipe, operands, true), narrow_(tiling.maps_format != kFloat32) {
    gm_rounded_out_.SetGlobalBuffer(reinterpret_cast<__gm__ Bits16*>(out));
    gm_out_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(out));
    gm_partials_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(operands.workspace + t.partials));
    spread_ = memory_.Get<float>(t.spread);
    bilinear_ = memory_.Get<float>(t.bilinear);
    samples_ = memory_.Get<float>(narrow_ ? t.widened : t.scratch);
    sums_ = memory_.Get<float>(t.ring);
    rounded_ = memory_.Get<Bits16>(t.narrow_ring);
    zero_ = memory_.Get<float>(t.zero);
    Duplicate(zero_, 0.0f, t.row_pitch);
    Duplicate(sums_, 0.0f, static_cast<int32_t>(sums_.GetSize()));
    if (narrow_) Duplicate(Rounded(kNoSlot), Bits16(0), t.row_pitch);
  }

  __aicore__ inline void Run() {
    if (t.pairs == 0) {
      StoreNothing();
      return;
    }
    parts_.Prepare(t);
    shares_.Find();
    if (shares_.begin() < shares_.end()) Aggregate();
    if (t.cores > 1) Combine();
  }

  __aicore__ inline void OnStart() {
    SetFlag<HardEvent::MTE3_V>(kSumsEvent);
    SetFlag<HardEvent::MTE3_V>(kSumsEvent + 1);
  }

  __aicore__ inline void OnFinish() {
    WaitFlag<HardEvent::MTE3_V>(kSumsEvent);
    WaitFlag<HardEvent::MTE3_V>(kSumsEvent + 1);
  }

  __aicore__ inline void OnChunk() {}
  __aicore__ inline void OnBlock(const Block&) {}
  __aicore__ inline void BeforeWeights(int32_t) {}

  __aicore__ inline void Compute(const Packet& packet) {
    if (packet.opens_block) OpenBlock(packet);
    const bool spread = geometry_.SpreadBilinear(packet, bilinear_);
    schedule_.Await(packet);
    if (packet.opens_step) weights_.Pick(packet);
    const bool filled = corners_.FillRows(packet);
    // Rows are widened to where the samples before them were summed.
    const bool over = narrow_ && packet.first % t.together == 0;
    if (spread || filled || over) PipeBarrier<PIPE_V>();
    const bool widened = corners_.WidenRows(packet);
    if (widened) {
      schedule_.Release(packet);
      if (!packet.closes_step && (packet.first + packet.count) % t.together != 0) return;
      PipeBarrier<PIPE_V>();
    }
    const LocalTensor<float> rows = corners_.Rows(packet.corners);
    const Packet all = Together(packet);
    AddColumns(all, rows);
    weights_.SpreadByGroup(all, spread_);
    PipeBarrier<PIPE_V>();
    AddRows(rows, all.count);
    if (!widened) schedule_.Release(packet);
    PipeBarrier<PIPE_V>();
    weights_.MultiplyByGroup(samples_, SamplePitch(), spread_, all.count);
    PipeBarrier<PIPE_V>();
    Accumulate(all);
    schedule_.ReleaseWeights(packet);
    if (packet.closes_block) CloseBlock(packet);
  }

 private:
  __aicore__ inline void Aggregate() {
    next_out_ = shares_.begin() / t.anchor_pairs;
    schedule_.Run(*this, shares_.begin(), shares_.end(), 0, t.tiles);
    StoreEmptyBefore((shares_.end() - 1) / t.anchor_pairs + 1);
  }

  // The samples that are computed together, of which this packet has the last.
  __aicore__ inline Packet Together(const Packet& packet) const {
    Packet all = packet;
    all.first = packet.first / t.together * t.together;
    all.count = packet.first + packet.count - all.first;
    return all;
  }

  // In both rows of all samples: near column * its coefficient + far column * its coefficient, in
  // the place of the near column.
  __aicore__ inline void AddColumns(const Packet& packet, const LocalTensor<float>& rows) {
    AddColumn<0>(packet, rows);
    PipeBarrier<PIPE_V>();
    AddColumn<1>(packet, rows);
  }

  // near *= its coefficient, or near += far * its coefficient: of one column, in all rows. Odd and
  // even repeats of a row lie in different banks, and so do the copies of coefficients.
  template <int32_t x>
  __aicore__ inline void AddColumn(const Packet& packet, const LocalTensor<float>& rows) {
    const int32_t pitch = t.upper_pitch / kLanes;
    const int32_t count = 2 * packet.count, at_once = pitch <= kMaxRepeats ? count : 1;
    const uint8_t stride = static_cast<uint8_t>(pitch), repeats = static_cast<uint8_t>(at_once);
    const BinaryRepeatParams strides{1, 1, 0, stride, stride, kCoefficientStep};
    for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
      const LocalTensor<float> coefficients =
          bilinear_[geometry_.Bilinear(packet, 0, x, c / kRepeat % 2 == 0 ? 1 : 0)];
      for (int32_t i = 0; i < count; i += at_once) {
        const LocalTensor<float> near = rows[i * t.upper_pitch + c];
        const LocalTensor<float> coefficient = coefficients[i * kCoefficientStep * kLanes];
        if (x == 0) {
          Mul(near, near, coefficient, memory_.Lanes(c), repeats, strides);
        } else {
          MulAddDst(near, near[t.tile_pitch], coefficient, memory_.Lanes(c), repeats, strides);
        }
      }
    }
  }

  // samples[i] = row of y = 0 + row of y = 1. Widened rows make way for the samples of four times as
  // many: what is written there was read by this instruction or an earlier one.
  __aicore__ inline void AddRows(const LocalTensor<float>& rows, int32_t count) {
    const int32_t from = t.sample_pitch / kLanes;
    if (from > kMaxRepeats) {
      for (int32_t i = 0; i < count; ++i) {
        if (narrow_ && i == 2) PipeBarrier<PIPE_V>();  // the others go where 0 and 1 were read
        Add(samples_[i * SamplePitch()], rows[corners_.Row(0, i, 0)], rows[corners_.Row(1, i, 0)],
            t.tile_pitch);
      }
      return;
    }
    const uint8_t four = static_cast<uint8_t>(from);
    const uint8_t one = static_cast<uint8_t>(SamplePitch() / kLanes);
    for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
      Add(samples_[c], rows[c], rows[corners_.Row(1, 0, 0) + c], memory_.Lanes(c),
          static_cast<uint8_t>(count), BinaryRepeatParams{1, 1, 1, one, four, four});
    }
  }

  // Floats from a sample to the next one, once their rows are added.
  __aicore__ inline int32_t SamplePitch() const { return t.sample_pitch / 4; }

  // Adds each run of samples to the sum of its anchor. The sum is the second source and stays in
  // place from repeat to repeat.
  __aicore__ inline void Accumulate(const Packet& packet) {
    const Block& block = blocks_[packet.block];
    const uint8_t pitch = static_cast<uint8_t>(SamplePitch() / kLanes);
    for (PacketRuns runs(block, packet); runs.Next();) {
      const LocalTensor<float> sum = Sum(block.slot[runs.run])[packet.tile * t.tile_pitch];
      for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
        Add(sum[c], samples_[runs.first * SamplePitch() + c], sum[c], memory_.Lanes(c),
            static_cast<uint8_t>(runs.count), BinaryRepeatParams{1, 1, 1, 0, pitch, 0});
      }
    }
  }

  // ---- sums of anchors and where they go

  static constexpr int32_t kNoSlot = -1;  // zero_, where sums of several cores come together

  __aicore__ inline LocalTensor<float> Sum(int32_t slot) const {
    return slot == kNoSlot ? zero_ : sums_[slot * t.row_pitch];
  }

  // The sum as it is stored, where that is in 16 bits.
  __aicore__ inline LocalTensor<Bits16> Rounded(int32_t slot) const {
    return rounded_[(slot - kNoSlot) * t.row_pitch];
  }

  // Sums of anchors that the block is the first to touch start at zero.
  __aicore__ inline void OpenBlock(const Packet& packet) {
    const Block& block = blocks_[packet.block];
    WaitFlag<HardEvent::MTE3_V>(kSumsEvent + packet.block);
    for (int32_t run = 0; run < block.runs; ++run) {
      if (block.anchor[run] != open_anchor_) Duplicate(Sum(block.slot[run]), 0.0f, t.row_pitch);
    }
  }

  // Stores the anchors that are complete: all but the last, if the next block goes on with it.
  __aicore__ inline void CloseBlock(const Packet& packet) {
    const Block& block = blocks_[packet.block];
    const int64_t following = schedule_.AnchorAfter(packet);
    open_anchor_ = block.anchor[block.runs - 1] == following ? following : -1;
    if (narrow_) RoundSums(block);
    SetFlag<HardEvent::V_MTE3>(kSumsEvent + packet.block);
    WaitFlag<HardEvent::V_MTE3>(kSumsEvent + packet.block);
    for (int32_t run = 0; run < block.runs; ++run) {
      if (block.anchor[run] == open_anchor_) continue;
      StoreEmptyBefore(block.anchor[run]);
      Store(block.anchor[run], block.slot[run]);
      next_out_ = block.anchor[run] + 1;
    }
    SetFlag<HardEvent::MTE3_V>(kSumsEvent + packet.block);
  }

  __aicore__ inline void RoundSums(const Block& block) {
    PipeBarrier<PIPE_V>();
    for (int32_t run = 0; run < block.runs; ++run) {
      if (block.anchor[run] == open_anchor_) continue;
      Round(t.maps_format, Rounded(block.slot[run]), Sum(block.slot[run]), t.row_pitch);
    }
  }

  __aicore__ inline void StoreEmptyBefore(int64_t anchor) {
    for (; next_out_ < anchor; ++next_out_) Store(next_out_, kNoSlot);
  }

  // An anchor that began before this core's share belongs to another core, which finds the sum in
  // the workspace. One that goes on after it waits for the others' sums.
  __aicore__ inline void Store(int64_t anchor, int32_t slot) {
    if (anchor * t.anchor_pairs < shares_.begin()) {
      memory_.StoreRows(gm_partials_[Partial(shares_.core())], Sum(slot), 1,
                        static_cast<int32_t>(t.groups));
    } else if ((anchor + 1) * t.anchor_pairs > shares_.end()) {
      unfinished_ = Sum(slot);
    } else {
      StoreOut(anchor, slot);
    }
  }

  __aicore__ inline void StoreOut(int64_t anchor, int32_t slot) {
    const uint64_t at = static_cast<uint64_t>(anchor * t.channels);
    const int32_t groups = static_cast<int32_t>(t.groups);
    if (narrow_) {
      memory_.StoreRows(gm_rounded_out_[at], Rounded(slot), 1, groups);
    } else {
      memory_.StoreRows(gm_out_[at], Sum(slot), 1, groups);
    }
  }

  __aicore__ inline uint64_t Partial(int32_t core) const {
    return static_cast<uint64_t>(core * AlignUp(t.channels, kLanes));
  }

  // Zeros for every anchor, in ranges of whole blocks.
  __aicore__ inline void StoreNothing() {
    const int64_t all = t.batch * t.anchors * t.channels;
    const int64_t each = AlignUp((all + t.cores - 1) / t.cores, kLanes16);
    const int64_t first = Smaller(shares_.core() * each, all);
    SetFlag<HardEvent::V_MTE3>(kZeroEvent);
    WaitFlag<HardEvent::V_MTE3>(kZeroEvent);
    const int64_t count = Smaller(first + each, all) - first;
    if (narrow_) {
      memory_.StoreZeros(gm_rounded_out_, first, count, zero_.ReinterpretCast<Bits16>());
    } else {
      memory_.StoreZeros(gm_out_, first, count, zero_);
    }
  }

  // The core that has an anchor's first pairs adds what the others found, in their order: results
  // do not depend on timing.
  __aicore__ inline void Combine() {
    shares_.StoreSlot(shares_.gm_begins(), shares_.begin());
    shares_.Meet();
    if (shares_.begin() >= shares_.end() || shares_.end() % t.anchor_pairs == 0) return;
    const int64_t anchor = shares_.end() / t.anchor_pairs;
    if (anchor * t.anchor_pairs < shares_.begin()) return;
    shares_.LoadSlots(shares_.gm_begins(), shares_.core());
    Adds(zero_, unfinished_, 0.0f, t.row_pitch);
    int32_t core = shares_.core() + 1;
    while (core < t.cores && shares_.Slot(core) < (anchor + 1) * t.anchor_pairs)
      AddPartials(anchor, core);
    if (narrow_) {
      PipeBarrier<PIPE_V>();
      Round(t.maps_format, Rounded(kNoSlot), zero_, t.row_pitch);
    }
    SetFlag<HardEvent::V_MTE3>(kCombinedEvent);
    WaitFlag<HardEvent::V_MTE3>(kCombinedEvent);
    StoreOut(anchor, kNoSlot);
  }

  // Adds the sums of `core` and those after it to zero_, as many as the ring holds.
  __aicore__ inline void AddPartials(int64_t anchor, int32_t& core) {
    const int32_t room = 2 * t.block_anchors;
    int32_t held = 0;
    SetFlag<HardEvent::V_MTE2>(kPartialsEvent);
    WaitFlag<HardEvent::V_MTE2>(kPartialsEvent);
    int64_t begin = shares_.Slot(core);
    while (core < t.cores && held < room && begin < (anchor + 1) * t.anchor_pairs) {
      const int64_t end = core + 1 == t.cores ? t.pairs : shares_.Slot(core + 1);
      if (begin < end) {
        memory_.LoadRows(Sum(held++), gm_partials_[Partial(core)], 1,
                         static_cast<int32_t>(t.groups));
      }
      ++core;
      begin = end;
    }
    SetFlag<HardEvent::MTE2_V>(kPartialsEvent);
    WaitFlag<HardEvent::MTE2_V>(kPartialsEvent);
    for (int32_t i = 0; i < held; ++i) {
      PipeBarrier<PIPE_V>();
      Add(zero_, zero_, Sum(i), t.row_pitch);
    }
  }

  static constexpr int32_t kCoefficientStep =
      2;  // blocks, from a row's coefficient to the next one's

  const bool narrow_;  // results have 16 bits
  GlobalTensor<float> gm_out_;
  GlobalTensor<Bits16> gm_rounded_out_;
  GlobalTensor<float> gm_partials_;
  LocalTensor<float> spread_, bilinear_, samples_, sums_, zero_, unfinished_;
  LocalTensor<Bits16> rounded_;
  int64_t next_out_ = 0;      // the first anchor that is not stored yet
  int64_t open_anchor_ = -1;  // whose sum the next block goes on with
};

}  // namespace jda_ascend

JDA_VECTOR_KERNEL void deformable_aggregation(GM_ADDR feature_maps, GM_ADDR spatial_shape,
                                              GM_ADDR scale_start_index, GM_ADDR sample_locations,
                                              GM_ADDR weight, GM_ADDR out, GM_ADDR workspace,
                                              jda_ascend::Tiling tiling) {
  JDA_ON_VECTOR_CORES;
  AscendC::TPipe pipe;
  const jda_ascend::Operands operands{feature_maps,     spatial_shape, scale_start_index,
                                      sample_locations, weight,        workspace};
  jda_ascend::Forward(tiling, pipe, operands, out).Run();
}
