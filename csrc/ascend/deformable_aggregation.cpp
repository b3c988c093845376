// Deformable aggregation, forward: every anchor's weighted sum of bilinear samples.

#include "stream.h"

namespace jda_ascend {

class Forward : public Stream<Forward> {
 public:
  __aicore__ inline Forward(const Tiling& tiling, TPipe& pipe, GM_ADDR features, GM_ADDR shapes,
                            GM_ADDR starts, GM_ADDR locations, GM_ADDR weight, GM_ADDR out,
                            GM_ADDR workspace)
      : Stream(tiling, pipe, features, shapes, starts, locations, weight, workspace, true) {
    gm_out_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(out));
    gm_partials_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(workspace + t.partials));
    spread_ = Get<float>(t.spread);
    bilinear_ = Get<float>(t.bilinear);
    samples_ = Get<float>(t.scaled);
    sums_ = Get<float>(t.ring);
    zero_ = Get<float>(t.zero);
    Duplicate(zero_, 0.0f, t.row_pitch);
    Duplicate(sums_, 0.0f, static_cast<int32_t>(sums_.GetSize()));
    PipeBarrier<PIPE_ALL>();
  }

  __aicore__ inline void Run() {
    if (t.pairs == 0) {
      for (int64_t a = core_; a < t.batch * t.anchors; a += t.cores) StoreOut(a, zero_);
      return;
    }
    Share();
    if (begin_ < share_end_) Aggregate();
    if (t.cores > 1) Combine();
  }

  __aicore__ inline void OnChunk() {}
  __aicore__ inline void OnBlock(const Block&) {}
  __aicore__ inline void BeforeWeights(int32_t) {}

  __aicore__ inline void Compute(const Batch& batch) {
    Await(batch);
    if (batch.opens_block) OpenBlock(batch);
    SpreadBilinear(batch, bilinear_);
    ZeroMissing(batch);
    if (batch.opens_step) {
      PickWeights(batch);
      PipeBarrier<PIPE_V>();
    }
    SpreadWeights(batch, spread_);
    PipeBarrier<PIPE_V>();
    const LocalTensor<float> rows = Corners(batch.corners);
    MultiplyByBilinear(batch, rows);
    PipeBarrier<PIPE_V>();
    Add(rows, rows, rows[CornerRow(1, 0, 0)], 2 * batch.count * t.tile_pitch);
    PipeBarrier<PIPE_V>();
    AddNeighbours(samples_, rows, batch.count);
    Release(batch);
    PipeBarrier<PIPE_V>();
    MultiplyByWeights(samples_, samples_, t.tile_pitch, spread_, batch.count);
    PipeBarrier<PIPE_V>();
    Accumulate(batch, samples_);
    ReleaseWeights(batch);
    if (batch.closes_block) CloseBlock(batch);
  }

 private:
  __aicore__ inline void Aggregate() {
    next_out_ = begin_ / t.anchor_pairs;
    SetFlag<HardEvent::MTE3_V>(0);
    SetFlag<HardEvent::MTE3_V>(1);
    Stream::Run(begin_, share_end_, 0, t.tiles);
    StoreEmptyBefore((share_end_ - 1) / t.anchor_pairs + 1);
    WaitFlag<HardEvent::MTE3_V>(0);
    WaitFlag<HardEvent::MTE3_V>(1);
  }

  __aicore__ inline void MultiplyByBilinear(const Batch& batch, const LocalTensor<float>& rows) {
    const uint8_t pitch = static_cast<uint8_t>(t.tile_pitch / kLanes);
    const uint8_t repeats = static_cast<uint8_t>(2 * batch.count);
    for (int32_t y = 0; y < 2; ++y) {
      for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
        const LocalTensor<float> row = rows[CornerRow(y, 0, 0) + c];
        Mul(row, row, bilinear_[Bilinear(batch, y, 0, 0)], Lanes(c), repeats,
            BinaryRepeatParams{1, 1, 0, pitch, pitch, 1});
      }
    }
  }

  // samples[i] = rows[2 i] + rows[2 i + 1]
  __aicore__ inline void AddNeighbours(const LocalTensor<float>& samples,
                                       const LocalTensor<float>& rows, int32_t count) {
    const int32_t pitch = t.tile_pitch / kLanes;
    if (2 * pitch > kMaxRepeats) {  // more than a repeat stride can say
      for (int32_t i = 0; i < count; ++i) {
        const LocalTensor<float> row = rows[2 * i * t.tile_pitch];
        Add(samples[i * t.tile_pitch], row, row[t.tile_pitch], t.tile_pitch);
      }
      return;
    }
    const uint8_t one = static_cast<uint8_t>(pitch), two = static_cast<uint8_t>(2 * pitch);
    for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
      Add(samples[c], rows[c], rows[t.tile_pitch + c], Lanes(c), static_cast<uint8_t>(count),
          BinaryRepeatParams{1, 1, 1, one, two, two});
    }
  }

  // Adds each run of samples to the sum of its anchor. The sum is the second source and stays in
  // place from repeat to repeat.
  __aicore__ inline void Accumulate(const Batch& batch, const LocalTensor<float>& samples) {
    const Block& block = blocks_[batch.block];
    const uint8_t pitch = static_cast<uint8_t>(t.tile_pitch / kLanes);
    int32_t done = batch.first;
    for (int32_t run = 0; run < block.runs; ++run) {
      const int32_t end = static_cast<int32_t>(Smaller(block.end[run], batch.first + batch.count));
      if (end <= done) continue;
      const LocalTensor<float> sum = Sum(block.slot[run])[batch.tile * t.tile_pitch];
      for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
        Add(sum[c], samples[(done - batch.first) * t.tile_pitch + c], sum[c], Lanes(c),
            static_cast<uint8_t>(end - done), BinaryRepeatParams{1, 1, 1, 0, pitch, 0});
      }
      done = end;
    }
  }

  // ---- sums of anchors and where they go

  __aicore__ inline LocalTensor<float> Sum(int32_t slot) const { return sums_[slot * t.row_pitch]; }

  // Sums of anchors that the block is the first to touch start at zero.
  __aicore__ inline void OpenBlock(const Batch& batch) {
    const Block& block = blocks_[batch.block];
    WaitFlag<HardEvent::MTE3_V>(batch.block);
    for (int32_t run = 0; run < block.runs; ++run) {
      if (block.anchor[run] != open_anchor_) Duplicate(Sum(block.slot[run]), 0.0f, t.row_pitch);
    }
  }

  // Stores the anchors that are complete: all but the last, if the next block goes on with it.
  __aicore__ inline void CloseBlock(const Batch& batch) {
    const Block& block = blocks_[batch.block];
    SetFlag<HardEvent::V_MTE3>(batch.block);
    WaitFlag<HardEvent::V_MTE3>(batch.block);
    const int64_t following = AnchorAfter(batch);
    open_anchor_ = block.anchor[block.runs - 1] == following ? following : -1;
    for (int32_t run = 0; run < block.runs; ++run) {
      if (block.anchor[run] == open_anchor_) continue;
      StoreEmptyBefore(block.anchor[run]);
      Store(block.anchor[run], Sum(block.slot[run]));
      next_out_ = block.anchor[run] + 1;
    }
    SetFlag<HardEvent::MTE3_V>(batch.block);
  }

  __aicore__ inline void StoreEmptyBefore(int64_t anchor) {
    for (; next_out_ < anchor; ++next_out_) Store(next_out_, zero_);
  }

  // The sum of an anchor that other cores share goes to the workspace.
  __aicore__ inline void Store(int64_t anchor, const LocalTensor<float>& sum) {
    if (anchor * t.anchor_pairs < begin_) {
      StoreRows(gm_partials_[Partial(core_, 0)], sum, 1, static_cast<int32_t>(t.groups));
    } else if ((anchor + 1) * t.anchor_pairs > share_end_) {
      StoreRows(gm_partials_[Partial(core_, 1)], sum, 1, static_cast<int32_t>(t.groups));
    } else {
      StoreOut(anchor, sum);
    }
  }

  __aicore__ inline void StoreOut(int64_t anchor, const LocalTensor<float>& sum) {
    StoreRows(gm_out_[static_cast<uint64_t>(anchor * t.channels)], sum, 1,
              static_cast<int32_t>(t.groups));
  }

  // The sum of the anchor that began before this core's share (0) or that goes on after it (1).
  __aicore__ inline uint64_t Partial(int32_t core, int32_t which) const {
    return static_cast<uint64_t>((core * 2 + which) * t.channels);
  }

  // The core that has an anchor's first pairs adds what the others found, in their order: results
  // do not depend on timing.
  __aicore__ inline void Combine() {
    StoreSlot(gm_begins_, begin_);
    Meet();
    if (begin_ >= share_end_ || share_end_ % t.anchor_pairs == 0) return;
    const int64_t anchor = share_end_ / t.anchor_pairs;
    if (anchor * t.anchor_pairs < begin_) return;
    LoadSlots(gm_begins_);
    LoadPartial(sums_, core_, 1);
    for (int32_t core = core_ + 1; core < t.cores; ++core) {
      if (Slot(core) >= (anchor + 1) * t.anchor_pairs) break;
      const int64_t end = core + 1 == t.cores ? t.pairs : Slot(core + 1);
      if (Slot(core) == end) continue;
      LoadPartial(Sum(1), core, 0);
      Add(sums_, sums_, Sum(1), t.row_pitch);
    }
    SetFlag<HardEvent::V_MTE3>(0);
    WaitFlag<HardEvent::V_MTE3>(0);
    StoreOut(anchor, sums_);
  }

  __aicore__ inline void LoadPartial(const LocalTensor<float>& to, int32_t core, int32_t which) {
    SetFlag<HardEvent::V_MTE2>(0);
    WaitFlag<HardEvent::V_MTE2>(0);
    LoadRows(to, gm_partials_[Partial(core, which)], 1, static_cast<int32_t>(t.groups));
    SetFlag<HardEvent::MTE2_V>(0);
    WaitFlag<HardEvent::MTE2_V>(0);
  }

  GlobalTensor<float> gm_out_;
  GlobalTensor<float> gm_partials_;
  LocalTensor<float> spread_, bilinear_, samples_, sums_, zero_;
  int64_t next_out_ = 0;      // the first anchor that is not stored yet
  int64_t open_anchor_ = -1;  // whose sum the next block goes on with
};

}  // namespace jda_ascend

extern "C" __global__ __aicore__ void deformable_aggregation(
    GM_ADDR feature_maps, GM_ADDR spatial_shape, GM_ADDR scale_start_index,
    GM_ADDR sample_locations, GM_ADDR weight, GM_ADDR out, GM_ADDR workspace,
    jda_ascend::Tiling tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  AscendC::TPipe pipe;
  jda_ascend::Forward(tiling, pipe, feature_maps, spatial_shape, scale_start_index,
                      sample_locations, weight, out, workspace)
      .Run();
}
