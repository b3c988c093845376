// Deformable aggregation, backward: gradients of the feature maps, the locations and the weights.
//
// With F the features, q the cotangent, w the weight and b the bilinear coefficient of a sample's
// corner (y, x), everything but the gradient of the maps follows from the products of corner rows
// and cotangent, summed over each group: D[y, x, g] = sum over d of F[y, x, g, d] q[g, d].
//   weight:    sum over (y, x) of b[y, x] D[y, x, g]
//   location:  with E[y, x] = sum over g of w[g] D[y, x, g],
//              by x: width  (near_y (E[0,1] - E[0,0]) + far_y (E[1,1] - E[1,0]))
//              by y: height (near_x (E[1,0] - E[0,0]) + far_x (E[1,1] - E[0,1])), near = 1 - far
//   map:       b[y, x] w[g] q[g, d] added to row (y, x)

#include "stream.h"
#include "vector_kernel.h"

namespace jda_ascend {

class Backward : public Stream<Backward> {
 public:
  __aicore__ inline Backward(const Tiling& tiling, TPipe& pipe, GM_ADDR features, GM_ADDR shapes,
                             GM_ADDR starts, GM_ADDR locations, GM_ADDR weight, GM_ADDR cotangent,
                             GM_ADDR grad_features, GM_ADDR grad_locations, GM_ADDR grad_weight,
                             GM_ADDR workspace)
      : Stream(tiling, pipe, features, shapes, starts, locations, weight, workspace,
               grad_locations != nullptr || grad_weight != nullptr),
        wants_features_(grad_features != nullptr),
        wants_locations_(grad_locations != nullptr),
        wants_weight_(grad_weight != nullptr) {
    gm_cotangent_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(cotangent));
    gm_grad_features_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(grad_features));
    gm_grad_locations_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(grad_locations));
    gm_grad_weight_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(grad_weight));
    spread_ = Get<float>(t.spread);
    bilinear_ = Get<float>(t.bilinear);
    cotangents_ = Get<float>(t.ring);
    zero_ = Get<float>(t.zero);
    gradients_ = Get<float>(t.gradients);
    scaled_ = Get<float>(t.scratch);
    dots_ = Get<float>(t.dots);
    products_ = Get<float>(t.dots_scratch);
    edges_ = Get<float>(t.edges);
    location_ = Get<float>(t.location_gradient);
    location_rows_ = Get<float>(t.location_rows);
    Clear(zero_);
    Clear(cotangents_);
    if (wants_corners_) {
      Clear(dots_);
      Clear(products_);
      Clear(edges_);
    }
  }

  __aicore__ inline void Run() {
    if (t.pairs == 0) return;
    Prepare();
    if (t.deterministic != 0) {
      RunOwnChannels();
      return;
    }
    Share();
    if (begin_ < share_end_) Stream::Run(begin_, share_end_, 0, t.tiles);
  }

  __aicore__ inline void OnStart() {
    newest_cotangent_ = -1;
    if (wants_weight_) {
      SetFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent);
      SetFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent + 1);
    }
    if (wants_locations_) SetFlag<HardEvent::MTE3_V>(kLocationGradientEvent);
    if (wants_features_) SetFlag<HardEvent::MTE3_V>(kFeatureGradientEvent);
  }

  __aicore__ inline void OnFinish() {
    if (wants_weight_) {
      WaitFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent);
      WaitFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent + 1);
    }
    if (wants_locations_) WaitFlag<HardEvent::MTE3_V>(kLocationGradientEvent);
    if (wants_features_) WaitFlag<HardEvent::MTE3_V>(kFeatureGradientEvent);
  }

  // Gradients of what is not visible are zero.
  __aicore__ inline void OnChunk() {
    if (visible_ == chunk_pairs_) return;
    const int64_t weights = t.scales * t.groups;
    if (wants_weight_) StoreZeros(gm_grad_weight_, chunk_ * weights, chunk_pairs_ * weights, zero_);
    if (wants_locations_) StoreZeros(gm_grad_locations_, chunk_ * 2, chunk_pairs_ * 2, zero_);
    PipeBarrier<PIPE_MTE3>();  // gradients of the visible pairs go to the same places
  }

  __aicore__ inline void OnBlock(const Block& block) {
    for (int32_t run = 0; run < block.runs; ++run) {
      if (block.anchor[run] == newest_cotangent_) continue;
      newest_cotangent_ = block.anchor[run];
      LoadRows(Cotangent(block, run, 0),
               gm_cotangent_[static_cast<uint64_t>(newest_cotangent_ * t.channels)], 1,
               static_cast<int32_t>(t.groups));
    }
  }

  __aicore__ inline void BeforeWeights(int32_t buffer) {
    if (wants_weight_) WaitFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent + buffer);
  }

  __aicore__ inline void Compute(const Batch& batch) {
    Await(batch);
    PipeBarrier<PIPE_V>();  // what used the buffers before
    if (batch.opens_block && wants_corners_) Clear(location_);
    SpreadBilinear(batch, bilinear_, 1);
    if (batch.opens_step) PickWeights(batch);
    if (wants_features_) FeatureGradient(batch);
    if (wants_corners_) {
      GroupProducts(batch);
      if (wants_locations_) WeightedSums(batch);
      if (wants_weight_) WeightGradient(batch);
      if (wants_locations_ && batch.closes_step) AddLocationGradient(batch);
    }
    if (wants_weight_ && batch.closes_tile) StoreWeightGradient(batch);
    Release(batch);
    ReleaseWeights(batch);
    if (wants_locations_ && batch.closes_block) StoreLocationGradient(batch);
  }

 private:
  __aicore__ inline void Clear(const LocalTensor<float>& area) {
    Duplicate(area, 0.0f, static_cast<int32_t>(area.GetSize()));
  }

  // Cores own groups of channels of a batch item: rows of the gradient are added to by one core
  // only, in the order of the samples.
  __aicore__ inline void RunOwnChannels() {
    const int64_t item_pairs = t.anchors * t.anchor_pairs;
    for (int64_t unit = core_; unit < t.batch * t.tiles; unit += t.cores) {
      const int64_t item = unit / t.tiles;
      const int32_t tile = static_cast<int32_t>(unit % t.tiles);
      Stream::Run(item * item_pairs, (item + 1) * item_pairs, tile, tile + 1);
    }
  }

  // A tile of the cotangent of the anchor of a run.
  __aicore__ inline LocalTensor<float> Cotangent(const Block& block, int32_t run,
                                                 int32_t tile) const {
    return cotangents_[block.slot[run] * t.row_pitch + tile * t.tile_pitch];
  }

  // ---- feature maps

  __aicore__ inline void FeatureGradient(const Batch& batch) {
    PipeBarrier<PIPE_V>();  // weights
    SpreadWeights(batch, spread_);
    PipeBarrier<PIPE_V>();
    const Block& block = blocks_[batch.block];
    int32_t done = batch.first;
    for (int32_t run = 0; run < block.runs; ++run) {
      const int32_t end = static_cast<int32_t>(Smaller(block.end[run], batch.first + batch.count));
      if (end <= done) continue;
      const int32_t i = done - batch.first;
      MultiplyByWeights(scaled_[i * t.tile_pitch], Cotangent(block, run, batch.tile), 0,
                        spread_[i * t.weight_pitch * kLanes], end - done);
      done = end;
    }
    PipeBarrier<PIPE_V>();
    WaitFlag<HardEvent::MTE3_V>(kFeatureGradientEvent);
    const LocalTensor<float> rows = gradients_;
    for (int32_t corner = 0; corner < 4; ++corner) {
      MultiplyByCoefficient(rows[CornerRow(corner / 2, 0, corner % 2)],
                            bilinear_[Bilinear(batch, corner / 2, corner % 2)], batch.count);
    }
    SetFlag<HardEvent::V_MTE3>(kFeatureGradientEvent);
    WaitFlag<HardEvent::V_MTE3>(kFeatureGradientEvent);
    AddToFeatures(batch, rows);
    SetFlag<HardEvent::MTE3_V>(kFeatureGradientEvent);
  }

  // to[2 i] = scaled[i] * coefficient[i]
  __aicore__ inline void MultiplyByCoefficient(const LocalTensor<float>& to,
                                               const LocalTensor<float>& coefficient,
                                               int32_t count) {
    const int32_t pitch = t.tile_pitch / kLanes;
    const bool at_once = 2 * pitch <= kMaxRepeats;  // what a repeat stride can say
    const int32_t calls = at_once ? 1 : count;
    const uint8_t repeats = static_cast<uint8_t>(at_once ? count : 1);
    const uint8_t one = static_cast<uint8_t>(pitch), two = static_cast<uint8_t>(2 * pitch);
    for (int32_t i = 0; i < calls; ++i) {
      for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
        Mul(to[2 * i * t.tile_pitch + c], scaled_[i * t.tile_pitch + c], coefficient[i * kLanes],
            Lanes(c), repeats, BinaryRepeatParams{1, 1, 0, two, one, 1});
      }
    }
  }

  __aicore__ inline void AddToFeatures(const Batch& batch, const LocalTensor<float>& rows) {
    const int64_t item = blocks_[batch.block].batch;
    SetAtomicAdd<float>();
    TwoPlaces two{};
    for (int32_t i = 0; i < batch.count; ++i) {
      const Place place = PlaceOf(batch, item, i, two);
      const int64_t gap = RowGap(place);
      if (t.deterministic != 0) PipeBarrier<PIPE_MTE3>();
      if (gap >= 0) {
        AddInside(place, rows, i, gap);
      } else {
        AddAtBorder(place, rows, i, batch.tile);
      }
    }
    SetAtomicNone();
  }

  __aicore__ inline void AddInside(const Place& place, const LocalTensor<float>& rows, int32_t i,
                                   int64_t gap) {
    const uint32_t bytes = static_cast<uint32_t>(2 * t.channels * sizeof(float));
    DataCopyPad(gm_grad_features_[Element(place, 0, 0, 0)], rows[CornerRow(0, i, 0)],
                DataCopyExtParams{2, bytes, RowsApart(), static_cast<uint32_t>(gap), 0});
  }

  __aicore__ inline void AddAtBorder(const Place& place, const LocalTensor<float>& rows, int32_t i,
                                     int32_t tile) {
    const int32_t groups = GroupsOf(tile);
    const bool both = whole_rows_ && (place.flags & 12) == 12;
    for (int32_t y = 0; y < 2; ++y) {
      if ((place.flags >> y & 1) == 0) continue;
      for (int32_t x = 0; x < 2; ++x) {
        if ((place.flags >> (2 + x) & 1) == 0 || (both && x == 1)) continue;
        StoreRows(gm_grad_features_[Element(place, tile, y, x)], rows[CornerRow(y, i, x)],
                  both ? 2 : 1, groups);
      }
    }
  }

  // ---- weights and locations

  __aicore__ inline uint32_t DotRow(int32_t y, int32_t i, int32_t x) const {
    return static_cast<uint32_t>((y * t.samples + i) * 2 + x) * t.weight_pitch;
  }

  // D of all corners of the batch in dots_.
  __aicore__ inline void GroupProducts(const Batch& batch) {
    const LocalTensor<float> rows = Corners(batch.corners);
    FillRows(batch);
    PipeBarrier<PIPE_V>();
    MultiplyByCotangent(batch, rows);
    PipeBarrier<PIPE_V>();
    for (int32_t c = 0; c < t.group_pitch; c += kRepeat) {
      for (int32_t y = 0; y < 2; ++y) {
        SumGroups((c == 0 ? dots_ : products_)[DotRow(y, 0, 0)], rows[CornerRow(y, 0, 0) + c],
                  static_cast<int32_t>(Smaller(kRepeat, t.group_pitch - c)), 2 * batch.count);
      }
      PipeBarrier<PIPE_V>();
      if (c == 0) continue;
      Add(dots_, dots_, products_, 4 * t.samples * t.weight_pitch);
      PipeBarrier<PIPE_V>();
    }
  }

  __aicore__ inline void MultiplyByCotangent(const Batch& batch, const LocalTensor<float>& rows) {
    const Block& block = blocks_[batch.block];
    const uint8_t pitch = static_cast<uint8_t>(t.tile_pitch / kLanes);
    int32_t done = batch.first;
    for (int32_t run = 0; run < block.runs; ++run) {
      const int32_t end = static_cast<int32_t>(Smaller(block.end[run], batch.first + batch.count));
      if (end <= done) continue;
      const LocalTensor<float> cotangent = Cotangent(block, run, batch.tile);
      const uint8_t repeats = static_cast<uint8_t>(2 * (end - done));
      for (int32_t y = 0; y < 2; ++y) {
        for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
          const LocalTensor<float> row = rows[CornerRow(y, done - batch.first, 0) + c];
          Mul(row, row, cotangent[c], Lanes(c), repeats,
              BinaryRepeatParams{1, 1, 1, pitch, pitch, 0});
        }
      }
      done = end;
    }
  }

  // The sums of `lanes` floats of every group of the rows.
  __aicore__ inline void SumGroups(const LocalTensor<float>& to, const LocalTensor<float>& rows,
                                   int32_t lanes, int32_t count) {
    const int32_t pitch = t.group_pitch / kLanes;
    const bool packed = t.weight_pitch == t.tile_groups;
    const int32_t rows_at_once =
        packed ? static_cast<int32_t>(Smaller(count, kMaxRepeats / t.tile_groups)) : 1;
    for (int32_t i = 0; i < count; i += rows_at_once) {
      const int32_t now = static_cast<int32_t>(Smaller(rows_at_once, count - i));
      WholeReduceSum(to[i * t.weight_pitch], rows[i * t.tile_pitch], lanes, now * t.tile_groups, 1,
                     1, pitch);
    }
  }

  // E of the batch, into its place among those of the block.
  __aicore__ inline void WeightedSums(const Batch& batch) {
    const LocalTensor<float> weights = step_weights_[batch.first * t.weight_pitch];
    const int32_t groups = GroupsOf(batch.tile);
    const uint8_t pitch = static_cast<uint8_t>(t.weight_pitch / kLanes);
    const uint8_t two = static_cast<uint8_t>(2 * pitch);
    for (int32_t corner = 0; corner < 4; ++corner) {
      const uint32_t row = DotRow(corner / 2, 0, corner % 2);
      Mul(products_[row], dots_[row], weights, static_cast<uint64_t>(groups),
          static_cast<uint8_t>(batch.count), BinaryRepeatParams{1, 1, 1, two, two, pitch});
    }
    PipeBarrier<PIPE_V>();
    for (int32_t corner = 0; corner < 4; ++corner) {
      WholeReduceSum(edges_[corner * plane_ + batch.first],
                     products_[DotRow(corner / 2, 0, corner % 2)], groups, batch.count, 1, 1, two);
    }
    PipeBarrier<PIPE_V>();
  }

  // Takes the place of the weights themselves, which nothing reads after this.
  __aicore__ inline void WeightGradient(const Batch& batch) {
    const LocalTensor<float> weights = Weights(batch.weights, batch.first, batch.scale);
    const uint8_t apart = static_cast<uint8_t>(t.scales * t.weight_pitch / kLanes);
    const uint64_t lanes = static_cast<uint64_t>(t.weight_pitch);
    const uint8_t pitch = static_cast<uint8_t>(t.weight_pitch / kLanes);
    const uint8_t two = static_cast<uint8_t>(2 * pitch);
    for (int32_t corner = 0; corner < 4; ++corner) {
      const uint32_t row = DotRow(corner / 2, 0, corner % 2);
      Mul(products_[row], dots_[row], bilinear_[Bilinear(batch, corner / 2, corner % 2)], lanes,
          static_cast<uint8_t>(batch.count), BinaryRepeatParams{1, 1, 0, two, two, 1});
    }
    PipeBarrier<PIPE_V>();
    Add(products_, products_, products_[DotRow(1, 0, 0)], 2 * batch.count * t.weight_pitch);
    PipeBarrier<PIPE_V>();
    Add(weights, products_, products_[t.weight_pitch], lanes, static_cast<uint8_t>(batch.count),
        BinaryRepeatParams{1, 1, 1, apart, two, two});
  }

  __aicore__ inline void StoreWeightGradient(const Batch& batch) {
    const Block& block = blocks_[batch.block];
    const int32_t groups = GroupsOf(batch.tile);
    SetFlag<HardEvent::V_MTE3>(kStoredWeightsEvent + batch.weights);
    WaitFlag<HardEvent::V_MTE3>(kStoredWeightsEvent + batch.weights);
    for (int32_t i = 0; i < block.pairs;) {
      const int32_t run = RunOfPairs(block, i, block.pairs);
      DataCopyExtParams copy = WeightCopy(groups, run);
      const uint32_t others = copy.srcStride;  // the other way round from UB to GM
      copy.srcStride = copy.dstStride;
      copy.dstStride = others;
      DataCopyPad(gm_grad_weight_[WeightElement(Pair(block, i), batch.tile)],
                  Weights(batch.weights, i, 0), copy);
      i += run;
    }
    SetFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent + batch.weights);
  }

  // Adds what one scale gives, for all pairs of the block.
  __aicore__ inline void AddLocationGradient(const Batch& batch) {
    const int32_t n = blocks_[batch.block].pitch;
    const LocalTensor<float> e00 = edges_[0], e01 = edges_[plane_];
    const LocalTensor<float> e10 = edges_[2 * plane_], e11 = edges_[3 * plane_];
    const LocalTensor<float> near = scratch_[0], far = scratch_[2 * plane_];
    Sub(near, e10, e00, n);  // by y, where x is near; then by x, where y is near
    Sub(near[plane_], e01, e00, n);
    Sub(far, e11, e01, n);
    Sub(far[plane_], e11, e10, n);
    PipeBarrier<PIPE_V>();
    Sub(far, far, near, n);
    Sub(far[plane_], far[plane_], near[plane_], n);
    PipeBarrier<PIPE_V>();
    Mul(far, far, Geometry(batch, kFarX), n);
    Mul(far[plane_], far[plane_], Geometry(batch, kFarY), n);
    PipeBarrier<PIPE_V>();
    Add(near, near, far, n);
    Add(near[plane_], near[plane_], far[plane_], n);
    PipeBarrier<PIPE_V>();
    Mul(near, near, Geometry(batch, kSizeY), n);
    Mul(near[plane_], near[plane_], Geometry(batch, kSizeX), n);
    PipeBarrier<PIPE_V>();
    Add(location_, location_, near, n);
    Add(location_[plane_], location_[plane_], near[plane_], n);
  }

  // Every pair's gradient starts a block of its own, so that it can go to its place in GM.
  __aicore__ inline void StoreLocationGradient(const Batch& batch) {
    const Block& block = blocks_[batch.block];
    const LocalTensor<float> by_y = location_rows_[0], by_x = location_rows_[plane_ * kLanes];
    const uint8_t repeats = static_cast<uint8_t>(plane_ / kLanes);
    uint64_t x_lanes[2] = {t.y_axis == 0 ? 0xaaaaaaaaaaaaaaaaULL : 0x5555555555555555ULL, 0};
    PipeBarrier<PIPE_V>();
    WaitFlag<HardEvent::MTE3_V>(kLocationGradientEvent);
    Brcb(by_y, location_, repeats, BrcbRepeatParams{1, kLanes});
    Brcb(by_x, location_[plane_], repeats, BrcbRepeatParams{1, kLanes});
    PipeBarrier<PIPE_V>();
    Adds(by_y, by_x, 0.0f, x_lanes, repeats, UnaryRepeatParams{1, 1, kLanes, kLanes});
    SetFlag<HardEvent::V_MTE3>(kLocationGradientEvent);
    WaitFlag<HardEvent::V_MTE3>(kLocationGradientEvent);
    for (int32_t i = 0; i < block.pairs;) {
      const int32_t run = RunOfPairs(block, i, block.pairs);
      DataCopyPad(gm_grad_locations_[static_cast<uint64_t>(2 * Pair(block, i))], by_y[i * kLanes],
                  DataCopyExtParams{static_cast<uint16_t>(run), 2 * sizeof(float), 0, 0, 0});
      i += run;
    }
    SetFlag<HardEvent::MTE3_V>(kLocationGradientEvent);
  }

  bool wants_features_, wants_locations_, wants_weight_;
  GlobalTensor<float> gm_cotangent_, gm_grad_features_, gm_grad_locations_, gm_grad_weight_;
  LocalTensor<float> spread_, bilinear_, cotangents_, zero_, gradients_, scaled_;
  LocalTensor<float> dots_, products_, edges_, location_, location_rows_;
  int64_t newest_cotangent_ = -1;  // the last anchor whose cotangent was loaded
};

}  // namespace jda_ascend

// A gradient that is not wanted is null. grad_feature_maps is added to: the host clears it.
JDA_VECTOR_KERNEL void deformable_aggregation_grad(GM_ADDR feature_maps, GM_ADDR spatial_shape,
                                                   GM_ADDR scale_start_index,
                                                   GM_ADDR sample_locations, GM_ADDR weight,
                                                   GM_ADDR cotangent, GM_ADDR grad_feature_maps,
                                                   GM_ADDR grad_sample_locations,
                                                   GM_ADDR grad_weight, GM_ADDR workspace,
                                                   jda_ascend::Tiling tiling) {
  JDA_ON_VECTOR_CORES;
  AscendC::TPipe pipe;
  jda_ascend::Backward(tiling, pipe, feature_maps, spatial_shape, scale_start_index,
                       sample_locations, weight, cotangent, grad_feature_maps,
                       grad_sample_locations, grad_weight, workspace)
      .Run();
}
