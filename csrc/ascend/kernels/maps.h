// The sizes of all maps and where they begin, checked, as tables that vectors gather from.

#ifndef JDA_ASCEND_MAPS_H_
#define JDA_ASCEND_MAPS_H_

#include "split.h"

namespace jda_ascend {

class Maps : public Split {
 protected:
  __aicore__ inline Maps(const Tiling& tiling, TPipe& pipe, GM_ADDR shapes, GM_ADDR starts,
                         GM_ADDR locations, GM_ADDR workspace)
      : Split(tiling, pipe, locations, workspace) {
    gm_shapes_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(shapes));
    gm_starts_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(starts));
    maps_ = Get<float>(t.maps);
    map_sizes_ = Get<int32_t>(t.map_rows);
    scratch_ = Get<float>(t.scratch);
  }

  __aicore__ inline void LoadMaps() {
    const uint32_t bytes = static_cast<uint32_t>(t.cameras * t.scales * sizeof(int32_t));
    const DataCopyPadExtParams<int32_t> unpadded{false, 0, 0, 0};
    DataCopyPad(map_sizes_, gm_shapes_, DataCopyExtParams{1, 2 * bytes, 0, 0, 0}, unpadded);
    DataCopyPad(IntMapTable(kFirst), gm_starts_, DataCopyExtParams{1, bytes, 0, 0, 0}, unpadded);
    SetFlag<HardEvent::MTE2_V>(kMapsEvent);
  }

  __aicore__ inline void FindMaps() {
    const uint32_t maps = static_cast<uint32_t>(t.cameras * t.scales);
    const uint8_t even = 1, odd = 2;
    const GatherMaskParams all{1, 1, 8, 0};
    const LocalTensor<int32_t> heights = scratch_.ReinterpretCast<int32_t>();
    uint64_t taken = 0;
    PipeBarrier<PIPE_V>();
    WaitFlag<HardEvent::MTE2_V>(kMapsEvent);
    GatherMask(heights, map_sizes_, even, true, 2 * maps, all, taken);
    GatherMask(IntMapTable(kIntWidth), map_sizes_, odd, true, 2 * maps, all, taken);
    PipeBarrier<PIPE_V>();
    Cast(MapTable(kHeight), heights, RoundMode::CAST_RINT, maps);
    Cast(MapTable(kMapWidth), IntMapTable(kIntWidth), RoundMode::CAST_RINT, maps);
    SetFlag<HardEvent::V_S>(kTablesEvent);  // and what was loaded, which the vector unit waited for
    WaitFlag<HardEvent::V_S>(kTablesEvent);
    same_sizes_ = true;
    for (uint32_t map = 0; map < maps; ++map) CheckMap(map);
  }

  // Height, width (as float and as int32) and first row of every map.
  enum Map { kHeight, kMapWidth, kIntWidth, kFirst };

  __aicore__ inline LocalTensor<float> MapTable(Map which) const {
    return maps_[which * static_cast<uint32_t>(AlignUp(t.cameras * t.scales, kLanes))];
  }

  __aicore__ inline LocalTensor<int32_t> IntMapTable(Map which) const {
    return MapTable(which).ReinterpretCast<int32_t>();
  }

  LocalTensor<float> scratch_;  // of the vector unit, for a while
  bool same_sizes_ = false;     // of the maps of a scale

 private:
  // Height and width, in one access.
  __aicore__ inline uint64_t MapSize(int64_t map) const {
    return map_sizes_.ReinterpretCast<uint64_t>().GetValue(static_cast<uint32_t>(map));
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

  GlobalTensor<int32_t> gm_shapes_, gm_starts_;
  LocalTensor<float> maps_;
  LocalTensor<int32_t> map_sizes_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_MAPS_H_
