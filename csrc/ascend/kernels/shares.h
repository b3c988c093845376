// Which pairs are whose: every core gets an equal share of the visible pairs.
//
// The cores find the visible pairs of every granule, meet, and each finds where its share begins and
// ends. Shares end anywhere between pairs, so an anchor may belong to several cores.

#ifndef JDA_ASCEND_SHARES_H_
#define JDA_ASCEND_SHARES_H_

#include "locations.h"

namespace jda_ascend {

constexpr int32_t kInt64Lanes = 4;  // in a block

class Shares {
 public:
  __aicore__ inline Shares(const Tiling& tiling, Memory& memory, Locations& locations,
                           const Operands& operands)
      : t(tiling), locations_(locations) {
    GM_ADDR workspace = operands.workspace;
    core_ = static_cast<int32_t>(GetBlockIdx());
    gm_sync_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(workspace + t.sync));
    gm_totals_.SetGlobalBuffer(reinterpret_cast<__gm__ int64_t*>(workspace + t.totals));
    gm_begins_.SetGlobalBuffer(reinterpret_cast<__gm__ int64_t*>(workspace + t.begins));
    gm_bits_.SetGlobalBuffer(reinterpret_cast<__gm__ uint64_t*>(workspace + t.bits));
    words_ = memory.Get<uint64_t>(t.words);
    slots_ = memory.Get<int64_t>(t.slots);
    slot_ = memory.Get<int64_t>(t.slot);
    meeting_ = memory.Get<int32_t>(t.meeting);
  }

  // Asks for the first locations that this core looks through, before anything waits for memory.
  __aicore__ inline void Prepare() {
    Duplicate(slot_.ReinterpretCast<int32_t>(), 0, kLanes);
    const int64_t first = FirstCounted(core_) * kGranule;
    locations_.StartRange(first, Smaller(FirstCounted(core_ + 1) * kGranule, t.pairs),
                          t.granules * kGranule);
  }

  // Publishes the visible pairs of the granules that this core looks through, and their cost.
  __aicore__ inline void FindBits() {
    int64_t total = 0, sent = FirstCounted(core_);
    int32_t held = 0;
    while (locations_.NextChunk(words_[held].ReinterpretCast<uint8_t>())) {
      SetFlag<HardEvent::V_S>(kWordsEvent);
      WaitFlag<HardEvent::V_S>(kWordsEvent);
      const int32_t end = held + static_cast<int32_t>(locations_.PaddedPairs() / kGranule);
      for (; held < end; ++held) total += Cost(words_.GetValue(held));
      if (held < kWords && !locations_.AtEnd()) continue;
      StoreBits(sent, held);
      sent += held;
      held = 0;
    }
    locations_.EndRange();
    StoreSlot(gm_totals_, total);
  }

  // Finds the pairs of this core, begin() and end(), from the bits that all cores have found.
  __aicore__ inline void Find() {
    begin_ = 0;
    end_ = t.pairs;
    if (t.cores == 1) return;
    Meet();
    LoadSlots(gm_totals_, 0);
    int64_t ends[kMaxCores];  // the cost of what all cores up to one have looked through
    for (int32_t i = 0; i < t.cores; ++i) ends[i] = Slot(i) + (i == 0 ? 0 : ends[i - 1]);
    const Search first = Seek(core_, ends), last = Seek(core_ + 1, ends);
    const LocalTensor<uint64_t> others = words_[kWords];
    LoadBits(first, first.granule, words_);
    LoadBits(last, last.granule, others);
    AwaitBits();
    if (core_ > 0) begin_ = WholeUnits(PairAt(first, words_));
    if (core_ + 1 < t.cores) end_ = WholeUnits(PairAt(last, others));
  }

  // All cores have finished their writes to GM when any goes on.
  __aicore__ inline void Meet() { SyncAll(gm_sync_, meeting_); }

  // Publishes one number of this core, by the next meeting.
  __aicore__ inline void StoreSlot(const GlobalTensor<int64_t>& gm, int64_t value) {
    slot_.SetValue(0, value);
    SetFlag<HardEvent::S_MTE3>(kSlotEvent);
    WaitFlag<HardEvent::S_MTE3>(kSlotEvent);
    DataCopyPad(gm[static_cast<uint64_t>(core_) * kInt64Lanes], slot_,
                DataCopyExtParams{1, kInt64Lanes * sizeof(int64_t), 0, 0, 0});
  }

  // Fetches the numbers of all cores from `first` on, for Slot(). Comes behind Meet(), so that nothing
  // reads the numbers before any more.
  __aicore__ inline void LoadSlots(const GlobalTensor<int64_t>& gm, int32_t first) {
    const uint32_t at = static_cast<uint32_t>(first * kInt64Lanes);
    const uint32_t bytes = (t.cores - first) * kInt64Lanes * sizeof(int64_t);
    DataCopyPad(slots_[at], gm[at], DataCopyExtParams{1, bytes, 0, 0, 0},
                DataCopyPadExtParams<int64_t>{false, 0, 0, 0});
    SetFlag<HardEvent::MTE2_S>(kSlotsEvent);
    WaitFlag<HardEvent::MTE2_S>(kSlotsEvent);
  }

