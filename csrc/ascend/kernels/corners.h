// The corner rows of the samples of a batch: where they are in the maps, and copies of them in UB.

#ifndef JDA_ASCEND_CORNERS_H_
#define JDA_ASCEND_CORNERS_H_

#include "weights.h"

namespace jda_ascend {

constexpr int32_t kMaxSamples = kLanes;
constexpr int32_t kInside = 15;  // all four corners of a sample lie in the map

class CornerRows : public PairWeights {
 protected:
  __aicore__ inline CornerRows(const Tiling& tiling, TPipe& pipe, GM_ADDR features, GM_ADDR shapes,
                               GM_ADDR starts, GM_ADDR locations, GM_ADDR weight, GM_ADDR workspace)
      : PairWeights(tiling, pipe, shapes, starts, locations, weight, workspace) {
    gm_features_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(features));
    corners_ = Get<float>(t.corners);
  }

  __aicore__ inline void ClearCorners() {
    Duplicate(corners_, 0.0f, static_cast<int32_t>(corners_.GetSize()));
  }

  __aicore__ inline void LoadCorners(Batch& batch) {
    const int64_t item = blocks_[batch.block].batch;
    TwoPlaces two{};
    Place places[kMaxSamples];
    for (int32_t i = 0; i < batch.count; ++i) {
      places[i] = PlaceOf(batch, item, i, two);
      const int64_t gap = RowGap(places[i]);
      if (gap < 0) {
        LoadAtBorder(batch, places[i], i);
      } else if (const int32_t same = FirstLike(places, i); same < i) {
        batch.repeated |= static_cast<uint64_t>(8 + same) << (4 * i);
      } else {
        LoadInside(batch, places[i], i, gap);
      }
    }
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

  __aicore__ inline LocalTensor<float> Corners(int32_t buffer) const {
    return corners_[buffer * CornerFloats()];
  }

  // Row of corner (y, x) of sample i of a batch.
  __aicore__ inline uint32_t CornerRow(int32_t y, int32_t i, int32_t x) const {
    return static_cast<uint32_t>((y * t.samples + i) * t.sample_pitch + x * t.tile_pitch);
  }

  // Blocks between the upper and the lower rows of a sample.
  __aicore__ inline uint32_t RowsApart() const {
    return static_cast<uint32_t>((t.samples * t.sample_pitch - 2 * t.tile_pitch) / kLanes);
  }

  // Lanes of the repeat at float c of a row.
  __aicore__ inline uint64_t Lanes(int32_t c) const {
    return static_cast<uint64_t>(Smaller(kRepeat, t.tile_pitch - c));
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

 private:
  // Floats of all corner rows of a batch.
  __aicore__ inline uint32_t CornerFloats() const {
    return static_cast<uint32_t>(2 * t.samples * t.sample_pitch);
  }

  __aicore__ inline uint64_t Two(const Batch& batch, int32_t plane, int32_t at) const {
    return Geometry(batch, plane).ReinterpretCast<uint64_t>().GetValue(at);
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

  __aicore__ inline void LoadInside(const Batch& batch, const Place& place, int32_t i,
                                    int64_t gap) {
    const uint32_t bytes = static_cast<uint32_t>(2 * t.channels * sizeof(float));
    DataCopyPad(Corners(batch.corners)[CornerRow(0, i, 0)], gm_features_[Element(place, 0, 0, 0)],
                DataCopyExtParams{2, bytes, static_cast<uint32_t>(gap), RowsApart(), 0},
                DataCopyPadExtParams<float>{false, 0, 0, 0.0f});
  }

  __aicore__ inline void LoadAtBorder(Batch& batch, const Place& place, int32_t i) {
    const LocalTensor<float> corners = Corners(batch.corners);
    const int32_t groups = GroupsOf(batch.tile);
    for (int32_t y = 0; y < 2; ++y) {
      const bool row_inside = (place.flags >> y & 1) != 0;
      const bool both = whole_rows_ && (place.flags & 12) == 12;
      for (int32_t x = 0; x < 2; ++x) {
        const LocalTensor<float> to = corners[CornerRow(y, i, x)];
        if (!row_inside || (place.flags >> (2 + x) & 1) == 0) {
          batch.missing |= uint64_t{1} << (4 * i + 2 * y + x);
        } else if (!both) {
          LoadRows(to, gm_features_[Element(place, batch.tile, y, x)], 1, groups);
        } else if (x == 0) {
          LoadRows(to, gm_features_[Element(place, batch.tile, y, 0)], 2, groups);
        }
      }
    }
  }

  __aicore__ inline void CopySample(const LocalTensor<float>& rows, int32_t i, int32_t from) {
    const uint16_t blocks = static_cast<uint16_t>(2 * t.tile_pitch / kLanes);
    const uint16_t gap = static_cast<uint16_t>(RowsApart());
    DataCopy(rows[CornerRow(0, i, 0)], rows[CornerRow(0, from, 0)],
             DataCopyParams{2, blocks, gap, gap});
  }

  GlobalTensor<float> gm_features_;
  LocalTensor<float> corners_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_CORNERS_H_
