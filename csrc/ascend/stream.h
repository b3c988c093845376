// The samples of a share of the pairs as a stream of batches: corner rows of the next batches are
// under way while one is computed, and the next step (a block in one scale) is prepared while the
// batches of the current one run.
//
// A kernel derives from Stream<Kernel>, calls Run(), and provides
//   OnChunk()              a chunk was compacted
//   OnBlock(block)         MTE2 may load what the block needs
//   BeforeWeights(buffer)  MTE2 is about to fill this weight buffer
//   Compute(batch)         calls Await() first and Release() last

#ifndef JDA_ASCEND_STREAM_H_
#define JDA_ASCEND_STREAM_H_

#include "split.h"

namespace jda_ascend {

// A flag may be set again only when the wait for it is known to be over, not merely dispatched. So
// what happens once has an event of its own, and buffers that alternate have one each.
constexpr int32_t kWeightsFree = 4;  // of V_MTE2: 4 and 5; 0 to 2 are corners, 3 raw locations
constexpr int32_t kPlaced = 0;       // of V_S; 1 and 2 are geometry
constexpr int32_t kMaxBuffers = 3;
constexpr int32_t kInside = 15;  // all four corners of a sample lie in the map

// The anchors that a block touches: runs of its pairs, in order.
struct Block {
  int64_t number = 0;  // in the stream
  int32_t pairs = 0;
  int32_t runs = 0;
  int32_t buffer = 0;
  int64_t batch = 0;
  int64_t chunk = 0;  // the pair that its pair numbers count from
  int64_t anchor[kMaxRuns];
  int32_t end[kMaxRuns];   // one past the last pair of the run
  int32_t slot[kMaxRuns];  // of the ring that holds one row per anchor
};

// A block in one scale and tile.
struct Step {
  int32_t block;     // which buffer holds its block
  int32_t weights;   // ... its weights
  int32_t geometry;  // ... its geometry
  int32_t scale, tile;
};

struct Batch : Step {
  int32_t corners;       // which buffer holds its rows
  int32_t first, count;  // samples: pairs of the block
  bool opens_block, closes_block, opens_step, closes_step, closes_tile;
  uint64_t missing;  // bit 4 i + 2 y + x: corner (y, x) of sample i lies outside the map
};

template <class Kernel>
class Stream : public Split {
 protected:
  __aicore__ inline Stream(const Tiling& tiling, TPipe& pipe, GM_ADDR features, GM_ADDR shapes,
                           GM_ADDR starts, GM_ADDR locations, GM_ADDR weight, GM_ADDR workspace,
                           bool wants_corners)
      : Split(tiling, pipe, locations, workspace), wants_corners_(wants_corners) {
    gm_features_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(features));
    gm_weight_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(weight));
    compact_ = Get<float>(t.compact);
    iota_ = Get<float>(t.iota);
    offsets_ = Get<int32_t>(t.offsets);
    pairs_ = Get<int32_t>(t.pairs_held);
    place_ = Get<float>(t.place);
    geometry_ = Get<float>(t.geometry);
    scratch_ = Get<float>(t.scratch);
    weights_ = Get<float>(t.weights);
    step_weights_ = Get<float>(t.step_weights);
    corners_ = Get<float>(t.corners);
    maps_ = Get<float>(t.maps);
    plane_ = t.block_pairs;
    LoadMaps(shapes, starts);
    FillConstants();
  }

  // Computes the samples of pairs [begin, end) in tiles [first, last).
  __aicore__ inline void Run(int64_t begin, int64_t end, int32_t first, int32_t last) {
    Start(begin, end, first, last);
    Batch batches[kMaxBuffers];
    int32_t oldest = 0;
    for (;;) {
      do {
        while (held_ < t.buffers && Next()) {
          batches[(oldest + held_++) % kMaxBuffers] = at_;
        }
      } while (LookAhead());
      if (held_ == 0) break;
      kernel().Compute(batches[oldest]);
      oldest = (oldest + 1) % kMaxBuffers;
      --held_;
      if (earlier_ > 0) --earlier_;
    }
    Finish();
  }

  // Before the first vector operation that reads what was loaded for the batch.
  __aicore__ inline void Await(const Batch& batch) { WaitFlag<HardEvent::MTE2_V>(batch.corners); }

  // After the last vector operation of the batch: all that MTE2 filled for it may be filled again.
  __aicore__ inline void Release(const Batch& batch) { SetFlag<HardEvent::V_MTE2>(batch.corners); }

  // After the last vector operation that reads the weights of the batch's tile.
  __aicore__ inline void ReleaseWeights(const Batch& batch) {
    if (batch.closes_tile) SetFlag<HardEvent::V_MTE2>(kWeightsFree + batch.weights);
  }

  // The anchor that follows a closing block in the stream, or -1.
  __aicore__ inline int64_t AnchorAfter(const Batch& batch) const {
    const Block& other = blocks_[batch.block ^ 1];
    return other.number == blocks_[batch.block].number + 1 ? other.anchor[0] : -1;
  }

  __aicore__ inline int64_t Pair(const Block& block, int32_t i) const {
    return block.chunk + pairs_.GetValue(block.buffer * plane_ + i);
  }

  // How many pairs from pair i on follow each other without a gap.
  __aicore__ inline int32_t RunOfPairs(const Block& block, int32_t i) const {
    const int64_t first = Pair(block, i);
    int32_t run = 1;
    while (i + run < block.pairs && run < kMaxRunOfPairs && Pair(block, i + run) == first + run) {
      ++run;
    }
    return run;
  }
  static constexpr int32_t kMaxRunOfPairs = 8;

  // Rows of the geometry of a step, `plane_` floats each.
  enum Plane { kRow, kFlags, kWidth, kSizeY, kSizeX, kFarY, kFarX, kNearY, kNearX, kBilinear };
  static constexpr int32_t kPlanes = kBilinear + 4;

  __aicore__ inline LocalTensor<float> Geometry(int32_t buffer, int32_t plane) const {
    return geometry_[(buffer * kPlanes + plane) * plane_];
  }

  // Row of corner (y, x) of sample i of a batch.
  __aicore__ inline uint32_t CornerRow(int32_t y, int32_t i, int32_t x) const {
    return static_cast<uint32_t>((y * t.samples + i) * 2 + x) * t.tile_pitch + y * kBankShift;
  }

  // Floats of all corner rows of a batch. The upper and the lower rows start in different groups of
  // banks, so that reading both does not collide.
  __aicore__ inline uint32_t CornerFloats() const {
    return static_cast<uint32_t>(4 * t.samples * t.tile_pitch + kBankShift);
  }

  // Blocks between the upper and the lower rows of a sample.
  __aicore__ inline uint32_t RowsApart() const {
    return static_cast<uint32_t>(((t.samples - 1) * 2 * t.tile_pitch + kBankShift) / kLanes);
  }

  __aicore__ inline LocalTensor<float> Corners(int32_t buffer) const {
    return corners_[buffer * CornerFloats()];
  }

  // Weights of pair i of the block as they come: a row of weight_pitch floats for every scale.
  __aicore__ inline LocalTensor<float> Weights(int32_t buffer, int32_t i, int32_t scale) const {
    return weights_[static_cast<uint32_t>(((buffer * plane_ + i) * t.scales + scale) *
                                          t.weight_pitch)];
  }

  // The weights of the step without those of other scales: Brcb knows no gaps.
  __aicore__ inline void PickWeights(const Batch& batch) {
    const uint8_t pitch = static_cast<uint8_t>(t.weight_pitch / kLanes);
    Adds(step_weights_, Weights(batch.weights, 0, batch.scale), 0.0f,
         static_cast<uint64_t>(t.weight_pitch), static_cast<uint8_t>(blocks_[batch.block].pairs),
         UnaryRepeatParams{1, 1, pitch, static_cast<uint8_t>(t.scales * pitch)});
  }

  // Where the corners of a sample are.
  struct Place {
    int64_t row;  // of corner (0, 0), in all rows of all batch items
    int64_t width;
    int32_t flags;
  };

  __aicore__ inline Place PlaceOf(const Batch& batch, int64_t item, int32_t i) const {
    const LocalTensor<int32_t> rows =
        Geometry(batch.geometry, kRow).template ReinterpretCast<int32_t>();
    const LocalTensor<int32_t> flags =
        Geometry(batch.geometry, kFlags).template ReinterpretCast<int32_t>();
    const LocalTensor<int32_t> widths =
        Geometry(batch.geometry, kWidth).template ReinterpretCast<int32_t>();
    const int32_t at = batch.first + i;
    return {item * t.rows + rows.GetValue(at), widths.GetValue(at), flags.GetValue(at)};
  }

  // The gap in GM between the corner pairs of a map's two rows, or -1 where one copy cannot do it.
  __aicore__ inline int64_t RowGap(const Place& place) const {
    if (place.flags != kInside || !dense_ || !whole_rows_) return -1;
    const int64_t bytes = (place.width - 2) * t.channels * static_cast<int64_t>(sizeof(float));
    return bytes <= 0xffffffffLL ? bytes : -1;
  }

  __aicore__ inline uint64_t Element(const Place& place, int32_t tile, int32_t y, int32_t x) const {
    const int64_t row = place.row + y * place.width + x;
    return static_cast<uint64_t>(row * t.channels +
                                 static_cast<int64_t>(tile) * t.tile_groups * t.group_channels);
  }

  // Rows of corners that lie outside the map count as zero, whatever the buffer held before.
  __aicore__ inline void ZeroMissing(const Batch& batch) {
    if (batch.missing == 0) return;
    for (int32_t i = 0; i < batch.count; ++i) {
      for (int32_t corner = 0; corner < 4; ++corner) {
        if ((batch.missing >> (4 * i + corner) & 1) == 0) continue;
        Duplicate(Corners(batch.corners)[CornerRow(corner / 2, i, corner % 2)], 0.0f, t.tile_pitch);
      }
    }
  }

  // The bilinear coefficients of the batch, each filling a block: [y][sample][x].
  __aicore__ inline void SpreadBilinear(const Batch& batch, const LocalTensor<float>& to) {
    const int32_t aligned = batch.first / kLanes * kLanes;
    const uint8_t repeats =
        static_cast<uint8_t>((batch.first - aligned + batch.count + kLanes - 1) / kLanes);
    for (int32_t corner = 0; corner < 4; ++corner) {
      Brcb(to[(corner / 2 * SpreadSamples() * 2 + corner % 2) * kLanes],
           Geometry(batch.geometry, kBilinear + corner)[aligned], repeats,
           BrcbRepeatParams{2, 2 * kLanes});
    }
  }

  // Where SpreadBilinear() put the coefficient of corner (y, x) of sample i.
  __aicore__ inline uint32_t Bilinear(const Batch& batch, int32_t y, int32_t i, int32_t x) const {
    const int32_t in_spread = batch.first % kLanes + i;
    return static_cast<uint32_t>(((y * SpreadSamples() + in_spread) * 2 + x) * kLanes);
  }

  __aicore__ inline int32_t SpreadSamples() const {
    return static_cast<int32_t>(AlignUp(t.samples, kLanes));
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

  // Lanes of the repeat at float c of a row.
  __aicore__ inline uint64_t Lanes(int32_t c) const {
    return static_cast<uint64_t>(Smaller(kRepeat, t.tile_pitch - c));
  }

  bool wants_corners_;
  int32_t plane_;
  Batch at_;
  Block blocks_[2];
  GlobalTensor<float> gm_features_;
  GlobalTensor<float> gm_weight_;
  LocalTensor<float> compact_, scratch_, step_weights_;
  int32_t visible_ = 0;  // pairs of the chunk

 private:
  __aicore__ inline Kernel& kernel() { return *static_cast<Kernel*>(this); }

  // ---- constants

  __aicore__ inline LocalTensor<float> MapTable(int64_t scale, int32_t which) const {
    return maps_[static_cast<uint32_t>((scale * 4 + which) * t.camera_pitch)];
  }

  // Height, width (as float and as int32) and first row of every map, by scale, then camera. A map
  // that does not lie within the rows gets the size zero: no sample has a corner in it.
  __aicore__ inline void LoadMaps(GM_ADDR shapes, GM_ADDR starts) {
    GlobalTensor<int32_t> gm_shapes, gm_starts;
    gm_shapes.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(shapes));
    gm_starts.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(starts));
    const uint32_t maps = static_cast<uint32_t>(t.cameras * t.scales);
    const LocalTensor<int32_t> sizes = Get<int32_t>(t.map_rows);
    const LocalTensor<int32_t> firsts = sizes[static_cast<uint32_t>(AlignUp(2 * maps, kLanes))];
    const uint32_t bytes = maps * sizeof(int32_t);
    const DataCopyPadExtParams<int32_t> unpadded{false, 0, 0, 0};
    DataCopyPad(sizes, gm_shapes, DataCopyExtParams{1, 2 * bytes, 0, 0, 0}, unpadded);
    DataCopyPad(firsts, gm_starts, DataCopyExtParams{1, bytes, 0, 0, 0}, unpadded);
    SetFlag<HardEvent::MTE2_S>(0);
    WaitFlag<HardEvent::MTE2_S>(0);
    for (int32_t camera = 0; camera < t.cameras; ++camera) {
      for (int32_t scale = 0; scale < t.scales; ++scale) {
        const int32_t map = camera * static_cast<int32_t>(t.scales) + scale;
        SetMap(scale, camera, sizes.GetValue(2 * map), sizes.GetValue(2 * map + 1),
               firsts.GetValue(map));
      }
    }
  }

  __aicore__ inline void SetMap(int32_t scale, int32_t camera, int64_t height, int64_t width,
                                int64_t first) {
    const bool valid = height > 0 && width > 0 && first >= 0 && first <= t.rows &&
                       height * width <= t.rows - first;
    if (!valid) height = width = first = 0;
    MapTable(scale, 0).SetValue(camera, Size(height));
    MapTable(scale, 1).SetValue(camera, Size(width));
    MapTable(scale, 2).template ReinterpretCast<int32_t>().SetValue(camera,
                                                                    static_cast<int32_t>(width));
    MapTable(scale, 3).template ReinterpretCast<int32_t>().SetValue(camera,
                                                                    static_cast<int32_t>(first));
  }

  // Sizes that a float cannot hold are rounded down, so that no pixel computed from them can lie
  // behind the map.
  __aicore__ inline float Size(int64_t size) const {
    const float rounded = static_cast<float>(static_cast<int32_t>(size));
    return size <= (1 << 24) ? rounded : rounded * (1.0f - 1.0f / (1 << 22));
  }

  // Everything that a vector operation may read behind the last valid element is written once.
  __aicore__ inline void FillConstants() {
    for (int32_t i = 0; i < kLanes; ++i) iota_.SetValue(i, static_cast<float>(i));
    PipeBarrier<PIPE_ALL>();
    Duplicate(compact_, 0.0f, static_cast<int32_t>(compact_.GetSize()));
    Duplicate(place_, 0.0f, static_cast<int32_t>(place_.GetSize()));
    Duplicate(weights_, 0.0f, static_cast<int32_t>(weights_.GetSize()));
    if (wants_corners_) Duplicate(corners_, 0.0f, static_cast<int32_t>(corners_.GetSize()));
    for (int32_t done = kLanes; done < kChunk; done *= 2) {
      PipeBarrier<PIPE_V>();
      Adds(iota_[done], iota_, static_cast<float>(done), done);
    }
    Muls(scratch_, iota_, static_cast<float>(sizeof(float)), plane_);
    PipeBarrier<PIPE_V>();
    Cast(offsets_, scratch_, RoundMode::CAST_RINT, plane_);
  }

  // ---- from pairs to batches

  __aicore__ inline void Start(int64_t begin, int64_t end, int32_t first, int32_t last) {
    PipeBarrier<PIPE_ALL>();  // flags of an earlier run are down, everything is initialised
    first_tile_ = first;
    last_tile_ = last;
    visible_ = taken_ = 0;
    newest_anchor_ = -1;
    at_ = Batch{};
    at_.corners = t.buffers - 1;
    at_.block = 1;  // which is empty, so that the first step is entered
    ahead_ = Step{1, 1, 1, static_cast<int32_t>(t.scales) - 1, last - 1};
    ahead_ready_ = ended_ = false;
    earlier_ = held_ = 0;
    blocks_[0].pairs = blocks_[1].pairs = 0;
    blocks_[0].number = blocks_[1].number = 0;
    for (int32_t i = 0; i < t.buffers; ++i) SetFlag<HardEvent::V_MTE2>(i);
    SetFlag<HardEvent::V_MTE2>(kWeightsFree);
    SetFlag<HardEvent::V_MTE2>(kWeightsFree + 1);
    StartRange(begin, end, t.anchors * t.anchor_pairs);
  }

  __aicore__ inline void Finish() {
    for (int32_t i = 0; i < t.buffers; ++i) WaitFlag<HardEvent::V_MTE2>(i);
    WaitFlag<HardEvent::V_MTE2>(kWeightsFree);
    WaitFlag<HardEvent::V_MTE2>(kWeightsFree + 1);
    EndRange();
  }

  // Loads the next batch into at_; false at the end, or while the next step is not prepared yet.
  __aicore__ inline bool Next() {
    const int32_t pairs = blocks_[at_.block].pairs;
    const bool same_step = at_.first + at_.count < pairs;
    if (!same_step && !ahead_ready_) return false;
    at_.corners = at_.corners + 1 == t.buffers ? 0 : at_.corners + 1;
    WaitFlag<HardEvent::V_MTE2>(at_.corners);
    if (same_step) {
      at_.first += at_.count;
    } else {
      EnterStep();
    }
    DescribeBatch();
    if (wants_corners_) LoadCorners();
    if (ahead_ready_ && ahead_.weights != at_.weights) LoadWeights(ahead_, t.samples);
    SetFlag<HardEvent::MTE2_V>(at_.corners);
    return true;
  }

  __aicore__ inline void EnterStep() {
    const bool new_block = ahead_.block != at_.block || at_.count == 0;
    if (ahead_.weights != at_.weights || at_.count == 0) {
      LoadWeights(ahead_, plane_);  // what is left
      loaded_ = 0;
    }
    if (new_block) kernel().OnBlock(blocks_[ahead_.block]);
    WaitFlag<HardEvent::V_S>(1 + ahead_.geometry);
    static_cast<Step&>(at_) = ahead_;
    at_.first = 0;
    ahead_ready_ = false;
    earlier_ = held_;
  }

  __aicore__ inline void DescribeBatch() {
    const int32_t pairs = blocks_[at_.block].pairs;
    at_.count = static_cast<int32_t>(Smaller(t.samples, pairs - at_.first));
    at_.opens_step = at_.first == 0;
    at_.closes_step = at_.first + at_.count == pairs;
    at_.closes_tile = at_.closes_step && at_.scale + 1 == t.scales;
    at_.opens_block = at_.opens_step && at_.scale == 0 && at_.tile == first_tile_;
    at_.closes_block = at_.closes_tile && at_.tile + 1 == last_tile_;
    at_.missing = 0;
  }

  // Prepares the step after at_, once the last batch of the step before at_ is on its way: its
  // buffers are the ones that are filled.
  __aicore__ inline bool LookAhead() {
    if (ahead_ready_ || ended_ || earlier_ > 0) return false;
    if (++ahead_.scale == t.scales) {
      ahead_.scale = 0;
      if (++ahead_.tile == last_tile_) {
        ahead_.tile = first_tile_;
        if (!NextBlock()) {
          ended_ = true;
          return false;
        }
      }
      ahead_.weights ^= 1;
    }
    ahead_.geometry ^= 1;
    ComputeGeometry();
    ahead_ready_ = true;
    return true;
  }

  __aicore__ inline bool NextBlock() {
    while (taken_ == visible_) {
      if (!NextChunk()) return false;
      Compact();
      kernel().OnChunk();
    }
    const int64_t number = blocks_[ahead_.block].number;
    ahead_.block ^= 1;
    Block& block = blocks_[ahead_.block];
    block.number = number + 1;
    block.buffer = ahead_.block;
    block.chunk = chunk_;
    block.batch = chunk_ / (t.anchors * t.anchor_pairs);
    const int32_t window = Window(visible_ - taken_);
    PlacePairs(window);
    FindRuns(block, window);
    taken_ += block.pairs;
    return true;
  }

  // What is left of the chunk in blocks of about the same size.
  __aicore__ inline int32_t Window(int32_t left) const {
    const int32_t blocks = (left + plane_ - 1) / plane_;
    const int64_t even = AlignUp((left + blocks - 1) / blocks, t.samples);
    return static_cast<int32_t>(Smaller(Smaller(even, plane_), left));
  }

  // y, x and number of the visible pairs of the chunk, without gaps.
  __aicore__ inline void Compact() {
    const LocalTensor<uint32_t> bits = VisibleBits().template ReinterpretCast<uint32_t>();
    const GatherMaskParams once{1, 1, 8, 1};
    uint64_t found = 0;
    PipeBarrier<PIPE_V>();
    GatherMask(compact_[0], planes_[0], bits, true, PaddedPairs(), once, found);
    GatherMask(compact_[kCompact], planes_[kChunk], bits, true, PaddedPairs(), once, found);
    GatherMask(compact_[2 * kCompact], iota_, bits, true, PaddedPairs(), once, found);
    visible_ = static_cast<int32_t>(found);
    taken_ = 0;
  }
  static constexpr int32_t kCompact = kChunk + kLanes;

  enum { kY, kX, kCamera };  // rows of place_

  // What the geometry needs of each pair of the block: y, x and where its camera is in the tables.
  __aicore__ inline void PlacePairs(int32_t window) {
    const uint32_t count = static_cast<uint32_t>(AlignUp(window, kLanes));
    const int32_t n = static_cast<int32_t>(count);
    const uint32_t base = taken_ * sizeof(float);
    const LocalTensor<uint32_t> offsets = offsets_.template ReinterpretCast<uint32_t>();
    const LocalTensor<float> number = scratch_[0], camera = scratch_[plane_];
    const LocalTensor<float> turn = scratch_[2 * plane_], spare = scratch_[3 * plane_];
    SetFlag<HardEvent::S_V>(0);
    WaitFlag<HardEvent::S_V>(0);
    PipeBarrier<PIPE_V>();
    Gather(place_[kY * plane_], compact_[0], offsets, base, count);
    Gather(place_[kX * plane_], compact_[kCompact], offsets, base, count);
    Gather(number, compact_[2 * kCompact], offsets, base, count);
    PipeBarrier<PIPE_V>();
    Cast(pairs_[ahead_.block * plane_], number, RoundMode::CAST_RINT, count);
    Adds(camera, number, static_cast<float>(static_cast<int32_t>(chunk_ % t.cameras)), n);
    PipeBarrier<PIPE_V>();
    Adds(turn, camera, 0.5f, n);  // keeps the quotient away from whole numbers
    PipeBarrier<PIPE_V>();
    Muls(turn, turn, 1.0f / static_cast<float>(static_cast<int32_t>(t.cameras)), n);
    Floor(spare, turn, scratch_[4 * plane_], n);
    Muls(spare, spare, -static_cast<float>(static_cast<int32_t>(t.cameras)), n);
    PipeBarrier<PIPE_V>();
    Add(camera, camera, spare, n);
    PipeBarrier<PIPE_V>();
    Muls(camera, camera, static_cast<float>(sizeof(float)), n);
    PipeBarrier<PIPE_V>();
    Cast(place_[kCamera * plane_].template ReinterpretCast<int32_t>(), camera, RoundMode::CAST_RINT,
         count);
    SetFlag<HardEvent::V_S>(kPlaced);
    WaitFlag<HardEvent::V_S>(kPlaced);
  }

  // Cuts the window at the borders of anchors, and ends the block where it has enough of them.
  __aicore__ inline void FindRuns(Block& block, int32_t window) {
    block.runs = 0;
    block.pairs = 0;
    while (block.pairs < window && block.runs < t.block_anchors) {
      const int64_t anchor = Pair(block, block.pairs) / t.anchor_pairs;
      if (anchor != newest_anchor_) {
        newest_anchor_ = anchor;
        newest_slot_ = newest_slot_ + 1 == 2 * t.block_anchors ? 0 : newest_slot_ + 1;
      }
      block.pairs = FirstFrom(block, (anchor + 1) * t.anchor_pairs, block.pairs + 1, window);
      block.anchor[block.runs] = anchor;
      block.slot[block.runs] = newest_slot_;
      block.end[block.runs] = block.pairs;
      ++block.runs;
    }
  }

  // The first of the window's pairs [low, high) that is not before `pair`, or `high`.
  __aicore__ inline int32_t FirstFrom(const Block& block, int64_t pair, int32_t low,
                                      int32_t high) const {
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      if (Pair(block, middle) < pair) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  // Up to `most` more pairs' weights in all scales, one copy for each run of pairs. They are loaded
  // bit by bit while the batches before them run.
  __aicore__ inline void LoadWeights(const Step& step, int32_t most) {
    const Block& block = blocks_[step.block];
    if (loaded_ == 0) {
      WaitFlag<HardEvent::V_MTE2>(kWeightsFree + step.weights);
      kernel().BeforeWeights(step.weights);
    }
    const int32_t end = static_cast<int32_t>(Smaller(block.pairs, loaded_ + most));
    while (loaded_ < end) {
      const int32_t run = static_cast<int32_t>(Smaller(RunOfPairs(block, loaded_), end - loaded_));
      LoadWeightRun(step, Pair(block, loaded_), run);
      loaded_ += run;
    }
  }

  __aicore__ inline void LoadWeightRun(const Step& step, int64_t pair, int32_t run) {
    const int32_t groups = GroupsOf(step.tile);
    const uint8_t padding = static_cast<uint8_t>(AlignUp(groups, kLanes) - groups);
    DataCopyPad(Weights(step.weights, loaded_, 0), gm_weight_[WeightElement(pair, step.tile)],
                WeightCopy(groups, run),
                DataCopyPadExtParams<float>{padding != 0, 0, padding, 0.0f});
  }

 protected:
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

 private:
  // ---- geometry of the block in one scale, all of it in vectors over the block's pairs

  // to = floor(from). The conversion may round up just below a whole number; that is undone.
  __aicore__ inline void Floor(const LocalTensor<float>& to, const LocalTensor<float>& from,
                               const LocalTensor<float>& spare, int32_t count) {
    PipeBarrier<PIPE_V>();
    Cast(to, from, RoundMode::CAST_FLOOR, static_cast<uint32_t>(count));
    PipeBarrier<PIPE_V>();
    Sub(spare, from, to, count);
    PipeBarrier<PIPE_V>();
    Muls(spare, spare, 1e30f, count);
    PipeBarrier<PIPE_V>();
    Mins(spare, spare, 0.0f, count);
    PipeBarrier<PIPE_V>();
    Maxs(spare, spare, -1.0f, count);
    PipeBarrier<PIPE_V>();
    Add(to, to, spare, count);
    PipeBarrier<PIPE_V>();
  }

  __aicore__ inline void ComputeGeometry() {
    const int32_t both = 2 * plane_;  // y and x of all pairs, one behind the other
    const int32_t buffer = ahead_.geometry;
    const LocalTensor<float> size = Geometry(buffer, kSizeY), start = scratch_[8 * plane_];
    const LocalTensor<float> pixel = scratch_[0], cell = scratch_[both], spare = scratch_[2 * both];
    const LocalTensor<float> far = Geometry(buffer, kFarY), near = Geometry(buffer, kNearY);
    const LocalTensor<uint32_t> camera =
        place_[kCamera * plane_].template ReinterpretCast<uint32_t>();
    const uint32_t count = static_cast<uint32_t>(plane_);
    SetFlag<HardEvent::S_V>(0);
    WaitFlag<HardEvent::S_V>(0);
    Gather(size, MapTable(ahead_.scale, 0), camera, 0, count);
    Gather(size[plane_], MapTable(ahead_.scale, 1), camera, 0, count);
    Gather(Geometry(buffer, kWidth), MapTable(ahead_.scale, 2), camera, 0, count);
    Gather(start, MapTable(ahead_.scale, 3), camera, 0, count);
    PipeBarrier<PIPE_V>();
    Mul(pixel, place_, size, both);
    PipeBarrier<PIPE_V>();
    Adds(pixel, pixel, -0.5f, both);
    Floor(cell, pixel, spare, both);

    Sub(far, pixel, cell, both);  // the coefficient of the far neighbour, 1 - far of the near one
    Adds(spare, size, -1.0f, both);
    PipeBarrier<PIPE_V>();
    Muls(near, far, -1.0f, both);
    Min(cell, cell, spare, both);
    PipeBarrier<PIPE_V>();
    Adds(near, near, 1.0f, both);
    Sub(spare, spare, cell, both);
    PipeBarrier<PIPE_V>();
    for (int32_t corner = 0; corner < 4; ++corner) {
      Mul(Geometry(buffer, kBilinear + corner), corner / 2 == 0 ? near : far,
          (corner % 2 == 0 ? near : far)[plane_], plane_);
    }
    FindOutside(cell, spare, pixel);
    FindRows(cell, start.template ReinterpretCast<int32_t>());
    SetFlag<HardEvent::V_S>(1 + buffer);
  }

  // Bits of a sample: 1 and 2 its near and far rows lie in the map, 4 and 8 its columns.
  __aicore__ inline void FindOutside(const LocalTensor<float>& cell,
                                     const LocalTensor<float>& beyond,
                                     const LocalTensor<float>& spare) {
    const int32_t both = 2 * plane_;
    Adds(spare, cell, 1.0f, both);
    Mins(beyond, beyond, 1.0f, both);
    PipeBarrier<PIPE_V>();
    Mins(spare, spare, 1.0f, both);
    Maxs(beyond, beyond, 0.0f, both);
    PipeBarrier<PIPE_V>();
    Muls(beyond, beyond, 2.0f, both);
    PipeBarrier<PIPE_V>();
    Add(spare, spare, beyond, both);
    PipeBarrier<PIPE_V>();
    Muls(spare[plane_], spare[plane_], 4.0f, plane_);
    PipeBarrier<PIPE_V>();
    Add(spare, spare, spare[plane_], plane_);
    PipeBarrier<PIPE_V>();
    Cast(Geometry(ahead_.geometry, kFlags).template ReinterpretCast<int32_t>(), spare,
         RoundMode::CAST_RINT, static_cast<uint32_t>(plane_));
  }

  // The row of the near corner: first row of the map + y * width + x, in whole numbers.
  __aicore__ inline void FindRows(const LocalTensor<float>& cell,
                                  const LocalTensor<int32_t>& start) {
    const LocalTensor<int32_t> row =
        Geometry(ahead_.geometry, kRow).template ReinterpretCast<int32_t>();
    const LocalTensor<int32_t> width =
        Geometry(ahead_.geometry, kWidth).template ReinterpretCast<int32_t>();
    const LocalTensor<int32_t> column = scratch_[9 * plane_].template ReinterpretCast<int32_t>();
    Cast(row, cell, RoundMode::CAST_RINT, static_cast<uint32_t>(plane_));
    Cast(column, cell[plane_], RoundMode::CAST_RINT, static_cast<uint32_t>(plane_));
    PipeBarrier<PIPE_V>();
    Mul(row, row, width, plane_);
    Add(column, column, start, plane_);
    PipeBarrier<PIPE_V>();
    Add(row, row, column, plane_);
  }

  // ---- corner rows

  __aicore__ inline void LoadCorners() {
    const Block& block = blocks_[at_.block];
    for (int32_t i = 0; i < at_.count; ++i) {
      const Place place = PlaceOf(at_, block.batch, i);
      const int64_t gap = RowGap(place);
      if (gap >= 0) {
        LoadInside(place, i, gap);
      } else {
        LoadAtBorder(place, i);
      }
    }
  }

  __aicore__ inline void LoadInside(const Place& place, int32_t i, int64_t gap) {
    const uint32_t bytes = static_cast<uint32_t>(2 * t.channels * sizeof(float));
    DataCopyPad(Corners(at_.corners)[CornerRow(0, i, 0)], gm_features_[Element(place, 0, 0, 0)],
                DataCopyExtParams{2, bytes, static_cast<uint32_t>(gap), RowsApart(), 0},
                DataCopyPadExtParams<float>{false, 0, 0, 0.0f});
  }

  __aicore__ inline void LoadAtBorder(const Place& place, int32_t i) {
    const LocalTensor<float> corners = Corners(at_.corners);
    const int32_t groups = GroupsOf(at_.tile);
    for (int32_t y = 0; y < 2; ++y) {
      const bool row_inside = (place.flags >> y & 1) != 0;
      const bool both = whole_rows_ && (place.flags & 12) == 12;
      for (int32_t x = 0; x < 2; ++x) {
        const LocalTensor<float> to = corners[CornerRow(y, i, x)];
        if (!row_inside || (place.flags >> (2 + x) & 1) == 0) {
          at_.missing |= uint64_t{1} << (4 * i + 2 * y + x);
        } else if (!both) {
          LoadRows(to, gm_features_[Element(place, at_.tile, y, x)], 1, groups);
        } else if (x == 0) {
          LoadRows(to, gm_features_[Element(place, at_.tile, y, 0)], 2, groups);
        }
      }
    }
  }

  LocalTensor<float> maps_, iota_, place_, geometry_, weights_, corners_;
  LocalTensor<int32_t> offsets_, pairs_;
  int32_t first_tile_ = 0, last_tile_ = 0;
  int32_t taken_ = 0;
  int64_t newest_anchor_ = -1;
  int32_t newest_slot_ = -1;
  Step ahead_;
  bool ahead_ready_ = false;
  bool ended_ = false;
  int32_t loaded_ = 0;   // pairs of the next tile whose weights are loaded
  int32_t held_ = 0;     // batches that are loaded but not computed
  int32_t earlier_ = 0;  // ... of steps before that of at_
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_STREAM_H_