  __aicore__ inline int64_t Slot(int32_t core) const { return slots_.GetValue(core * kInt64Lanes); }

  __aicore__ inline int32_t core() const { return core_; }
  __aicore__ inline int64_t begin() const { return begin_; }
  __aicore__ inline int64_t end() const { return end_; }
  __aicore__ inline const GlobalTensor<int64_t>& gm_begins() const { return gm_begins_; }

 private:
  __aicore__ inline int64_t FirstCounted(int32_t core) const {
    return Smaller(core * t.counted_granules, t.granules);
  }

  // A granule costs a little even when none of its pairs is visible.
  __aicore__ inline int64_t Cost(uint64_t bits) const {
    return 1 + static_cast<int64_t>(ScalarGetCountOfValue<1>(bits));
  }

  __aicore__ inline void StoreBits(int64_t granule, int32_t count) {
    DataCopyPad(gm_bits_[granule], words_,
                DataCopyExtParams{1, static_cast<uint32_t>(count * sizeof(uint64_t)), 0, 0, 0});
    SetFlag<HardEvent::S_V>(kCountedEvent);
    WaitFlag<HardEvent::S_V>(kCountedEvent);
    SetFlag<HardEvent::MTE3_V>(kStoredBitsEvent);
    WaitFlag<HardEvent::MTE3_V>(kStoredBitsEvent);
  }

  // Where a share begins: `cost` into granules [granule, end).
  struct Search {
    int64_t granule, end, cost;
  };

  // Of core `index`, which has index/cores of all cost before it.
  __aicore__ inline Search Seek(int32_t index, const int64_t* ends) const {
    const int64_t all = ends[t.cores - 1];
    const int64_t wanted = all / t.cores * index + all % t.cores * index / t.cores;
    int32_t counter = 0;
    while (counter + 1 < t.cores && ends[counter] < wanted) ++counter;
    return {FirstCounted(counter), FirstCounted(counter + 1),
            wanted - (counter == 0 ? 0 : ends[counter - 1])};
  }

  __aicore__ inline int64_t PairAt(const Search& search, const LocalTensor<uint64_t>& words) {
    int64_t left = search.cost;
    for (int64_t granule = search.granule; granule < search.end;) {
      if (granule > search.granule) {
        SetFlag<HardEvent::S_MTE2>(kBitsEvent);
        WaitFlag<HardEvent::S_MTE2>(kBitsEvent);
        LoadBits(search, granule, words);
        AwaitBits();
      }
      const int64_t held = Smaller(kWords, search.end - granule);
      for (int32_t i = 0; i < held; ++i, ++granule) {
        const uint64_t bits = words.GetValue(i);
        const int64_t cost = Cost(bits);
        if (cost >= left) {
          return granule * kGranule + PairsWorth(bits, left);
        }
        left -= cost;
      }
    }
    return search.end * kGranule;
  }

  __aicore__ inline int64_t WholeUnits(int64_t pair) const {
    return Smaller(AlignUp(pair, t.share_unit), t.pairs);
  }

  // How many of a granule's pairs make up `cost`.
  __aicore__ inline int32_t PairsWorth(uint64_t bits, int64_t cost) const {
    int32_t pairs = 0;
    for (int32_t step = kGranule / 2; step > 0; step /= 2) {
      if (Cost(bits & ((uint64_t{1} << (pairs + step)) - 1)) < cost) pairs += step;
    }
    return pairs + 1;
  }

  __aicore__ inline void LoadBits(const Search& search, int64_t granule,
                                  const LocalTensor<uint64_t>& words) {
    const int64_t held = Smaller(kWords, search.end - granule);
    DataCopyPad(words, gm_bits_[granule],
                DataCopyExtParams{1, static_cast<uint32_t>(held * sizeof(uint64_t)), 0, 0, 0},
                DataCopyPadExtParams<uint64_t>{false, 0, 0, 0});
  }

  __aicore__ inline void AwaitBits() {
    SetFlag<HardEvent::MTE2_S>(kBitsEvent);
    WaitFlag<HardEvent::MTE2_S>(kBitsEvent);
  }

  const Tiling& t;
  Locations& locations_;
  GlobalTensor<int32_t> gm_sync_;
  LocalTensor<int32_t> meeting_;
  GlobalTensor<int64_t> gm_totals_, gm_begins_;
  LocalTensor<int64_t> slots_, slot_;
  GlobalTensor<uint64_t> gm_bits_;
  LocalTensor<uint64_t> words_;
  int32_t core_ = 0;
  int64_t begin_ = 0;
  int64_t end_ = 0;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_SHARES_H_
