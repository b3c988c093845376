// From the sizes of a call and the description of a card to the Tiling of a launch. Host code:
// a pure function, without CANN.

#ifndef JDA_ASCEND_MAKE_TILING_H_
#define JDA_ASCEND_MAKE_TILING_H_

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "check.h"
#include "tiling.h"

namespace jda_ascend {

using jda::Operation;

struct Call : jda::Sizes {
  int32_t y_axis;  // 0: locations are (y, x), 1: (x, y)
  Operation operation = Operation::kForward;
  Format maps_format = kFloat32, weight_format = kFloat32;
  // Of the backward kernel. A deterministic gradient of the feature maps is a launch of its own,
  // which wants nothing else.
  bool wants_features = false, wants_locations = false, wants_weight = false;
  bool deterministic = false;
  // Of a launch that is not the first, or not the last, of a call: sums take turns in one place.
  bool finds_zeros = false, leaves_zeros = false;
};

struct Card {
  int32_t cores;
  uint32_t ub_bytes = 196608 - 256 - 8192;  // less what the system and CANN's own functions take
};

namespace tiling_internal {

constexpr int64_t kMaxMaps = 1024;
constexpr int64_t kMaxStride = 255;  // 32-byte blocks between repeats
constexpr int64_t kMaxCopyBlocks = 4095;
constexpr int64_t kZeroBytes = 2048;  // what the backward kernel clears at once
constexpr int64_t kBlockWords = 4;    // granules whose bits fill a block
constexpr int64_t kLine = 512;        // bytes: what GM transfers like to be aligned to
constexpr int64_t kBytes16 = 2;
constexpr int64_t kSumsBytes = int64_t{96} << 20;  // of several batch elements at most: half of L2
constexpr int64_t kSumsPiece = 16384;              // of them, for which a core is worth its while

inline int64_t Up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Numbers of a format in a 32-byte block.
inline int64_t LanesOf(int32_t format) { return format == kFloat32 ? kLanes : kLanes16; }

inline std::string Limit(const char* name, int64_t value, const std::string& allowed) {
  return std::string(name) + "=" + std::to_string(value) + " on Ascend, where " + allowed;
}

inline std::string CheckLimits(const Call& call) {
  const std::string wrong = jda::wrong_groups(call);
  if (!wrong.empty()) return wrong;
  const int64_t maps = call.cameras * call.scales;
  if (maps > kMaxMaps) {
    return Limit("cam * scale", maps, "it is at most " + std::to_string(kMaxMaps));
  }
  if (call.rows > INT32_MAX) return Limit("num_feat", call.rows, "it is less than 2^31");
  if (2 * call.groups > kMaxCopyBlocks) return Limit("group", call.groups, "it is at most 2047");
  return "";
}

inline bool IsNarrow(int32_t format) { return format != kFloat32; }

// Sums in float32 stand in for a gradient of the feature maps that has 16 bits.
inline bool KeepsSums(const Call& call) {
  return call.operation == Operation::kBackward && call.wants_features &&
         IsNarrow(call.maps_format);
}

// Choices that share UB between them.
struct Cut {
  int64_t tiles, samples, together, buffers, block_pairs, block_anchors;
};

inline void ApplyCut(const Call& call, const Cut& cut, Tiling& t) {
  const int64_t tile_groups = Up(call.groups, cut.tiles) / cut.tiles;
  t.tile_groups = static_cast<int32_t>(tile_groups);
  t.tiles = static_cast<int32_t>(Up(call.groups, tile_groups) / tile_groups);
  t.tile_pitch = t.tile_groups * t.group_pitch;
  t.weight_pitch = static_cast<int32_t>(Up(tile_groups, kLanes));
  t.row_pitch = t.tiles * t.tile_pitch;
  t.samples = static_cast<int32_t>(cut.samples);
  t.together = static_cast<int32_t>(cut.together);
  // Forward, the rows of a sample follow each other, a little further apart than they are long: they
  // start in different banks, as their coefficients do. Backward, all upper rows come first, and all
  // rows are at the same distance.
  const bool forward = call.operation == Operation::kForward;
  t.planes = forward ? kForwardPlanes : kBackwardPlanes;
  const int32_t two = 2 * t.tile_pitch;
  t.upper_pitch = forward ? two + (t.tile_pitch % kRepeat == 0 ? kApart : 0) : t.samples * two;
  t.sample_pitch = forward ? 2 * t.upper_pitch : two;
  t.buffers = static_cast<int32_t>(cut.buffers);
  t.block_pairs = static_cast<int32_t>(cut.block_pairs);
  t.block_anchors = static_cast<int32_t>(cut.block_anchors);
}

inline bool KeepsInstructionLimits(const Tiling& t) {
  return t.tile_pitch / kLanes <= kMaxStride && t.tile_groups <= kRepeat &&
         t.samples * t.weight_pitch / kLanes <= kMaxRepeats &&
         t.scales * t.weight_pitch / kLanes <= kMaxStride;
}

// Floats of all corner rows of so many samples.
inline int64_t CornerNumbers(const Tiling& t, int64_t samples) {
  return std::max<int64_t>(samples * t.sample_pitch, 2 * t.upper_pitch);
}

// Lays the areas out one after the other; returns the bytes of UB that they take.
inline int64_t LayOut(const Call& call, Tiling& t) {
  int64_t end = 0;
  const auto put = [&end](Area& area, int64_t bytes) {
    area = {static_cast<uint32_t>(std::min<int64_t>(end, UINT32_MAX)),
            static_cast<uint32_t>(std::min<int64_t>(Up(bytes, 32), UINT32_MAX))};
    end += Up(bytes, 32);
  };
  const bool backward = call.operation == Operation::kBackward;
  const bool reads_features = !backward || call.wants_locations || call.wants_weight;
  const bool writes_features = backward && call.wants_features;
  const bool reduces = backward && reads_features;
  const int64_t f = sizeof(float), bank = kBankFloats * f, shift = kBankShift * f;
  const int64_t pairs = t.block_pairs, samples = t.samples, scales = call.scales;
  const int64_t together = t.together;
  const int64_t maps = call.cameras * scales;
  const bool narrow = IsNarrow(t.maps_format);
  const int64_t corners = CornerNumbers(t, samples) * f;
  const int64_t loaded = narrow ? CornerNumbers(t, samples) * kBytes16 : corners;
  const int64_t sums = backward ? samples * t.tile_pitch
                       : narrow ? 0
                                : samples * t.sample_pitch / 4;

  put(t.slots, int64_t{t.cores} * 32);
  put(t.meeting, int64_t{t.cores} * 32);
  put(t.words, 2 * kWords * static_cast<int64_t>(sizeof(uint64_t)));
  const int64_t before_share = end;
  end = 0;
  put(t.corners, reads_features ? t.buffers * loaded : 0);
  end = Up(std::max(end, before_share), bank);
  put(t.scratch, std::max({(backward ? 8 : 10) * scales * pairs * f, 2 * kChunk * f,
                           reduces && !writes_features ? 0 : sums * f}));
  end = Up(end, bank) + shift;  // sums are read along with what lies at the start of a bank
  put(t.ring, 2 * int64_t{t.block_anchors} * t.row_pitch * f);
  const int64_t narrow_rows = 2 * t.block_anchors + (backward ? 0 : 1);
  put(t.narrow_ring, narrow ? narrow_rows * t.row_pitch * kBytes16 : 0);
  end = Up(end, bank);
  if (narrow && reads_features) put(t.widened, CornerNumbers(t, together) * f);
  end = Up(end, bank);
  put(t.bilinear, (backward ? 4 * kSpread : 2 * kColumnBlocks) * kLanes * f);
  end = Up(end, bank);
  put(t.spread, (together + (backward ? 0 : 1)) * t.weight_pitch * kLanes * f);
  put(t.maps, 4 * Up(maps, kLanes) * f);
  put(t.map_rows, 2 * maps * f);
  put(t.slot, 32);
  put(t.raw, 2 * kChunk * f);
  put(t.bits_held, 4 * kChunk / 8);
  put(t.compact, 3 * (kChunk + kLanes) * f);
  put(t.iota, kChunk * f);
  put(t.offsets, pairs * f);
  put(t.pairs_held, 2 * pairs * f);
  put(t.place, 3 * pairs * f);
  put(t.geometry, 2 * t.planes * scales * pairs * f);
  put(t.weights, 2 * scales * pairs * t.weight_pitch * f);
  put(t.step_weights, pairs * t.weight_pitch * f);
  put(t.zero, backward ? kZeroBytes : t.row_pitch * f);
  put(t.gradients, writes_features ? corners : 0);
  put(t.dots, reduces ? 4 * samples * t.weight_pitch * f : 0);
  put(t.dots_scratch, reduces ? 4 * samples * t.weight_pitch * f : 0);
  put(t.edges, reduces ? 4 * pairs * f : 0);
  put(t.location_gradient, reduces ? 2 * pairs * f : 0);
  put(t.location_rows, reduces ? 2 * pairs * kLanes * f : 0);
  return end;
}

// The largest blocks that fit, if need be of fewer anchors than the pairs of a block may touch.
inline bool ChooseBlock(const Call& call, const Card& card, Cut cut, Tiling& t) {
  constexpr int64_t kBlockSamples = 256;  // of a block in all scales
  const int64_t most = Up(kBlockSamples / std::max<int64_t>(call.scales, 1), kLanes);
  const int64_t touched = kChunk / std::max<int64_t>(call.points * call.cameras, 1) + 2;
  for (const int64_t useful : {std::min<int64_t>(touched, 4), int64_t{1}}) {
    const int64_t least_pairs = useful > 1 ? most / 2 : kLanes;
    for (int64_t pairs = most; pairs >= least_pairs; pairs = pairs / 2 / kLanes * kLanes) {
      for (int64_t anchors = std::min<int64_t>(touched, 8); anchors >= useful; --anchors) {
        cut.block_pairs = pairs;
        cut.block_anchors = anchors;
        ApplyCut(call, cut, t);
        if (!KeepsInstructionLimits(t)) return false;
        const int64_t bytes = LayOut(call, t);
        t.ub_bytes = static_cast<uint32_t>(std::min<int64_t>(bytes, UINT32_MAX));
        if (bytes <= card.ub_bytes) return true;
      }
    }
  }
  return false;
}

// The widest tiles that leave room for packets of a useful size; then the largest packets.
inline bool ChooseCut(const Call& call, const Card& card, int64_t least_tiles, Tiling& t) {
  // The backward kernel computes longer than it loads; two buffers are enough.
  const int64_t most_buffers = call.operation == Operation::kForward ? 3 : 2;
  // Rows of 16 bits are widened before they are computed with, and loaded over meanwhile: two packets
  // make one, of which each instruction has twice as much to do.
  const int64_t packets =
      call.operation == Operation::kForward && IsNarrow(call.maps_format) ? 2 : 1;
  for (const int64_t least_samples : {4, 1}) {
    for (int64_t tiles = least_tiles; tiles <= std::max<int64_t>(call.groups, 1); ++tiles) {
      for (int64_t samples = 8; samples >= least_samples; samples /= 2) {
        for (int64_t together = packets * samples; together >= samples; together /= 2) {
          for (int64_t buffers = most_buffers; buffers >= 2; --buffers) {
            if (ChooseBlock(call, card, {tiles, samples, together, buffers, 0, 0}, t)) return true;
          }
        }
      }
    }
  }
  return false;
}

// How many times so many numbers fill whole 32-byte blocks of GM.
inline int64_t WholeBlocks(int64_t numbers, int64_t lanes = kLanes) {
  return lanes / std::gcd(numbers, lanes);
}

// No two cores write into one 32-byte block of GM: no document says what becomes of it.
inline int64_t ShareUnit(const Call& call, const Tiling& t) {
  if (call.operation == Operation::kBackward) {  // gradients of locations and of weights
    return std::max(WholeBlocks(2),
                    WholeBlocks(call.scales * call.groups, LanesOf(call.weight_format)));
  }
  const int64_t anchors = WholeBlocks(call.channels, LanesOf(call.maps_format));
  return anchors == 1 ? 1 : anchors * t.anchor_pairs;  // a row may be the sum of several cores
}

// Sums are rounded when everything else in UB is done with: as many at once as two buffers hold, beside
// the zeros that are left in their place.
inline void LayOutRounding(Tiling& t) {
  const int64_t both = sizeof(float) + sizeof(uint16_t);
  const int64_t bytes = 2 * both + (t.leaves_zeros != 0 ? sizeof(float) : 0);
  t.rounded_at_once = t.ub_bytes / bytes / (kLine / 2) * (kLine / 2);
  const auto held = static_cast<uint32_t>(2 * t.rounded_at_once * sizeof(float));
  t.sums_held = {0, held};
  t.sums_rounded = {held, held / 2};
  if (t.leaves_zeros != 0) t.sums_cleared = {held + held / 2, held / 2};
}

inline void LayOutWorkspace(const Call& call, Tiling& t) {
  int64_t end = 0;
  const auto put = [&end](int64_t& offset, int64_t bytes) {
    offset = end;
    end += Up(bytes, kLine);
  };
  put(t.sync, int64_t{kMaxCores} * 32);
  put(t.sums, KeepsSums(call) ? t.batch * t.rows * t.channels * 4 : 0);
  t.workspace_zeroed = call.finds_zeros ? t.sums : end;
  put(t.totals, int64_t{t.cores} * 32);
  put(t.begins, int64_t{t.cores} * 32);
  put(t.bits, t.granules * static_cast<int64_t>(sizeof(uint64_t)));
  put(t.partials, t.cores * Up(t.channels, kLanes) * static_cast<int64_t>(sizeof(float)));
  t.workspace_bytes = end;
}

}  // namespace tiling_internal

// Batch elements of one launch at most. Where a launch keeps sums, those of many elements would take
// twice the memory of their maps. A deterministic launch shares out groups of elements, and has one for
// every core. Where one launch ends in a gradient, another begins: whole blocks end there too.
inline int64_t ElementsAtOnce(const Call& call, const Card& card) {
  namespace in = tiling_internal;
  if (!in::KeepsSums(call)) return std::max<int64_t>(call.batch, 1);
  const int64_t one = std::max<int64_t>(call.rows * call.channels * 4, 1);
  const int64_t groups = std::max<int64_t>(call.groups, 1);
  const int64_t useful = call.deterministic ? (card.cores + groups - 1) / groups : 1;
  const int64_t pairs = call.anchors * call.points * call.cameras;
  int64_t unit = in::WholeBlocks(call.rows * call.channels, in::LanesOf(call.maps_format));
  if (call.wants_locations) unit = std::max(unit, in::WholeBlocks(2 * pairs));
  if (call.wants_weight) {
    const int64_t weights = pairs * call.scales * call.groups;
    unit = std::max(unit, in::WholeBlocks(weights, in::LanesOf(call.weight_format)));
  }
  return std::max(in::kSumsBytes / one / unit * unit, in::Up(useful, unit));
}

// Fills `t`, or returns what is beyond the kernels' limits.
inline std::string MakeTiling(const Call& call, const Card& card, Tiling& t) {
  namespace in = tiling_internal;
  t = Tiling{};
  static_cast<jda::Sizes&>(t) = call;
  const std::string error = in::CheckLimits(call);
  if (!error.empty()) return error;
  t.y_axis = call.y_axis;
  t.maps_format = call.maps_format;
  t.weight_format = call.weight_format;
  t.deterministic = call.deterministic ? 1 : 0;
  t.leaves_zeros = call.leaves_zeros ? 1 : 0;
  t.anchor_pairs = call.points * call.cameras;
  t.pairs = call.scales == 0 ? 0 : call.batch * call.anchors * t.anchor_pairs;
  t.granules = in::Up(t.pairs, kGranule) / kGranule;
  t.share_unit = in::ShareUnit(call, t);
  t.group_channels = static_cast<int32_t>(call.channels / call.groups);
  t.group_pitch = static_cast<int32_t>(in::Up(t.group_channels, in::LanesOf(t.maps_format)));

  const bool sums = in::KeepsSums(call);
  int64_t pieces = t.pairs == 0 ? call.batch * call.anchors : t.granules;
  int64_t least_tiles = 1;
  if (call.deterministic) {
    least_tiles =
        std::clamp<int64_t>(card.cores / std::max<int64_t>(call.batch, 1), 1, call.groups);
    pieces = call.batch * call.groups;
  }
  if (sums) pieces = std::max(pieces, call.batch * call.rows * call.channels / in::kSumsPiece);
  t.cores = static_cast<int32_t>(std::clamp<int64_t>(pieces, 1, std::min(card.cores, kMaxCores)));
  if (!in::ChooseCut(call, card, least_tiles, t)) {
    return in::Limit("c / group", t.group_channels, "a block of pairs of one group must fit UB") +
           ": scale=" + std::to_string(call.scales);
  }
  if (call.deterministic && !sums) {
    t.cores = static_cast<int32_t>(std::clamp<int64_t>(call.batch * t.tiles, 1, t.cores));
  }
  t.counted_granules = in::Up(in::Up(t.granules, t.cores) / t.cores, in::kBlockWords);
  if (sums) in::LayOutRounding(t);
  in::LayOutWorkspace(call, t);
  return "";
}

// The launches of a call, which follow each other on one stream and in one workspace, or what is beyond
// the kernels' limits.
inline std::string MakeLaunches(Call call, const Card& card, std::vector<Tiling>& launches) {
  const int64_t batch = call.batch, at_once = ElementsAtOnce(call, card);
  for (int64_t first = 0; first == 0 || first < batch; first += at_once) {
    call.batch = std::min(at_once, batch - first);
    call.finds_zeros = first > 0;
    call.leaves_zeros = first + at_once < batch;
    const std::string error = MakeTiling(call, card, launches.emplace_back());
    if (!error.empty()) return error;
  }
  return "";
}

}  // namespace jda_ascend

#endif  // JDA_ASCEND_MAKE_TILING_H_
