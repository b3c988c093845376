// Every event id of both kernels, by pair of pipes: which flag is whose.
//
// A flag is one bit, and it may be set again only when the wait for it is known to be over, not
// merely dispatched. So what happens once has an id of its own, and buffers that alternate have one
// each. Ids 6 and 7 are kept for the system.
//
// Library calls take ids that the kernel has not allocated: id 0, as nothing is allocated here.
// SyncAll is the only one of ours that does. It sets MTE2_S, S_MTE3, MTE3_MTE2 and S_MTE2, and
// returns before its last waits are over, so id 0 of these four pairs is left to it. Everything
// else that is called here (copies, Duplicate, arithmetic, Cast, CompareScalar, And, Gather,
// GatherMask, Brcb, WholeReduceSum) sets no flag at all.

#ifndef JDA_ASCEND_EVENTS_H_
#define JDA_ASCEND_EVENTS_H_

#include <cstdint>

namespace jda_ascend {

// MTE2_V, what was loaded is there; V_MTE2, its place may be filled again.
constexpr int32_t kCornersEvent = 0;   // to 2: one for each buffer of corner rows
constexpr int32_t kRawEvent = 3;       // locations as they come
constexpr int32_t kWeightsEvent = 4;   // V_MTE2: 4 and 5, one for each buffer; loaded with corners
constexpr int32_t kMapsEvent = 4;      // MTE2_V: sizes and starts of the maps
constexpr int32_t kPartialsEvent = 5;  // MTE2_V; V_MTE2 when no weights are left: sums of others

// MTE2_S, what was loaded may be read; S_MTE2, it was read. Id 0 is SyncAll's.
constexpr int32_t kSlotsEvent = 1;  // MTE2_S: a number of every core
constexpr int32_t kBitsEvent = 2;   // which pairs are visible

// S_MTE3, what was written may be stored. Id 0 is SyncAll's.
constexpr int32_t kSlotEvent = 1;  // a number of this core

// MTE3_MTE2, what was stored may be loaded over. Id 0 is SyncAll's.
constexpr int32_t kWeightGradientEvent = 1;  // 1 and 2, one for each buffer of weights

// V_S, what was computed may be read.
constexpr int32_t kPlacedEvent = 0;    // the pairs of a block
constexpr int32_t kGeometryEvent = 1;  // 1 and 2, one for each block: where its corners are
constexpr int32_t kWordsEvent = 3;     // which pairs are visible
constexpr int32_t kTablesEvent = 4;    // of maps

// S_V, what was read may be computed anew, and what was written may be read.
constexpr int32_t kReadEvent = 0;      // the pairs of the block before
constexpr int32_t kLookedUpEvent = 1;  // the geometry of the block before; the tables of maps
constexpr int32_t kNumbersEvent = 2;   // the first numbers
constexpr int32_t kCountedEvent = 3;   // which pairs are visible

// V_MTE3, what was computed may be stored; MTE3_V, its place may be computed anew.
constexpr int32_t kSumsEvent = 0;             // forward: 0 and 1, the sums of one block each
constexpr int32_t kZeroEvent = 2;             // forward, V_MTE3: zeros
constexpr int32_t kCombinedEvent = 3;         // forward, V_MTE3: the sum of all cores
constexpr int32_t kStoredWeightsEvent = 0;    // backward, V_MTE3: 0 and 1, a buffer of weights each
constexpr int32_t kFeatureGradientEvent = 2;  // backward; and 5, where they take turns
constexpr int32_t kLocationGradientEvent = 3;  // backward
constexpr int32_t kStoredBitsEvent = 4;        // MTE3_V: which pairs are visible

// All four at last, when every other flag is down: the buffers of sums that are rounded.
constexpr int32_t kSumsHeldEvent = 0;  // and 1

}  // namespace jda_ascend

#endif  // JDA_ASCEND_EVENTS_H_
