// The corner rows of the samples of a packet: where they are in the maps, and copies of them in UB.

#ifndef JDA_ASCEND_CORNERS_H_
#define JDA_ASCEND_CORNERS_H_

#include "geometry.h"
#include "narrow.h"

namespace jda_ascend {

constexpr int32_t kMaxSamples = kLanes;
constexpr int32_t kInside = 15;  // all four corners of a sample lie in the map

// Where the corners of a sample are.
struct Place {
  int64_t row;  // of corner (0, 0), in all rows of all batch elements
  int64_t width;
  int32_t flags;
};

// Two samples next to each other, as one scalar access fetches them.
struct TwoPlaces {
  uint64_t rows, widths, flags;
};

class Corners {
 public:
  __aicore__ inline Corners(const Tiling& tiling, Memory& memory, Blocks& blocks,
                            Geometry& geometry, const Operands& operands)
      : t(tiling),
        memory_(memory),
        blocks_(blocks),
        geometry_(geometry),
        narrow_(tiling.maps_format != kFloat32),
        reloads_(narrow_ && tiling.planes == kForwardPlanes) {
    gm_features_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(operands.feature_maps));
    gm_narrow_.SetGlobalBuffer(reinterpret_cast<__gm__ Bits16*>(operands.feature_maps));
    corners_ = memory_.Get<float>(t.corners);
    widened_ = memory_.Get<float>(t.widened);
  }

  __aicore__ inline void Clear() {
    Duplicate(corners_, 0.0f, static_cast<int32_t>(corners_.GetSize()));
  }

  __aicore__ inline void Load(Packet& packet) {
    const int64_t element = blocks_[packet.block].element;
    TwoPlaces two{};
    Place places[kMaxSamples];
    for (int32_t i = 0; i < packet.count; ++i) {
      places[i] = PlaceOf(packet, element, i, two);
      const int64_t gap = RowGap(places[i], NumberBytes());
      if (gap < 0) {
        LoadAtBorder(packet, places[i], i);
      } else if (const int32_t same = reloads_ ? i : FirstLike(places, i); same < i) {
        packet.repeated |= static_cast<uint64_t>(8 + same) << (4 * i);
      } else {
        LoadInside(packet, places[i], i, gap);
      }
    }
  }

  // Rows that were not loaded: copies of others, and zeros for corners that lie outside the map,
  // whatever the buffer held before. True if there are any.
  __aicore__ inline bool FillRows(const Packet& packet) {
    if (narrow_) {
      FillRows(packet, NarrowRows(packet.corners));
    } else {
      FillRows(packet, Rows(packet.corners));
    }
    return packet.missing != 0 || packet.repeated != 0;
  }

  // Rows of 16 bits as float32, which the vector unit computes with; true if the maps have such.
  // Those of packets that are computed together follow each other.
  __aicore__ inline bool WidenRows(const Packet& packet) {
    if (!narrow_) return false;
    const int32_t last = static_cast<int32_t>(Row(1, packet.count - 1, 0)) + 2 * t.tile_pitch;
    Widen(t.maps_format, widened_[Row(0, packet.first % t.together, 0)], NarrowRows(packet.corners),
          last);
    return true;
  }

  // Where rows of 16 bits become float32 from now on.
  __aicore__ inline void WidenTo(const LocalTensor<float>& widened) { widened_ = widened; }

  __aicore__ inline LocalTensor<float> Rows(int32_t buffer) const {
    return narrow_ ? widened_ : corners_[buffer * CornerNumbers()];
  }

  // Row of corner (y, x) of sample i of a packet, both as it comes and as float32.
  __aicore__ inline uint32_t Row(int32_t y, int32_t i, int32_t x) const {
    return static_cast<uint32_t>(y * t.upper_pitch + i * t.sample_pitch + x * t.tile_pitch);
  }

  // Blocks between the upper and the lower rows of a sample.
  template <typename T = float>
  __aicore__ inline uint32_t RowsApart() const {
    constexpr int32_t lanes = 32 / sizeof(T);
    return static_cast<uint32_t>((t.upper_pitch - 2 * t.tile_pitch) / lanes);
  }

  // Of the samples of a packet, in order; `two` is what the sample before fetched.
  __aicore__ inline Place PlaceOf(const Packet& packet, int64_t element, int32_t i,
                                  TwoPlaces& two) const {
    const int32_t at = packet.first + i, shift = at % 2 * 32;
    if (i == 0 || at % 2 == 0) {
      two = {Two(packet, Geometry::kRow, at / 2), Two(packet, Geometry::kWidth, at / 2),
             Two(packet, Geometry::kFlags, at / 2)};
    }
    return {element * t.rows + static_cast<int32_t>(two.rows >> shift),
            static_cast<int32_t>(two.widths >> shift), static_cast<int32_t>(two.flags >> shift)};
  }

  // The gap in GM between the corner pairs of two rows of a map of such numbers, or -1 where one copy
  // cannot do it.
  __aicore__ inline int64_t RowGap(const Place& place, int64_t number_bytes) const {
    if (place.flags != kInside || !memory_.dense || !memory_.whole_rows) return -1;
    const int64_t bytes = (place.width - 2) * t.channels * number_bytes;
    return bytes <= 0xffffffffLL ? bytes : -1;
  }

  __aicore__ inline uint64_t Element(const Place& place, int32_t tile, int32_t y, int32_t x) const {
    const int64_t row = place.row + y * place.width + x;
    return static_cast<uint64_t>(row * t.channels +
                                 static_cast<int64_t>(tile) * t.tile_groups * t.group_channels);
  }

