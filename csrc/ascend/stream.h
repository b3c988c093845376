// The samples of a share of the pairs as a stream of batches: corner rows of the next batches are
// under way while one is computed, and the next block is prepared while the batches of the current
// one run.
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
constexpr int32_t kWeightsFree = 4;     // of V_MTE2: 4 and 5; 0 to 2 are corners, 3 raw locations
constexpr int32_t kPlaced = 0;          // of V_S; 1 and 2 are geometry
constexpr int32_t kWeightsAtOnce = 32;  // samples whose weights are loaded along with a batch
constexpr int32_t kFirstPairs = 64;     // of the first block, which everything waits for
constexpr int32_t kMaxBuffers = 3;
constexpr int32_t kMaxSamples = kLanes;
constexpr int32_t kInside = 15;  // all four corners of a sample lie in the map

// The anchors that a block touches: runs of its pairs, in order.
struct Block {
  int64_t number = 0;  // in the stream
  int32_t pairs = 0;
  int32_t pitch = 0;  // pairs padded to whole blocks
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
  int32_t block;    // which buffer holds its block
  int32_t weights;  // ... its weights
  int32_t scale, tile;
};

struct Batch : Step {
  int32_t corners;       // which buffer holds its rows
  int32_t first, count;  // samples: pairs of the block
  bool opens_block, closes_block, opens_step, closes_step, closes_tile;
  uint64_t missing;   // bit 4 i + 2 y + x: corner (y, x) of sample i lies outside the map
  uint64_t repeated;  // 4 bits of sample i: 8 + j if it has the rows of the earlier sample j, or 0
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
    gm_shapes_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(shapes));
    gm_starts_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(starts));
    compact_ = Get<float>(t.compact);
    iota_ = Get<float>(t.iota);
    offsets_ = Get<int32_t>(t.offsets);
    pairs_ = Get<int32_t>(t.pairs_held);
    place_ = Get<float>(t.place);
    geometry_ = Get<float>(t.geometry);
    scratch_ = Get<float>(t.scratch);
    weights_ = Get<float>(t.weights);
    corners_ = Get<float>(t.corners);
    maps_ = Get<float>(t.maps);
    map_sizes_ = Get<int32_t>(t.map_rows);
    plane_ = t.block_pairs;
  }

  // Everything that needs no share; constants are filled while the first copies are under way.
  __aicore__ inline void Prepare() {
    const bool shares = t.deterministic == 0 && t.cores > 1;
    if (shares) PrepareToShare();
    LoadMaps();
    FillConstants();
    FindMaps();
    if (shares) FindBits();
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

  // How many pairs from pair i on, up to pair `end`, surely follow each other without a gap. Numbers
  // rise, so the last of a run tells of all of it.
  __aicore__ inline int32_t RunOfPairs(const Block& block, int32_t i, int32_t end) const {
    const int64_t first = Pair(block, i);
    int32_t run = static_cast<int32_t>(Smaller(end - i, kMaxCopyRows / t.scales));
    while (run > 1 && Pair(block, i + run - 1) != first + run - 1) run = run > 4 ? 4 : run / 2;
    return run;
  }
  static constexpr int32_t kMaxCopyRows = 4095;

  // Rows of the geometry of a block, for all of its pairs in all scales; the last ones are there for
  // gradients only.
  enum Plane { kRow, kFlags, kWidth, kBilinear, kSizeY = 7, kSizeX, kFarY, kFarX };

  __aicore__ inline LocalTensor<float> Geometry(int32_t block, int32_t plane,
                                                int32_t scale = 0) const {
    const int32_t row = plane * static_cast<int32_t>(t.scales) + scale;
    return geometry_[block * t.planes * static_cast<int32_t>(t.scales) * plane_ +
                     row * blocks_[block].pitch];
  }

  __aicore__ inline LocalTensor<float> Geometry(const Step& step, int32_t plane) const {
    return Geometry(step.block, plane, step.scale);
  }

  // Row of corner (y, x) of sample i of a batch.
  __aicore__ inline uint32_t CornerRow(int32_t y, int32_t i, int32_t x) const {
    return static_cast<uint32_t>((y * t.samples + i) * t.sample_pitch + x * t.tile_pitch);
  }

  // Floats of all corner rows of a batch.
  __aicore__ inline uint32_t CornerFloats() const {
    return static_cast<uint32_t>(2 * t.samples * t.sample_pitch);
  }

  // Blocks between the upper and the lower rows of a sample.
  __aicore__ inline uint32_t RowsApart() const {
    return static_cast<uint32_t>((t.samples * t.sample_pitch - 2 * t.tile_pitch) / kLanes);
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
    step_weights_ = Weights(batch.weights, 0, 0);
    if (t.scales == 1) return;
    step_weights_ = Get<float>(t.step_weights);
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

  // Two neighbours, as one scalar access fetches them.
  struct TwoPlaces {
    uint64_t rows, widths, flags;
  };

  // Of the samples of a batch, in order; `two` is what the sample before fetched.
  __aicore__ inline Place PlaceOf(const Batch& batch, int64_t item, int32_t i,
                                  TwoPlaces& two) const {
    const int32_t at = batch.first + i, shift = at % 2 * 32;
    if (i == 0 || at % 2 == 0) {
      two = {Two(batch, kRow, at / 2), Two(batch, kWidth, at / 2), Two(batch, kFlags, at / 2)};
    }
    return {item * t.rows + static_cast<int32_t>(two.rows >> shift),
            static_cast<int32_t>(two.widths >> shift), static_cast<int32_t>(two.flags >> shift)};
  }

  __aicore__ inline uint64_t Two(const Batch& batch, int32_t plane, int32_t at) const {
    return Geometry(batch, plane).template ReinterpretCast<uint64_t>().GetValue(at);
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

  // Rows that were not loaded: copies of others, and zeros for corners that lie outside the map,
  // whatever the buffer held before. True if there are any.
  __aicore__ inline bool FillRows(const Batch& batch) {
    const LocalTensor<float> rows = Corners(batch.corners);
    for (int32_t i = 0; batch.missing != 0 && i < batch.count; ++i) {
      for (int32_t corner = 0; corner < 4; ++corner) {
        if ((batch.missing >> (4 * i + corner) & 1) == 0) continue;
        Duplicate(rows[CornerRow(corner / 2, i, corner % 2)], 0.0f, t.tile_pitch);
      }
    }
    for (int32_t i = 1; batch.repeated != 0 && i < batch.count; ++i) {
      const int32_t from = static_cast<int32_t>(batch.repeated >> (4 * i) & 15) - 8;
      if (from >= 0) CopySample(rows, i, from);
    }
    return batch.missing != 0 || batch.repeated != 0;
  }

  __aicore__ inline void CopySample(const LocalTensor<float>& rows, int32_t i, int32_t from) {
    const uint16_t blocks = static_cast<uint16_t>(2 * t.tile_pitch / kLanes);
    const uint16_t gap = static_cast<uint16_t>(RowsApart());
    DataCopy(rows[CornerRow(0, i, 0)], rows[CornerRow(0, from, 0)],
             DataCopyParams{2, blocks, gap, gap});
  }

  // The bilinear coefficients of the next samples of the step, each filling a block. True if the
  // batch is the first that needs them.
  __aicore__ inline bool SpreadBilinear(const Batch& batch, const LocalTensor<float>& to,
                                        int32_t copies) {
    if (batch.first % kSpread != 0) return false;
    const int64_t samples = Smaller(kSpread, blocks_[batch.block].pairs - batch.first);
    const uint8_t repeats = static_cast<uint8_t>((samples + kLanes - 1) / kLanes);
    for (int32_t copy = 0; copy < copies; ++copy) {
      for (int32_t corner = 0; corner < 4; ++corner) {
        Brcb(to[Bilinear(batch, corner / 2, corner % 2, copy)],
             Geometry(batch, kBilinear + corner)[batch.first], repeats,
             BrcbRepeatParams{1, 2 * kLanes});
      }
    }
    return true;
  }

  // Where SpreadBilinear() put the coefficients of corner (y, x): one block for each sample of the
  // batch, those of y = 1 eight blocks behind those of y = 0. A second copy lies in other banks.
  __aicore__ inline uint32_t Bilinear(const Batch& batch, int32_t y, int32_t x,
                                      int32_t copy = 0) const {
    const int32_t i = batch.first % kSpread;
    const int32_t block = (copy * 2 + x) * 2 * kSpread + i / kLanes * 2 * kLanes + y * kLanes;
    return static_cast<uint32_t>((block + i % kLanes) * kLanes + copy * kBankShift);
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

  // Height, width (as float and as int32) and first row of every map.
  enum Map { kHeight, kMapWidth, kIntWidth, kFirst };

  __aicore__ inline LocalTensor<float> MapTable(Map which) const {
    return maps_[which * static_cast<uint32_t>(AlignUp(t.cameras * t.scales, kLanes))];
  }

  __aicore__ inline LocalTensor<int32_t> IntMapTable(Map which) const {
    return MapTable(which).template ReinterpretCast<int32_t>();
  }

  __aicore__ inline void LoadMaps() {
    const uint32_t bytes = static_cast<uint32_t>(t.cameras * t.scales * sizeof(int32_t));
    const DataCopyPadExtParams<int32_t> unpadded{false, 0, 0, 0};
    DataCopyPad(map_sizes_, gm_shapes_, DataCopyExtParams{1, 2 * bytes, 0, 0, 0}, unpadded);
    DataCopyPad(IntMapTable(kFirst), gm_starts_, DataCopyExtParams{1, bytes, 0, 0, 0}, unpadded);
    SetFlag<HardEvent::MTE2_V>(0);
    SetFlag<HardEvent::MTE2_S>(0);
  }

  __aicore__ inline void FindMaps() {
    const uint32_t maps = static_cast<uint32_t>(t.cameras * t.scales);
    const uint8_t even = 1, odd = 2;
    const GatherMaskParams all{1, 1, 8, 0};
    const LocalTensor<int32_t> heights = scratch_.template ReinterpretCast<int32_t>();
    uint64_t taken = 0;
    PipeBarrier<PIPE_V>();
    WaitFlag<HardEvent::MTE2_V>(0);
    GatherMask(heights, map_sizes_, even, true, 2 * maps, all, taken);
    GatherMask(IntMapTable(kIntWidth), map_sizes_, odd, true, 2 * maps, all, taken);
    PipeBarrier<PIPE_V>();
    Cast(MapTable(kHeight), heights, RoundMode::CAST_RINT, maps);
    Cast(MapTable(kMapWidth), IntMapTable(kIntWidth), RoundMode::CAST_RINT, maps);
    SetFlag<HardEvent::V_S>(0);
    WaitFlag<HardEvent::V_S>(0);
    WaitFlag<HardEvent::MTE2_S>(0);
    same_sizes_ = true;
    for (uint32_t map = 0; map < maps; ++map) CheckMap(map);
    SetFlag<HardEvent::S_V>(0);
    WaitFlag<HardEvent::S_V>(0);
  }

  // Height and width, in one access.
  __aicore__ inline uint64_t MapSize(int64_t map) const {
    return map_sizes_.template ReinterpretCast<uint64_t>().GetValue(static_cast<uint32_t>(map));
  }

  // A map that does not lie within the rows gets the size zero: no sample has a corner in it.
  __aicore__ inline void CheckMap(uint32_t map) {
    const uint64_t size = MapSize(map);
    int64_t height = static_cast<int32_t>(size), width = static_cast<int32_t>(size >> 32);
    const int64_t first = IntMapTable(kFirst).GetValue(map);
    const bool valid = height > 0 && width > 0 && first >= 0 && first <= t.rows &&
                       height * width <= t.rows - first;
    same_sizes_ = same_sizes_ && valid && (map < t.scales || size == MapSize(map - t.scales));
    if (valid && height <= kMaxExact && width <= kMaxExact) return;
    if (!valid) {
      height = width = 0;
      IntMapTable(kIntWidth).SetValue(map, 0);
      IntMapTable(kFirst).SetValue(map, 0);
    }
    MapTable(kHeight).SetValue(map, Size(height));
    MapTable(kMapWidth).SetValue(map, Size(width));
  }

  // Sizes that a float cannot hold are rounded down, so that no pixel computed from them can lie
  // behind the map.
  __aicore__ inline float Size(int64_t size) const {
    const float rounded = static_cast<float>(static_cast<int32_t>(size));
    return size <= kMaxExact ? rounded : rounded * (1.0f - 1.0f / (1 << 22));
  }
  static constexpr int64_t kMaxExact = 1 << 24;

  // Everything that a vector operation may read behind the last valid element is written once.
  __aicore__ inline void FillConstants() {
    for (int32_t i = 0; i < kLanes; ++i) iota_.SetValue(i, static_cast<float>(i));
    SetFlag<HardEvent::S_V>(0);
    WaitFlag<HardEvent::S_V>(0);
    Duplicate(compact_, 0.0f, static_cast<int32_t>(compact_.GetSize()));
    Duplicate(place_, 0.0f, static_cast<int32_t>(place_.GetSize()));
    Duplicate(weights_, 0.0f, static_cast<int32_t>(weights_.GetSize()));
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
    at_.block = 1;  // which is empty, so that the first tile is entered
    ahead_ = Step{1, 1, 0, last - 1};
    ahead_ready_ = ended_ = placed_ = false;
    earlier_ = held_ = 0;
    newest_block_ = 0;
    blocks_[0].pairs = blocks_[1].pairs = 0;
    blocks_[0].number = blocks_[1].number = 0;
    StartRange(begin, end, t.anchors * t.anchor_pairs);
    if (wants_corners_) Duplicate(corners_, 0.0f, static_cast<int32_t>(corners_.GetSize()));
    for (int32_t i = 0; i < t.buffers; ++i) SetFlag<HardEvent::V_MTE2>(i);
    SetFlag<HardEvent::V_MTE2>(kWeightsFree);
    SetFlag<HardEvent::V_MTE2>(kWeightsFree + 1);
  }

  __aicore__ inline void Finish() {
    for (int32_t i = 0; i < t.buffers; ++i) WaitFlag<HardEvent::V_MTE2>(i);
    WaitFlag<HardEvent::V_MTE2>(kWeightsFree);
    WaitFlag<HardEvent::V_MTE2>(kWeightsFree + 1);
    EndRange();
  }

  // Loads the next batch into at_; false at the end, or while the next tile is not prepared yet.
  __aicore__ inline bool Next() {
    const bool same_step = at_.first + at_.count < blocks_[at_.block].pairs;
    const bool same_tile = at_.count > 0 && at_.scale + 1 < t.scales;
    if (!same_step && !same_tile && !ahead_ready_) return false;
    at_.corners = at_.corners + 1 == t.buffers ? 0 : at_.corners + 1;
    WaitFlag<HardEvent::V_MTE2>(at_.corners);
    if (same_step) {
      at_.first += at_.count;
    } else if (same_tile) {
      ++at_.scale;
      at_.first = 0;
    } else {
      EnterTile();
    }
    DescribeBatch();
    if (wants_corners_) LoadCorners();
    if (ahead_ready_) LoadWeights(ahead_, AlignUp(kWeightsAtOnce, t.scales) / t.scales);
    SetFlag<HardEvent::MTE2_V>(at_.corners);
    return true;
  }

  __aicore__ inline void EnterTile() {
    LoadWeights(ahead_, plane_);  // what is left
    loaded_ = 0;
    if (ahead_.block != at_.block || at_.count == 0) {
      kernel().OnBlock(blocks_[ahead_.block]);
      WaitFlag<HardEvent::V_S>(1 + ahead_.block);
    }
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
    at_.missing = at_.repeated = 0;
  }

  // Prepares the tile after that of at_, once the last batch of the tile before is on its way: its
  // buffers are the ones that are filled. True if this may have made way for the next batch.
  __aicore__ inline bool LookAhead() {
    if (ahead_ready_ || ended_ || earlier_ > 0) return false;
    if (ahead_.tile + 1 < last_tile_) {
      ++ahead_.tile;
    } else if (!placed_) {
      placed_ = PlaceBlock();
      ended_ = !placed_;
      // The scalar unit waits for the vector unit before it goes on. Some batches keep that busy
      // meanwhile; but at first nobody has anything else to do.
      patience_ = newest_block_ > 1 ? t.buffers : 0;
      return placed_;
    } else {
      if (held_ == t.buffers && patience_-- > 0) return false;
      FinishBlock();
      ahead_.tile = first_tile_;
    }
    ahead_.weights ^= 1;
    ahead_ready_ = true;
    return true;
  }

  // Starts to prepare the next block: its pairs are under way to where they are needed.
  __aicore__ inline bool PlaceBlock() {
    while (taken_ == visible_) {
      if (!NextChunk(bits_)) return false;
      Compact();
      kernel().OnChunk();
    }
    ahead_.block ^= 1;
    Block& block = blocks_[ahead_.block];
    block.buffer = ahead_.block;
    block.chunk = chunk_;
    block.batch = chunk_ / (t.anchors * t.anchor_pairs);
    block.pairs = Window(visible_ - taken_);
    PlacePairs(block.pairs);
    return true;
  }

  __aicore__ inline void FinishBlock() {
    Block& block = blocks_[ahead_.block];
    block.number = ++newest_block_;
    WaitFlag<HardEvent::V_S>(kPlaced);
    FindRuns(block, block.pairs);
    block.pitch = static_cast<int32_t>(AlignUp(block.pairs, kLanes));
    taken_ += block.pairs;
    placed_ = false;
    ComputeGeometry();
  }

  // What is left of the chunk in blocks of about the same size.
  __aicore__ inline int32_t Window(int32_t left) const {
    const int32_t blocks = (left + plane_ - 1) / plane_;
    const int64_t even = AlignUp((left + blocks - 1) / blocks, t.samples);
    const int64_t most = newest_block_ == 0 ? Smaller(plane_, kFirstPairs) : plane_;
    return static_cast<int32_t>(Smaller(Smaller(even, most), left));
  }

  // y, x and number of the visible pairs of the chunk, without gaps.
  __aicore__ inline void Compact() {
    const LocalTensor<uint32_t> bits = bits_.template ReinterpretCast<uint32_t>();
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
    const int32_t count = static_cast<int32_t>(AlignUp(window, kLanes));
    const LocalTensor<float> number = scratch_[0];
    SetFlag<HardEvent::S_V>(0);
    WaitFlag<HardEvent::S_V>(0);
    PipeBarrier<PIPE_V>();
    Take(place_[kY * plane_], compact_[0], count);
    Take(place_[kX * plane_], compact_[kCompact], count);
    Take(number, compact_[2 * kCompact], count);
    PipeBarrier<PIPE_V>();
    Cast(pairs_[ahead_.block * plane_], number, RoundMode::CAST_RINT, static_cast<uint32_t>(count));
    if (t.cameras > 1) FindCameras(number, count);
    SetFlag<HardEvent::V_S>(kPlaced);
  }

  // The next elements of a row of compact_, which start anywhere.
  __aicore__ inline void Take(const LocalTensor<float>& to, const LocalTensor<float>& from,
                              int32_t count) {
    if (taken_ % kLanes == 0) {
      DataCopy(to, from[taken_], static_cast<uint32_t>(count));
    } else {
      Gather(to, from, offsets_.template ReinterpretCast<uint32_t>(), taken_ * sizeof(float),
             static_cast<uint32_t>(count));
    }
  }

  // The remainder of the pair numbers by the number of cameras, as offset into the map tables.
  __aicore__ inline void FindCameras(const LocalTensor<float>& number, int32_t count) {
    const LocalTensor<float> camera = scratch_[plane_];
    const LocalTensor<float> turn = scratch_[2 * plane_], spare = scratch_[3 * plane_];
    const float cameras = static_cast<float>(static_cast<int32_t>(t.cameras));
    Adds(camera, number, static_cast<float>(static_cast<int32_t>(chunk_ % t.cameras)), count);
    PipeBarrier<PIPE_V>();
    Adds(turn, camera, 0.5f, count);  // keeps the quotient away from whole numbers
    PipeBarrier<PIPE_V>();
    Muls(turn, turn, 1.0f / cameras, count);
    Floor(spare, turn, scratch_[4 * plane_], count);
    Muls(spare, spare, -cameras, count);
    PipeBarrier<PIPE_V>();
    Add(camera, camera, spare, count);
    PipeBarrier<PIPE_V>();
    Muls(camera, camera, static_cast<float>(static_cast<int32_t>(t.scales * sizeof(float))), count);
    PipeBarrier<PIPE_V>();
    Cast(place_[kCamera * plane_].template ReinterpretCast<int32_t>(), camera, RoundMode::CAST_RINT,
         static_cast<uint32_t>(count));
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
    if (low < high && Pair(block, high - 1) < pair) return high;
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
  __aicore__ inline void LoadWeights(const Step& step, int64_t most) {
    const Block& block = blocks_[step.block];
    if (loaded_ == 0) {
      WaitFlag<HardEvent::V_MTE2>(kWeightsFree + step.weights);
      kernel().BeforeWeights(step.weights);
    }
    const int32_t end = static_cast<int32_t>(Smaller(block.pairs, loaded_ + most));
    while (loaded_ < end) {
      const int32_t run = RunOfPairs(block, loaded_, end);
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
  // ---- geometry of the block in all scales, in vectors over all of its samples

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
    const int32_t buffer = ahead_.block, n = static_cast<int32_t>(t.scales) * blocks_[buffer].pitch;
    const int32_t both = 2 * n;  // y and x of all samples, one behind the other
    const bool keeps = t.planes == kBackwardPlanes;
    const LocalTensor<float> pixel = scratch_[0], cell = scratch_[both], spare = scratch_[2 * both];
    const LocalTensor<float> size = keeps ? Geometry(buffer, kSizeY) : scratch_[4 * both];
    const LocalTensor<float> far = keeps ? Geometry(buffer, kFarY) : pixel;
    const LocalTensor<float> near = scratch_[3 * both];
    SetFlag<HardEvent::S_V>(0);
    WaitFlag<HardEvent::S_V>(0);
    PipeBarrier<PIPE_V>();
    FindSizes(size, cell.template ReinterpretCast<int32_t>());
    PipeBarrier<PIPE_V>();
    MultiplyByScales(pixel, place_[kY * plane_], size);
    MultiplyByScales(pixel[n], place_[kX * plane_], size[n]);
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
          (corner % 2 == 0 ? near : far)[n], n);
    }
    FindRows(cell, spare, keeps ? pixel : size, near.template ReinterpretCast<int32_t>(), n);
    SetFlag<HardEvent::V_S>(1 + buffer);
  }

  // Sizes and rows of the maps that the samples lie in; `size` has y and x.
  __aicore__ inline void FindSizes(const LocalTensor<float>& size,
                                   const LocalTensor<int32_t>& offsets) {
    const int32_t pitch = blocks_[ahead_.block].pitch;
    const LocalTensor<int32_t> camera =
        place_[kCamera * plane_].template ReinterpretCast<int32_t>();
    const LocalTensor<int32_t> width =
        Geometry(ahead_.block, kWidth).template ReinterpretCast<int32_t>();
    const uint32_t n = static_cast<uint32_t>(t.scales * pitch);
    for (int32_t scale = 0; scale < t.scales; ++scale) {
      const uint32_t row = static_cast<uint32_t>(scale * pitch);
      Adds(offsets[row], camera, scale * static_cast<int32_t>(sizeof(float)), pitch);
      if (!same_sizes_) continue;
      Duplicate(size[row], MapTable(kHeight).GetValue(scale), pitch);
      Duplicate(size[n + row], MapTable(kMapWidth).GetValue(scale), pitch);
      Duplicate(width[row], IntMapTable(kIntWidth).GetValue(scale), pitch);
    }
    PipeBarrier<PIPE_V>();
    const LocalTensor<uint32_t> from = offsets.template ReinterpretCast<uint32_t>();
    Gather(Geometry(ahead_.block, kRow), MapTable(kFirst), from, 0, n);
    if (same_sizes_) return;
    Gather(size, MapTable(kHeight), from, 0, n);
    Gather(size[n], MapTable(kMapWidth), from, 0, n);
    Gather(Geometry(ahead_.block, kWidth), MapTable(kIntWidth), from, 0, n);
  }

  // to = by with every scale multiplied by the same row
  __aicore__ inline void MultiplyByScales(const LocalTensor<float>& to,
                                          const LocalTensor<float>& row,
                                          const LocalTensor<float>& by) {
    const int32_t pitch = blocks_[ahead_.block].pitch;
    const uint8_t stride = static_cast<uint8_t>(pitch / kLanes);
    for (int32_t i = 0; i < pitch; i += kRepeat) {
      Mul(to[i], row[i], by[i], static_cast<uint64_t>(Smaller(kRepeat, pitch - i)),
          static_cast<uint8_t>(t.scales), BinaryRepeatParams{1, 1, 1, stride, 0, stride});
    }
  }

  // The row of the near corner: first row of the map + y * width + x, in whole numbers. And bits: 1
  // and 2 say that the near and the far rows lie in the map, 4 and 8 that the columns do.
  __aicore__ inline void FindRows(const LocalTensor<float>& cell, const LocalTensor<float>& beyond,
                                  const LocalTensor<float>& bits, const LocalTensor<int32_t>& whole,
                                  int32_t n) {
    const int32_t both = 2 * n;
    const LocalTensor<int32_t> row =
        Geometry(ahead_.block, kRow).template ReinterpretCast<int32_t>();
    const LocalTensor<int32_t> width =
        Geometry(ahead_.block, kWidth).template ReinterpretCast<int32_t>();
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
    Cast(Geometry(ahead_.block, kFlags).template ReinterpretCast<int32_t>(), bits,
         RoundMode::CAST_RINT, static_cast<uint32_t>(n));
  }

  // ---- corner rows

  __aicore__ inline void LoadCorners() {
    const int64_t item = blocks_[at_.block].batch;
    TwoPlaces two{};
    Place places[kMaxSamples];
    for (int32_t i = 0; i < at_.count; ++i) {
      places[i] = PlaceOf(at_, item, i, two);
      const int64_t gap = RowGap(places[i]);
      if (gap < 0) {
        LoadAtBorder(places[i], i);
      } else if (const int32_t same = FirstLike(places, i); same < i) {
        at_.repeated |= static_cast<uint64_t>(8 + same) << (4 * i);
      } else {
        LoadInside(places[i], i, gap);
      }
    }
  }

  // The first sample that lies between the same corners as sample i: key points of an anchor often
  // do where maps are coarse.
  __aicore__ inline int32_t FirstLike(const Place* places, int32_t i) const {
    int32_t j = 0;
    while (j < i && !(places[j].row == places[i].row && places[j].width == places[i].width &&
                      places[j].flags == kInside)) {
      ++j;
    }
    return j;
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

  GlobalTensor<int32_t> gm_shapes_, gm_starts_;
  LocalTensor<float> maps_, iota_, place_, geometry_, weights_, corners_;
  LocalTensor<int32_t> map_sizes_, offsets_, pairs_;
  int32_t first_tile_ = 0, last_tile_ = 0;
  int32_t taken_ = 0;
  int64_t newest_anchor_ = -1;
  int32_t newest_slot_ = -1;
  Step ahead_;
  bool same_sizes_ = false;  // of the maps of a scale
  bool ahead_ready_ = false;
  bool placed_ = false;  // the next block is being prepared
  int32_t patience_ = 0;
  int64_t newest_block_ = 0;
  bool ended_ = false;
  int32_t loaded_ = 0;   // pairs of the next tile whose weights are loaded
  int32_t held_ = 0;     // batches that are loaded but not computed
  int32_t earlier_ = 0;  // ... of tiles before that of at_
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_STREAM_H_
