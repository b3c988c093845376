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

#include "feature_gradient.h"
#include "packet_kernel.h"
#include "rounding.h"
#include "vector_kernel.h"

namespace jda_ascend {

class Backward : PacketKernel {
 public:
  __aicore__ inline Backward(const Tiling& tiling, TPipe& pipe, const Operands& operands,
                             const Gradients& gradients)
      : PacketKernel(tiling, pipe, operands,
                     gradients.sample_locations != nullptr || gradients.weight != nullptr),
        wants_features_(gradients.feature_maps != nullptr),
        wants_locations_(gradients.sample_locations != nullptr),
        wants_weight_(gradients.weight != nullptr),
        wants_products_(wants_locations_ || wants_weight_),
        cotangents_(tiling, parts_.memory, gradients.cotangent),
        narrow_weight_(tiling.weight_format != kFloat32),
        keeps_sums_(wants_features_ && tiling.maps_format != kFloat32),
        features_(tiling, parts_, cotangents_,
                  keeps_sums_ ? operands.workspace + t.sums : gradients.feature_maps,
                  keeps_sums_ && wants_products_),
        rounding_(tiling, memory_, shares_.core(), operands.workspace, gradients.feature_maps) {
    gm_grad_locations_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(gradients.sample_locations));
    gm_grad_weight_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(gradients.weight));
    gm_narrow_grad_weight_.SetGlobalBuffer(reinterpret_cast<__gm__ Bits16*>(gradients.weight));
    bilinear_ = memory_.Get<float>(t.bilinear);
    zero_ = memory_.Get<float>(t.zero);
    scratch_ = memory_.Get<float>(t.scratch);
    Clear(zero_);
    cotangents_.Clear();
    dots_ = memory_.Get<float>(t.dots);
    products_ = memory_.Get<float>(t.dots_scratch);
    edges_ = memory_.Get<float>(t.edges);
    location_ = memory_.Get<float>(t.location_gradient);
    location_rows_ = memory_.Get<float>(t.location_rows);
    if (wants_products_) {
      Clear(dots_);
      Clear(products_);
      Clear(edges_);
    }
  }

  __aicore__ inline void Run() {
    if (t.pairs != 0) FindGradients();
    if (!keeps_sums_) return;
    if (t.cores > 1) shares_.Meet();
    rounding_.Run();
  }

  __aicore__ inline void OnStart() {
    cotangents_.Start();
    SetFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent);
    SetFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent + 1);
    SetFlag<HardEvent::MTE3_V>(kLocationGradientEvent);
    features_.Start();
  }

  __aicore__ inline void OnFinish() {
    WaitFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent);
    WaitFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent + 1);
    WaitFlag<HardEvent::MTE3_V>(kLocationGradientEvent);
    features_.Finish();
  }

  // Gradients of what is not visible are zero.
  __aicore__ inline void OnChunk() {
    if (blocks_.visible() == locations_.chunk_pairs()) return;
    const int64_t weights = t.scales * t.groups;
    const int64_t first = locations_.chunk() * weights, count = locations_.chunk_pairs() * weights;
    if (wants_weight_ && narrow_weight_) {
      memory_.StoreZeros(gm_narrow_grad_weight_, first, count, zero_.ReinterpretCast<Bits16>());
    } else if (wants_weight_) {
      memory_.StoreZeros(gm_grad_weight_, first, count, zero_);
    }
    if (wants_locations_)
      memory_.StoreZeros(gm_grad_locations_, locations_.chunk() * 2, locations_.chunk_pairs() * 2,
                         zero_);
    PipeBarrier<PIPE_MTE3>();  // gradients of the visible pairs go to the same places
  }

  __aicore__ inline void OnBlock(const Block& block) { cotangents_.Load(block); }

  __aicore__ inline void BeforeWeights(int32_t buffer) {
    if (wants_weight_) WaitFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent + buffer);
  }

  __aicore__ inline void Compute(const Packet& packet) {
    schedule_.Await(packet);
    PipeBarrier<PIPE_V>();  // what used the buffers before
    if (packet.opens_block && wants_products_) Clear(location_);
    if (packet.opens_block) cotangents_.WidenRows(blocks_[packet.block]);
    geometry_.SpreadBilinear(packet, bilinear_);
    if (packet.opens_step) weights_.Pick(packet);
    if (wants_features_) features_.Add(packet);
    if (wants_products_) {
      GroupProducts(packet);
      if (wants_locations_) WeightedSums(packet);
      if (wants_weight_) WeightGradient(packet);
      if (wants_locations_ && packet.closes_step) AddLocationGradient(packet);
    }
    if (wants_weight_ && packet.closes_tile) StoreWeightGradient(packet);
    schedule_.Release(packet);
    schedule_.ReleaseWeights(packet);
    if (wants_locations_ && packet.closes_block) StoreLocationGradient(packet);
  }

 private:
  __aicore__ inline void FindGradients() {
    parts_.Prepare(t);
    if (t.deterministic != 0) {
      RunOwnChannels();
      return;
    }
    shares_.Find();
    if (shares_.begin() < shares_.end())
      schedule_.Run(*this, shares_.begin(), shares_.end(), 0, t.tiles);
  }

  __aicore__ inline void Clear(const LocalTensor<float>& area) {
    Duplicate(area, 0.0f, static_cast<int32_t>(area.GetSize()));
  }

  // Cores own groups of channels of a batch element: rows of the gradient are added to by one core
  // only, in the order of the samples.
  __aicore__ inline void RunOwnChannels() {
    const int64_t element_pairs = t.anchors * t.anchor_pairs;
    for (int64_t unit = shares_.core(); unit < t.batch * t.tiles; unit += t.cores) {
      const int64_t element = unit / t.tiles;
      const int32_t tile = static_cast<int32_t>(unit % t.tiles);
      schedule_.Run(*this, element * element_pairs, (element + 1) * element_pairs, tile, tile + 1);
    }
  }

  __aicore__ inline uint32_t DotRow(int32_t y, int32_t i, int32_t x) const {
    return static_cast<uint32_t>((y * t.samples + i) * 2 + x) * t.weight_pitch;
  }

  // D of all corners of the packet in dots_.
  __aicore__ inline void GroupProducts(const Packet& packet) {
    corners_.FillRows(packet);
    PipeBarrier<PIPE_V>();
    if (keeps_sums_) corners_.WidenTo(features_.Turn());
    if (corners_.WidenRows(packet)) PipeBarrier<PIPE_V>();
    const LocalTensor<float> rows = corners_.Rows(packet.corners);
    MultiplyByCotangent(packet, rows);
    PipeBarrier<PIPE_V>();
    for (int32_t c = 0; c < t.group_pitch; c += kRepeat) {
      for (int32_t y = 0; y < 2; ++y) {
        SumGroups((c == 0 ? dots_ : products_)[DotRow(y, 0, 0)], rows[corners_.Row(y, 0, 0) + c],
                  static_cast<int32_t>(Smaller(kRepeat, t.group_pitch - c)), 2 * packet.count);
      }
      PipeBarrier<PIPE_V>();
      if (c == 0) continue;
      Add(dots_, dots_, products_, 4 * t.samples * t.weight_pitch);
      PipeBarrier<PIPE_V>();
    }
  }

  __aicore__ inline void MultiplyByCotangent(const Packet& packet, const LocalTensor<float>& rows) {
    const Block& block = blocks_[packet.block];
    const uint8_t pitch = static_cast<uint8_t>(t.tile_pitch / kLanes);
    for (PacketRuns runs(block, packet); runs.Next();) {
      const LocalTensor<float> cotangent = cotangents_.Of(block, runs.run, packet.tile);
      const uint8_t repeats = static_cast<uint8_t>(2 * runs.count);
      for (int32_t y = 0; y < 2; ++y) {
        for (int32_t c = 0; c < t.tile_pitch; c += kRepeat) {
          const LocalTensor<float> row = rows[corners_.Row(y, runs.first, 0) + c];
          Mul(row, row, cotangent[c], memory_.Lanes(c), repeats,
              BinaryRepeatParams{1, 1, 1, pitch, pitch, 0});
        }
      }
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

  // E of the packet, into its place among those of the block.
  __aicore__ inline void WeightedSums(const Packet& packet) {
    const LocalTensor<float> weights = weights_.OfStep()[packet.first * t.weight_pitch];
    const int32_t groups = memory_.GroupsOf(packet.tile);
    const uint8_t pitch = static_cast<uint8_t>(t.weight_pitch / kLanes);
    const uint8_t two = static_cast<uint8_t>(2 * pitch);
    for (int32_t corner = 0; corner < 4; ++corner) {
      const uint32_t row = DotRow(corner / 2, 0, corner % 2);
      Mul(products_[row], dots_[row], weights, static_cast<uint64_t>(groups),
          static_cast<uint8_t>(packet.count), BinaryRepeatParams{1, 1, 1, two, two, pitch});
    }
    PipeBarrier<PIPE_V>();
    for (int32_t corner = 0; corner < 4; ++corner) {
      WholeReduceSum(edges_[corner * t.block_pairs + packet.first],
                     products_[DotRow(corner / 2, 0, corner % 2)], groups, packet.count, 1, 1, two);
    }
    PipeBarrier<PIPE_V>();
  }

  // Takes the place of the weights themselves, which nothing reads after this.
  __aicore__ inline void WeightGradient(const Packet& packet) {
    const uint64_t lanes = static_cast<uint64_t>(t.weight_pitch);
    const uint8_t pitch = static_cast<uint8_t>(t.weight_pitch / kLanes);
    const uint8_t two = static_cast<uint8_t>(2 * pitch);
    for (int32_t corner = 0; corner < 4; ++corner) {
      const uint32_t row = DotRow(corner / 2, 0, corner % 2);
      Mul(products_[row], dots_[row], bilinear_[geometry_.Bilinear(packet, corner / 2, corner % 2)],
          lanes, static_cast<uint8_t>(packet.count), BinaryRepeatParams{1, 1, 0, two, two, 1});
    }
    PipeBarrier<PIPE_V>();
    Add(products_, products_, products_[DotRow(1, 0, 0)], 2 * packet.count * t.weight_pitch);
    PipeBarrier<PIPE_V>();
    weights_.Replace(packet, products_, products_[t.weight_pitch], 2);
  }

  __aicore__ inline void StoreWeightGradient(const Packet& packet) {
    const Block& block = blocks_[packet.block];
    SetFlag<HardEvent::V_MTE3>(kStoredWeightsEvent + packet.weights);
    WaitFlag<HardEvent::V_MTE3>(kStoredWeightsEvent + packet.weights);
    for (int32_t i = 0; i < block.pairs;) {
      const int32_t run = blocks_.RunOfPairs(block, i, block.pairs);
      weights_.StoreRun(gm_grad_weight_, gm_narrow_grad_weight_, packet, i, run);
      i += run;
    }
    SetFlag<HardEvent::MTE3_MTE2>(kWeightGradientEvent + packet.weights);
  }

  // Adds what one scale gives, for all pairs of the block.
  __aicore__ inline void AddLocationGradient(const Packet& packet) {
    const int32_t n = blocks_[packet.block].pitch;
    const int32_t both = 2 * t.block_pairs;  // axes
    const LocalTensor<float> e00 = edges_[0], e01 = edges_[t.block_pairs];
    const LocalTensor<float> e10 = edges_[2 * t.block_pairs], e11 = edges_[3 * t.block_pairs];
    const LocalTensor<float> near = scratch_[0], far = scratch_[2 * t.block_pairs];
    Sub(near, e10, e00, n);  // by y, where x is near; then by x, where y is near
    Sub(near[t.block_pairs], e01, e00, n);
    Sub(far, e11, e01, n);
    Sub(far[t.block_pairs], e11, e10, n);
    PipeBarrier<PIPE_V>();
    for (int32_t at = 0; at < both; at += t.block_pairs) Sub(far[at], far[at], near[at], n);
    PipeBarrier<PIPE_V>();
    Mul(far, far, geometry_.Plane(packet, Geometry::kFarX), n);
    Mul(far[t.block_pairs], far[t.block_pairs], geometry_.Plane(packet, Geometry::kFarY), n);
    PipeBarrier<PIPE_V>();
    for (int32_t at = 0; at < both; at += t.block_pairs) Add(near[at], near[at], far[at], n);
    PipeBarrier<PIPE_V>();
    Mul(near, near, geometry_.Plane(packet, Geometry::kSizeY), n);
    Mul(near[t.block_pairs], near[t.block_pairs], geometry_.Plane(packet, Geometry::kSizeX), n);
    PipeBarrier<PIPE_V>();
    for (int32_t at = 0; at < both; at += t.block_pairs)
      Add(location_[at], location_[at], near[at], n);
  }

  // Every pair's gradient starts a block of its own, so that it can go to its place in GM.
  __aicore__ inline void StoreLocationGradient(const Packet& packet) {
    const Block& block = blocks_[packet.block];
    const LocalTensor<float> by_y = location_rows_[0],
                             by_x = location_rows_[t.block_pairs * kLanes];
    const uint8_t repeats = static_cast<uint8_t>(t.block_pairs / kLanes);
    uint64_t x_lanes[2] = {t.y_axis == 0 ? 0xaaaaaaaaaaaaaaaaULL : 0x5555555555555555ULL, 0};
    PipeBarrier<PIPE_V>();
    WaitFlag<HardEvent::MTE3_V>(kLocationGradientEvent);
    Brcb(by_y, location_, repeats, BrcbRepeatParams{1, kLanes});
    Brcb(by_x, location_[t.block_pairs], repeats, BrcbRepeatParams{1, kLanes});
    PipeBarrier<PIPE_V>();
    Adds(by_y, by_x, 0.0f, x_lanes, repeats, UnaryRepeatParams{1, 1, kLanes, kLanes});
    SetFlag<HardEvent::V_MTE3>(kLocationGradientEvent);
    WaitFlag<HardEvent::V_MTE3>(kLocationGradientEvent);
    for (int32_t i = 0; i < block.pairs;) {
      const int32_t run = blocks_.RunOfPairs(block, i, block.pairs);
      DataCopyPad(gm_grad_locations_[static_cast<uint64_t>(2 * blocks_.Pair(block, i))],
                  by_y[i * kLanes],
                  DataCopyExtParams{static_cast<uint16_t>(run), 2 * sizeof(float), 0, 0, 0});
      i += run;
    }
    SetFlag<HardEvent::MTE3_V>(kLocationGradientEvent);
  }

  const bool wants_features_, wants_locations_, wants_weight_;
  const bool wants_products_;  // of corner rows and cotangents
  Cotangents cotangents_;
  const bool narrow_weight_;  // and its gradient
  const bool keeps_sums_;     // of a gradient of the maps that has 16 bits
  FeatureGradient features_;
  Rounding rounding_;
  GlobalTensor<float> gm_grad_locations_, gm_grad_weight_;
  GlobalTensor<Bits16> gm_narrow_grad_weight_;
  LocalTensor<float> bilinear_, zero_, scratch_;
  LocalTensor<float> dots_, products_, edges_, location_, location_rows_;
};

}  // namespace jda_ascend

// A gradient that is not wanted is null. A grad_feature_maps of float32 is added to, and one of 16 bits
// is the sums in the workspace, rounded: the host clears what is added to.
JDA_VECTOR_KERNEL void deformable_aggregation_grad(GM_ADDR feature_maps, GM_ADDR spatial_shape,
                                                   GM_ADDR scale_start_index,
                                                   GM_ADDR sample_locations, GM_ADDR weight,
                                                   GM_ADDR cotangent, GM_ADDR grad_feature_maps,
                                                   GM_ADDR grad_sample_locations,
                                                   GM_ADDR grad_weight, GM_ADDR workspace,
                                                   jda_ascend::Tiling tiling) {
  JDA_ON_VECTOR_CORES;
  AscendC::TPipe pipe;
  const jda_ascend::Operands operands{feature_maps,     spatial_shape, scale_start_index,
                                      sample_locations, weight,        workspace};
  const jda_ascend::Gradients gradients{cotangent, grad_feature_maps, grad_sample_locations,
                                        grad_weight};
  jda_ascend::Backward(tiling, pipe, operands, gradients).Run();
}
