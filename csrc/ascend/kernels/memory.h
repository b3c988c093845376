// UB areas, and copies of rows between GM and UB.

#ifndef JDA_ASCEND_MEMORY_H_
#define JDA_ASCEND_MEMORY_H_

#include "events.h"
#include "kernel_operator.h"
#include "tiling.h"

namespace jda_ascend {

using namespace AscendC;

__aicore__ inline int64_t AlignUp(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

__aicore__ inline int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }

class Memory {
 public:
  __aicore__ inline Memory(const Tiling& tiling, TPipe& pipe)
      : dense(tiling.group_channels == tiling.group_pitch),
        whole_rows(tiling.tiles == 1),
        t(tiling) {
    pipe.InitBuffer(ub_, t.ub_bytes);
  }

  template <typename T>
  __aicore__ inline LocalTensor<T> Get(const Area& area) {
    return ub_.GetWithOffset<T>(area.bytes / sizeof(T), area.offset);
  }

  __aicore__ inline int32_t GroupsOf(int32_t tile) const {
    return static_cast<int32_t>(
        Smaller(t.tile_groups, t.groups - static_cast<int64_t>(tile) * t.tile_groups));
  }

  // Rows of `groups` groups, one after the other both in GM and in UB. Groups of a whole number of
  // blocks need no padding, so such rows are one piece; others are copied group by group and the
  // copy itself pads them with zeros.
  template <typename T>
  __aicore__ inline void LoadRows(const LocalTensor<T>& to, const GlobalTensor<T>& from,
                                  int32_t rows, int32_t groups) {
    const int64_t bytes = t.group_channels * static_cast<int64_t>(sizeof(T));
    const uint8_t padding = static_cast<uint8_t>((AlignUp(bytes, 32) - bytes) / sizeof(T));
    DataCopyPad(to, from, RowCopy<T>(rows, groups),
                DataCopyPadExtParams<T>{padding != 0, 0, padding, T(0)});
  }

  template <typename T>
  __aicore__ inline void StoreRows(const GlobalTensor<T>& to, const LocalTensor<T>& from,
                                   int32_t rows, int32_t groups) {
    DataCopyExtParams copy = RowCopy<T>(rows, groups);
    copy.srcStride = copy.dstStride;  // the gaps are those of UB
    copy.dstStride = 0;
    DataCopyPad(to, from, copy);
  }

  // `zeros` again and again.
  template <typename T>
  __aicore__ inline void StoreZeros(const GlobalTensor<T>& to, int64_t first, int64_t count,
                                    const LocalTensor<T>& zeros) {
    const int64_t most = zeros.GetSize();
    for (int64_t done = 0; done < count; done += most) {
      const uint32_t bytes = static_cast<uint32_t>(Smaller(most, count - done) * sizeof(T));
      DataCopyPad(to[static_cast<uint64_t>(first + done)], zeros,
                  DataCopyExtParams{1, bytes, 0, 0, 0});
    }
  }

  // Lanes of the repeat at float c of a row of a tile.
  __aicore__ inline uint64_t Lanes(int32_t c) const {
    return static_cast<uint64_t>(Smaller(kRepeat, t.tile_pitch - c));
  }

  const bool dense;       // groups need no padding
  const bool whole_rows;  // a tile is all groups

 private:
  // From GM to UB. Where maps have 16 bits, a group of float32 may end blocks before the next one.
  template <typename T>
  __aicore__ inline DataCopyExtParams RowCopy(int32_t rows, int32_t groups) const {
    const uint32_t group_bytes = t.group_channels * sizeof(T);
    if (dense) return {1, rows * groups * group_bytes, 0, 0, 0};
    const uint32_t gap = (t.group_pitch * sizeof(T) - group_bytes) / 32;
    return {static_cast<uint16_t>(rows * groups), group_bytes, 0, gap, 0};
  }

  const Tiling& t;
  TBuf<TPosition::VECCALC> ub_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_MEMORY_H_
