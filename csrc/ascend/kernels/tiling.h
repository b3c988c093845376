// How one launch is cut into pieces: a plain struct that the host fills (make_tiling.h) and that
// the kernels take by value.
//
// Vocabulary. A *pair* is a key point seen by a camera: one location. All pairs of a launch are
// numbered in memory order, so an anchor is a segment of `anchor_pairs` of them. A *sample* is a
// visible pair in one scale. A *granule* is the unit in which pairs are shared out to cores, a
// *chunk* what is loaded and compacted at once, a *block* the visible pairs that are prepared
// together, a *packet* the samples of one scale whose corner rows are in flight together. A *tile* is
// the channel groups that are processed together.
//
// A row in UB holds `tile_groups` groups, each padded to whole 32-byte blocks: every group starts
// aligned, whatever the number of channels. Rows of 16 bits have the same pitch in numbers as the rows
// of float32 that they are widened to, so a row is widened as one piece.
//
// In a deterministic launch a core adds to the tiles of grad_feature_maps that it owns, alone and in
// order. It adds atomically even so: where tiles do not fill whole 32-byte blocks of a row, two cores
// add to different floats of one block at the same time. That these leave each other alone is what
// the atomic additions of every launch rely on. Of plain writes to parts of a block nothing says it.

#ifndef JDA_ASCEND_TILING_H_
#define JDA_ASCEND_TILING_H_

#include <cstdint>

#include "problem.h"

namespace jda_ascend {

constexpr int32_t kGranule = 64;  // pairs: one repeat of the vector unit
constexpr int32_t kChunk = 8 * kGranule;
constexpr int32_t kWords = 32;    // granules whose bits are held at once, at two places
constexpr int32_t kMaxRuns = 16;  // anchors that one block may touch
constexpr int32_t kMaxCores = 64;
constexpr int32_t kLanes = 8;    // floats in a 32-byte block
constexpr int32_t kRepeat = 64;  // floats in one repeat
constexpr int32_t kMaxRepeats = 255;
constexpr int32_t kSpread = 32;  // samples whose coefficients are spread over blocks at once
constexpr int32_t kForwardPlanes = 7, kBackwardPlanes = 11;  // of the geometry of a block
constexpr int32_t kLanes16 = 16;                             // 16-bit numbers in a 32-byte block
// Blocks of their coefficients of one column, forward, where a second copy lies in between.
constexpr int32_t kColumnBlocks = 4 * kSpread + kLanes16;
constexpr int32_t kBankFloats = 128;  // UB addresses this far apart share a group of banks
constexpr int32_t kBankShift = kBankFloats / 2;  // to where a repeat's operands do not meet
constexpr int32_t kApart = 2 * kLanes;  // floats between rows that start in different banks

// How numbers are stored in GM. All are computed with in float32.
enum Format : int32_t { kFloat32, kFloat16, kBfloat16 };

struct Area {
  uint32_t offset;  // bytes from the start of UB
  uint32_t bytes;
};

struct Tiling : jda::Sizes {
  int64_t anchor_pairs;      // points * cameras
  int64_t pairs;             // batch * anchors * anchor_pairs
  int64_t granules;          // that all pairs make
  int64_t counted_granules;  // that one core counts, whose bits fill whole blocks of GM
  int64_t share_unit;  // pairs: shares end at multiples of it, so that results fill whole blocks

  int32_t cores;
  int32_t maps_format;     // a Format: of feature maps and results
  int32_t weight_format;   // a Format
  int32_t y_axis;          // position of y in a location
  int32_t deterministic;   // 1: cores own tiles of grad_feature_maps
  int32_t samples;         // of a packet at most: 1, 2, 4 or 8
  int32_t together;        // samples that are computed together: those of one packet or of two
  int32_t block_pairs;     // of a block at most, a multiple of 8
  int32_t block_anchors;   // that a block may touch
  int32_t group_channels;  // channels of a group
  int32_t group_pitch;     // ... padded to whole blocks
  int32_t tile_groups;     // of a tile at most
  int32_t tiles;
  int32_t tile_pitch;    // floats of a row of a tile
  int32_t upper_pitch;   // floats from a sample's upper corner rows to its lower ones
  int32_t sample_pitch;  // ... to those of the next sample
  int32_t weight_pitch;  // tile_groups padded to whole blocks
  int32_t row_pitch;     // floats of a row of all tiles
  int32_t buffers;       // of corner rows: packets that are loaded before they are computed
  int32_t planes;        // of the geometry of a block

  int64_t rounded_at_once;  // numbers of grad_feature_maps, where that has 16 bits

  // Workspace in GM, byte offsets. The host zeroes the first `workspace_zeroed` bytes. `sums` are those
  // of a grad_feature_maps of 16 bits; they lie at the same place in every launch of a call.
  int64_t sync, sums, totals, begins, bits, partials, workspace_bytes, workspace_zeroed;

  // UB. What the cores need to share out the pairs lies where the corner rows come later; what only
  // the vector unit uses, and never at the same time, lies in `scratch`.
  Area slots, meeting, words;
  Area maps, map_rows, slot;
  Area raw, bits_held, compact, iota, offsets, pairs_held, place;
  Area geometry, scratch, weights, step_weights, spread, bilinear;
  Area corners, widened, ring, narrow_ring, zero;
  Area gradients, dots, dots_scratch, edges, location_gradient, location_rows;
  Area sums_held, sums_rounded, sums_cleared;  // over all others
  uint32_t ub_bytes;
  int32_t leaves_zeros;  // 1: where sums were that are rounded, for the next launch
};

static_assert(sizeof(Tiling) % 8 == 0 && sizeof(Tiling) < 1024, "launch argument");

}  // namespace jda_ascend

#endif  // JDA_ASCEND_TILING_H_