 private:
  // Numbers of all corner rows of a packet, as LayOut() counts them.
  __aicore__ inline uint32_t CornerNumbers() const {
    const int32_t all = t.samples * t.sample_pitch;
    return static_cast<uint32_t>(all < 2 * t.upper_pitch ? 2 * t.upper_pitch : all);
  }

  __aicore__ inline int64_t NumberBytes() const {
    return static_cast<int64_t>(narrow_ ? sizeof(Bits16) : sizeof(float));
  }

  __aicore__ inline LocalTensor<Bits16> NarrowRows(int32_t buffer) const {
    return corners_.ReinterpretCast<Bits16>()[buffer * CornerNumbers()];
  }

  __aicore__ inline uint64_t Two(const Packet& packet, int32_t plane, int32_t at) const {
    return geometry_.Plane(packet, plane).ReinterpretCast<uint64_t>().GetValue(at);
  }

  // The first sample that lies between the same corners as sample i: key points of an anchor often
  // do where maps are coarse. Forward, rows of 16 bits are loaded again: the vector unit, which widens
  // them, has more to do than the copies.
  __aicore__ inline int32_t FirstLike(const Place* places, int32_t i) const {
    int32_t j = 0;
    while (j < i && !(places[j].row == places[i].row && places[j].width == places[i].width &&
                      places[j].flags == kInside)) {
      ++j;
    }
    return j;
  }

  __aicore__ inline void LoadInside(const Packet& packet, const Place& place, int32_t i,
                                    int64_t gap) {
    if (narrow_) {
      LoadInside(NarrowRows(packet.corners), gm_narrow_, place, i, gap);
    } else {
      LoadInside(Rows(packet.corners), gm_features_, place, i, gap);
    }
  }

  template <typename T>
  __aicore__ inline void LoadInside(const LocalTensor<T>& corners, const GlobalTensor<T>& features,
                                    const Place& place, int32_t i, int64_t gap) {
    const uint32_t bytes = static_cast<uint32_t>(2 * t.channels * sizeof(T));
    const uint32_t apart = RowsApart<T>();
    DataCopyPad(corners[Row(0, i, 0)], features[Element(place, 0, 0, 0)],
                DataCopyExtParams{2, bytes, static_cast<uint32_t>(gap), apart, 0},
                DataCopyPadExtParams<T>{false, 0, 0, T(0)});
  }

  __aicore__ inline void LoadAtBorder(Packet& packet, const Place& place, int32_t i) {
    if (narrow_) {
      LoadAtBorder(packet, NarrowRows(packet.corners), gm_narrow_, place, i);
    } else {
      LoadAtBorder(packet, Rows(packet.corners), gm_features_, place, i);
    }
  }

  template <typename T>
  __aicore__ inline void LoadAtBorder(Packet& packet, const LocalTensor<T>& corners,
                                      const GlobalTensor<T>& features, const Place& place,
                                      int32_t i) {
    const int32_t groups = memory_.GroupsOf(packet.tile);
    for (int32_t y = 0; y < 2; ++y) {
      const bool row_inside = (place.flags >> y & 1) != 0;
      const bool both = memory_.whole_rows && (place.flags & 12) == 12;
      for (int32_t x = 0; x < 2; ++x) {
        const LocalTensor<T> to = corners[Row(y, i, x)];
        if (!row_inside || (place.flags >> (2 + x) & 1) == 0) {
          packet.missing |= uint64_t{1} << (4 * i + 2 * y + x);
        } else if (!both) {
          memory_.LoadRows(to, features[Element(place, packet.tile, y, x)], 1, groups);
        } else if (x == 0) {
          memory_.LoadRows(to, features[Element(place, packet.tile, y, 0)], 2, groups);
        }
      }
    }
  }

  template <typename T>
  __aicore__ inline void FillRows(const Packet& packet, const LocalTensor<T>& rows) {
    for (int32_t i = 0; packet.missing != 0 && i < packet.count; ++i) {
      for (int32_t corner = 0; corner < 4; ++corner) {
        if ((packet.missing >> (4 * i + corner) & 1) == 0) continue;
        Duplicate(rows[Row(corner / 2, i, corner % 2)], T(0), t.tile_pitch);
      }
    }
    for (int32_t i = 1; packet.repeated != 0 && i < packet.count; ++i) {
      const int32_t from = static_cast<int32_t>(packet.repeated >> (4 * i) & 15) - 8;
      if (from >= 0) CopySample(rows, i, from);
    }
  }

  template <typename T>
  __aicore__ inline void CopySample(const LocalTensor<T>& rows, int32_t i, int32_t from) {
    constexpr int32_t lanes = 32 / sizeof(T);
    const uint16_t blocks = static_cast<uint16_t>(2 * t.tile_pitch / lanes);
    const uint16_t gap = static_cast<uint16_t>(RowsApart<T>());
    DataCopy(rows[Row(0, i, 0)], rows[Row(0, from, 0)], DataCopyParams{2, blocks, gap, gap});
  }

  const Tiling& t;
  Memory& memory_;
  Blocks& blocks_;
  Geometry& geometry_;
  const bool narrow_;
  const bool reloads_;  // rows that another sample of the packet has too
  GlobalTensor<float> gm_features_;
  GlobalTensor<Bits16> gm_narrow_;
  LocalTensor<float> corners_;  // as they come
  LocalTensor<float> widened_;  // of one packet
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_CORNERS_H_
