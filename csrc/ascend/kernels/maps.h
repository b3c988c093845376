// The sizes of all maps and where they begin, checked, as tables that vectors gather from.

#ifndef JDA_ASCEND_MAPS_H_
#define JDA_ASCEND_MAPS_H_

#include "memory.h"
#include "operands.h"

namespace jda_ascend {

class Maps {
 public:
  __aicore__ inline Maps(const Tiling& tiling, Memory& memory, const Operands& operands)
      : t(tiling) {
    gm_shapes_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(operands.spatial_shape));
    gm_starts_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(operands.scale_start_index));
    tables_ = memory.Get<float>(t.maps);
    sizes_ = memory.Get<int32_t>(t.map_rows);
    scratch_ = memory.Get<float>(t.scratch);
  }

  __aicore__ inline void Load() {
    const uint32_t bytes = static_cast<uint32_t>(t.cameras * t.scales * sizeof(int32_t));
    const DataCopyPadExtParams<int32_t> unpadded{false, 0, 0, 0};
    DataCopyPad(sizes_, gm_shapes_, DataCopyExtParams{1, 2 * bytes, 0, 0, 0}, unpadded);
    DataCopyPad(IntTable(kFirst), gm_starts_, DataCopyExtParams{1, bytes, 0, 0, 0}, unpadded);
    SetFlag<HardEvent::MTE2_V>(kMapsEvent);
  }

  __aicore__ inline void Find() {
    const uint32_t maps = static_cast<uint32_t>(t.cameras * t.scales);
    const uint8_t even = 1, odd = 2;
    const GatherMaskParams all{1, 1, 8, 0};
    const LocalTensor<int32_t> heights = scratch_.ReinterpretCast<int32_t>();
    uint64_t taken = 0;
    PipeBarrier<PIPE_V>();
    WaitFlag<HardEvent::MTE2_V>(kMapsEvent);
    GatherMask(heights, sizes_, even, true, 2 * maps, all, taken);
    GatherMask(IntTable(kIntWidth), sizes_, odd, true, 2 * maps, all, taken);
    PipeBarrier<PIPE_V>();
    Cast(Table(kHeight), heights, RoundMode::CAST_RINT, maps);
    Cast(Table(kMapWidth), IntTable(kIntWidth), RoundMode::CAST_RINT, maps);
    SetFlag<HardEvent::V_S>(kTablesEvent);  // and what was loaded, which the vector unit waited for
    WaitFlag<HardEvent::V_S>(kTablesEvent);
    same_sizes_ = true;
    for (uint32_t map = 0; map < maps; ++map) CheckMap(map);
  }

  // Height, width (as float and as int32) and first row of every map.
  enum Map { kHeight, kMapWidth, kIntWidth, kFirst };

  __aicore__ inline LocalTensor<float> Table(Map which) const {
    return tables_[which * static_cast<uint32_t>(AlignUp(t.cameras * t.scales, kLanes))];
  }

  __aicore__ inline LocalTensor<int32_t> IntTable(Map which) const {
    return Table(which).ReinterpretCast<int32_t>();
  }

  // The maps of each scale are of one size.
  __aicore__ inline bool same_sizes() const { return same_sizes_; }

 private:
  // Height and width, in one access.
  __aicore__ inline uint64_t MapSize(int64_t map) const {
    return sizes_.ReinterpretCast<uint64_t>().GetValue(static_cast<uint32_t>(map));
  }

  // A map that does not lie within the rows gets the size zero: no sample has a corner in it.
  __aicore__ inline void CheckMap(uint32_t map) {
    const uint64_t size = MapSize(map);
    int64_t height = static_cast<int32_t>(size), width = static_cast<int32_t>(size >> 32);
    const int64_t first = IntTable(kFirst).GetValue(map);
    const bool valid = height > 0 && width > 0 && first >= 0 && first <= t.rows &&
                       height * width <= t.rows - first;
    same_sizes_ = same_sizes_ && valid && (map < t.scales || size == MapSize(map - t.scales));
    if (valid && height <= kMaxExact && width <= kMaxExact) return;
    if (!valid) {
      height = width = 0;
      IntTable(kIntWidth).SetValue(map, 0);
      IntTable(kFirst).SetValue(map, 0);
    }
    Table(kHeight).SetValue(map, Size(height));
    Table(kMapWidth).SetValue(map, Size(width));
  }

  // Sizes that a float cannot hold are rounded down, so that no pixel computed from them can lie
  // behind the map.
  __aicore__ inline float Size(int64_t size) const {
    const float rounded = static_cast<float>(static_cast<int32_t>(size));
    return size <= kMaxExact ? rounded : rounded * (1.0f - 1.0f / (1 << 22));
  }
  static constexpr int64_t kMaxExact = 1 << 24;

  const Tiling& t;
  GlobalTensor<int32_t> gm_shapes_, gm_starts_;
  LocalTensor<float> tables_;
  LocalTensor<int32_t> sizes_;
  LocalTensor<float> scratch_;  // of the vector unit, for a while
  bool same_sizes_ = false;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_MAPS_H_
