// Which pairs are whose: every core gets an equal share of the visible pairs.
//
// The cores count the visible pairs of every granule, meet, and each finds where its share begins
// and ends. Shares end between granules, so an anchor may belong to several cores.

#ifndef JDA_ASCEND_SPLIT_H_
#define JDA_ASCEND_SPLIT_H_

#include "locations.h"

namespace jda_ascend {

constexpr int32_t kInt64Lanes = 4;   // in a block
constexpr int32_t kCounts = kChunk;  // granules counted before their counts are sent off

class Split : public Locations {
 protected:
  __aicore__ inline Split(const Tiling& tiling, TPipe& pipe, GM_ADDR locations, GM_ADDR workspace)
      : Locations(tiling, pipe, locations) {
    core_ = static_cast<int32_t>(GetBlockIdx());
    gm_sync_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(workspace + t.sync));
    gm_totals_.SetGlobalBuffer(reinterpret_cast<__gm__ int64_t*>(workspace + t.totals));
    gm_begins_.SetGlobalBuffer(reinterpret_cast<__gm__ int64_t*>(workspace + t.begins));
    gm_counts_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(workspace + t.counts));
    counts_ = Get<int32_t>(t.counts_held);
    slots_ = Get<int64_t>(t.slots);
  }

  // Sets begin_ and end_, the pairs of this core.
  __aicore__ inline void Share() {
    begin_ = 0;
    share_end_ = t.pairs;
    if (t.cores == 1) return;
    CountGranules();
    Meet();
    LoadSlots(gm_totals_);
    begin_ = Boundary(core_);
    share_end_ = Boundary(core_ + 1);
  }

  // All cores have finished their writes to GM when any goes on.
  __aicore__ inline void Meet() { SyncAll(gm_sync_, Get<int32_t>(t.meeting)); }

  // Publishes one number of this core.
  __aicore__ inline void StoreSlot(const GlobalTensor<int64_t>& gm, int64_t value) {
    slots_.SetValue(0, value);
    SetFlag<HardEvent::S_MTE3>(0);
    WaitFlag<HardEvent::S_MTE3>(0);
    DataCopyPad(gm[static_cast<uint64_t>(core_) * kInt64Lanes], slots_,
                DataCopyExtParams{1, sizeof(int64_t), 0, 0, 0});
    SetFlag<HardEvent::MTE3_S>(0);
    WaitFlag<HardEvent::MTE3_S>(0);
  }

  // Fetches the numbers of all cores, for Slot().
  __aicore__ inline void LoadSlots(const GlobalTensor<int64_t>& gm) {
    SetFlag<HardEvent::S_MTE2>(0);
    WaitFlag<HardEvent::S_MTE2>(0);
    const uint32_t gap = (kInt64Lanes - 1) * sizeof(int64_t);
    DataCopyPad(slots_, gm,
                DataCopyExtParams{static_cast<uint16_t>(t.cores), sizeof(int64_t), gap, 0, 0},
                DataCopyPadExtParams<int64_t>{false, 0, 0, 0});
    SetFlag<HardEvent::MTE2_S>(0);
    WaitFlag<HardEvent::MTE2_S>(0);
  }

  __aicore__ inline int64_t Slot(int32_t core) const { return slots_.GetValue(core * kInt64Lanes); }

  int32_t core_ = 0;
  int64_t begin_ = 0;
  int64_t share_end_ = 0;
  GlobalTensor<int64_t> gm_begins_;

 private:
  // A granule costs a little even when none of its pairs is visible.
  __aicore__ inline void CountGranules() {
    const int64_t first = Smaller(core_ * t.counted_granules, t.granules);
    const int64_t last = Smaller(first + t.counted_granules, t.granules);
    int64_t total = 0, sent = first;
    int32_t held = 0;
    StartRange(first * kGranule, Smaller(last * kGranule, t.pairs), t.granules * kGranule);
    while (NextChunk()) {
      SetFlag<HardEvent::V_S>(0);
      WaitFlag<HardEvent::V_S>(0);
      const LocalTensor<uint64_t> words = VisibleBits().ReinterpretCast<uint64_t>();
      for (uint32_t i = 0; i < PaddedPairs() / kGranule; ++i) {
        const int32_t cost = 1 + static_cast<int32_t>(ScalarGetCountOfValue<1>(words.GetValue(i)));
        counts_.SetValue(held++, cost);
        total += cost;
      }
      SetFlag<HardEvent::S_V>(0);
      WaitFlag<HardEvent::S_V>(0);
      if (held == kCounts || next_ >= last * kGranule || next_ >= t.pairs) {
        StoreCounts(sent, held);
        sent += held;
        held = 0;
      }
    }
    EndRange();
    StoreSlot(gm_totals_, total);
  }

  __aicore__ inline void StoreCounts(int64_t granule, int32_t count) {
    SetFlag<HardEvent::S_MTE3>(0);
    WaitFlag<HardEvent::S_MTE3>(0);
    DataCopyPad(gm_counts_[granule], counts_,
                DataCopyExtParams{1, static_cast<uint32_t>(count * sizeof(int32_t)), 0, 0, 0});
    SetFlag<HardEvent::MTE3_S>(0);
    WaitFlag<HardEvent::MTE3_S>(0);
  }

  // The first pair of core `index`: the first granule with index/cores of the cost before it.
  __aicore__ inline int64_t Boundary(int32_t index) {
    if (index == 0) return 0;
    if (index == t.cores) return t.pairs;
    int64_t all = 0;
    for (int32_t i = 0; i < t.cores; ++i) all += Slot(i);
    const int64_t wanted = all / t.cores * index + all % t.cores * index / t.cores;
    int64_t before = 0;
    int32_t counter = 0;
    while (before + Slot(counter) < wanted) before += Slot(counter++);
    int64_t granule = Smaller(counter * t.counted_granules, t.granules);
    while (before < wanted) {
      const int32_t held = LoadCounts(granule);
      for (int32_t i = 0; i < held && before < wanted; ++i, ++granule) {
        before += counts_.GetValue(i);
      }
    }
    return Smaller(granule * kGranule, t.pairs);
  }

  __aicore__ inline int32_t LoadCounts(int64_t granule) {
    const int32_t held = static_cast<int32_t>(Smaller(kCounts, t.granules - granule));
    SetFlag<HardEvent::S_MTE2>(0);
    WaitFlag<HardEvent::S_MTE2>(0);
    DataCopyPad(counts_, gm_counts_[granule],
                DataCopyExtParams{1, static_cast<uint32_t>(held * sizeof(int32_t)), 0, 0, 0},
                DataCopyPadExtParams<int32_t>{false, 0, 0, 0});
    SetFlag<HardEvent::MTE2_S>(0);
    WaitFlag<HardEvent::MTE2_S>(0);
    return held;
  }

  GlobalTensor<int32_t> gm_sync_;
  GlobalTensor<int64_t> gm_totals_;
  GlobalTensor<int32_t> gm_counts_;
  LocalTensor<int32_t> counts_;
  LocalTensor<int64_t> slots_;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_SPLIT_H_
