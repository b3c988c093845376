// Every buffer of every legal size fits UB, none overlaps another, nothing overflows: MakeTiling
// over the corners of the limits and over random sizes. The best choice that fits is taken. Prints
// what is wrong and fails.

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "make_tiling.h"

using jda_ascend::Area;
using jda_ascend::Call;
using jda_ascend::Card;
using jda_ascend::Operation;
using jda_ascend::Tiling;

namespace {

int failures = 0;

void expect(bool holds, const char* what, const Call& c, const Tiling& t) {
  if (holds) return;
  if (++failures > 20) return;
  std::printf("%s: batch=%" PRId64 " rows=%" PRId64 " c=%" PRId64 " anchors=%" PRId64
              " pts=%" PRId64 " cam=%" PRId64 " scale=%" PRId64 " group=%" PRId64 " ub=%u\n",
              what, c.batch, c.rows, c.channels, c.anchors, c.points, c.cameras, c.scales, c.groups,
              t.ub_bytes);
}

#define EXPECT(condition) expect(condition, #condition, call, t)

// What lies in the kernels' way at the same time, and what they need before the first corner rows.
std::vector<Area> areas(const Tiling& t) {
  const auto* first = reinterpret_cast<const Area*>(&t.maps);
  const auto* last = reinterpret_cast<const Area*>(&t.location_rows);
  return {first, last + 1};
}

std::vector<Area> areas_for_sharing(const Tiling& t) {
  std::vector<Area> found{t.slots, t.meeting, t.words};
  for (const Area& area : areas(t)) {
    if (area.offset != t.corners.offset) found.push_back(area);
  }
  return found;
}

void check_areas(const Call& call, const Card& card, const Tiling& t) {
  for (std::vector<Area> all : {areas(t), areas_for_sharing(t)}) {
    std::sort(all.begin(), all.end(), [](Area a, Area b) {
      return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
    });
    uint64_t end = 0;
    for (const Area& area : all) {
      EXPECT(area.offset % 32 == 0 && area.offset >= end);
      end = uint64_t{area.offset} + area.bytes;
    }
    EXPECT(end <= t.ub_bytes && t.ub_bytes <= card.ub_bytes);
  }
}

int64_t whole(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// What the kernels address in each area, computed here from its use, and not a block more.
void check_sizes(const Call& call, const Tiling& t) {
  const int64_t pairs = t.block_pairs, n = t.samples, scales = call.scales;
  const int64_t maps = call.cameras * scales, lanes = jda_ascend::kLanes;
  const int64_t chunk = jda_ascend::kChunk, spread = 4 * jda_ascend::kSpread * lanes;
  const bool backward = call.operation == Operation::kBackward;
  const bool features = backward && call.wants_features;
  const bool others = backward && (call.wants_locations || call.wants_weight);
  const auto holds = [](const Area& area, int64_t floats) {
    return area.bytes == whole(4 * floats, 32);
  };
  if (!call.deterministic) {  // where cores share pairs
    EXPECT(holds(t.slots, lanes * t.cores) && holds(t.meeting, lanes * t.cores));
  }
  EXPECT(holds(t.words, 2 * 2 * jda_ascend::kWords) && holds(t.slot, lanes));
  EXPECT(holds(t.maps, 4 * whole(maps, lanes)) && holds(t.map_rows, 2 * maps));
  EXPECT(holds(t.raw, 2 * chunk) && holds(t.bits_held, 4 * chunk / 32));
  EXPECT(holds(t.compact, 3 * (chunk + lanes)) && holds(t.iota, chunk));
  EXPECT(holds(t.offsets, pairs) && holds(t.pairs_held, 2 * pairs) && holds(t.place, 3 * pairs));
  EXPECT(t.planes == (backward ? 11 : 7) && holds(t.geometry, 2 * t.planes * scales * pairs));
  EXPECT(holds(t.weights, 2 * scales * pairs * t.weight_pitch));
  EXPECT(holds(t.step_weights, pairs * t.weight_pitch));
  const int64_t m = t.together, columns = 2 * (2 * 2 * jda_ascend::kSpread + 16);
  EXPECT(holds(t.spread, (backward ? n : m + 1) * t.weight_pitch * lanes));
  EXPECT(holds(t.bilinear, backward ? spread : columns * lanes));
  EXPECT(holds(t.ring, 2LL * t.block_anchors * t.row_pitch));
  EXPECT(holds(t.zero, backward ? 512 : t.row_pitch));
  const bool narrow = call.maps_format != jda_ascend::kFloat32;
  const int64_t anchors = 2LL * t.block_anchors + (backward ? 0 : 1);
  EXPECT(holds(t.narrow_ring, narrow ? whole(anchors * t.row_pitch, 2) / 2 : 0));
  const int64_t all = backward ? 2 * n * t.sample_pitch : n * t.sample_pitch;
  EXPECT(holds(t.widened, narrow && (others || !backward) ? all / n * m : 0));
  const int64_t loaded = narrow ? all / 2 : all;
  EXPECT(holds(t.corners, backward && !others ? 0 : t.buffers * loaded));
  EXPECT(holds(t.gradients, features ? 4 * n * t.tile_pitch : 0));
  EXPECT(holds(t.dots, others ? 4 * n * t.weight_pitch : 0));
  EXPECT(holds(t.dots_scratch, others ? 4 * n * t.weight_pitch : 0));
  EXPECT(holds(t.edges, others ? 4 * pairs : 0));
  EXPECT(holds(t.location_gradient, others ? 2 * pairs : 0));
  EXPECT(holds(t.location_rows, others ? 2 * pairs * lanes : 0));
  // In turn: a chunk's places, the geometry of a block, a batch's rows.
  const int64_t rows = backward ? (features ? n * t.tile_pitch : 0) : narrow ? 0 : all / 4;
  EXPECT(holds(t.scratch, std::max({2 * chunk, (backward ? 8 : 10) * scales * pairs, rows})));
}

void check_cut(const Call& call, const Tiling& t) {
  EXPECT(int64_t{t.group_channels} * call.groups == call.channels);
  const int64_t lanes = call.maps_format == jda_ascend::kFloat32 ? 8 : 16;
  EXPECT(t.group_pitch == whole(t.group_channels, lanes));
  EXPECT(int64_t{t.tiles} * t.tile_groups >= call.groups);
  EXPECT((t.tiles - 1LL) * t.tile_groups < call.groups);
  EXPECT(t.block_pairs % 8 == 0 && t.block_pairs >= 8 && t.block_anchors >= 1);
  EXPECT(t.block_pairs <= jda_ascend::kChunk && 8 % t.samples == 0);
  EXPECT(t.block_anchors <= jda_ascend::kMaxRuns);
  // Limits of instructions: repeats and strides of 8 bits, missing corners in 64 bits.
  EXPECT(t.buffers >= 2 && t.buffers <= 3);
  EXPECT(t.scales * t.weight_pitch / 8 <= 255);
  const bool forward = call.operation == Operation::kForward;
  EXPECT(t.together == t.samples || (forward && lanes == 16 && t.together == 2 * t.samples));
  // Blocks are whole in 16 bits too, and a repeat steps from sample to sample once they are summed.
  EXPECT(t.upper_pitch >= 2 * t.tile_pitch && t.upper_pitch % lanes == 0);
  EXPECT(t.sample_pitch == (forward ? 2 * t.upper_pitch : 2 * t.tile_pitch));
  EXPECT(!forward || t.sample_pitch / 4 / 8 <= 255);
  // Of rows that no stride reaches, samples go where the first two were: eight at most.
  EXPECT(!forward || lanes == 8 || t.sample_pitch / 8 <= 255 || t.together <= 8);
  EXPECT(t.tile_pitch / 8 <= 255 && t.tile_groups <= 64);
  EXPECT(t.samples * t.weight_pitch / 8 <= 255);
  EXPECT(2 * call.groups <= 4095 && call.scales <= 4095);
}

void check_work(const Call& call, const Card& card, const Tiling& t) {
  EXPECT(t.cores >= 1 && t.cores <= card.cores);
  EXPECT(t.deterministic == (call.deterministic ? 1 : 0) && t.y_axis == call.y_axis);
  EXPECT(t.maps_format == call.maps_format && t.weight_format == call.weight_format);
  EXPECT(t.counted_granules * t.cores >= t.granules);
  EXPECT(t.granules * 64 >= t.pairs);
  // Areas in GM that follow each other in whole lines.
  const int64_t blocks = whole(32 * t.cores, 512), meeting = 32 * jda_ascend::kMaxCores;
  const bool sums = call.operation == Operation::kBackward && call.wants_features &&
                    call.maps_format != jda_ascend::kFloat32;
  const int64_t end = meeting + (sums ? whole(4 * call.batch * call.rows * call.channels, 512) : 0);
  EXPECT(t.sync == 0 && t.sums == meeting && t.totals == end);
  EXPECT(t.workspace_zeroed == (call.finds_zeros ? meeting : end));
  EXPECT(t.begins == end + blocks && t.bits == end + 2 * blocks);
  // Two pieces of sums in UB, each as float32 and as 16 bits, in whole lines of GM; and zeros.
  EXPECT(t.leaves_zeros == (call.leaves_zeros ? 1 : 0));
  const int64_t piece = sums ? t.ub_bytes / (call.leaves_zeros ? 16 : 12) / 256 * 256 : 0;
  const int64_t zeros = call.leaves_zeros ? 4 * piece : 0;
  EXPECT(t.rounded_at_once == piece && (piece > 0) == sums);
  EXPECT(t.sums_held.offset == 0 && t.sums_held.bytes == 8 * piece);
  EXPECT(t.sums_rounded.offset == 8 * piece && t.sums_rounded.bytes == 4 * piece);
  EXPECT(t.sums_cleared.bytes == zeros && (zeros == 0 || t.sums_cleared.offset == 12 * piece));
  EXPECT(t.partials == t.bits + whole(8 * t.granules, 512));
  EXPECT(t.workspace_bytes == t.partials + whole(4 * t.cores * whole(call.channels, 8), 512));
  // Where one core's part of an array ends and the next one's begins, whole blocks end too.
  EXPECT(t.counted_granules * 8 % 32 == 0);
  if (call.operation == Operation::kBackward) {
    const int64_t weight = call.weight_format == jda_ascend::kFloat32 ? 4 : 2;
    EXPECT(t.share_unit * 8 % 32 == 0);
    EXPECT(t.share_unit * call.scales * call.groups * weight % 32 == 0);
    return;
  }
  const int64_t row = call.channels * (call.maps_format == jda_ascend::kFloat32 ? 4 : 2);
  if (row % 32 == 0) {
    EXPECT(t.share_unit == 1);
  } else if (t.pairs > 0) {
    EXPECT(t.share_unit % t.anchor_pairs == 0);
    EXPECT(t.share_unit / t.anchor_pairs * row % 32 == 0);
  }
}

void check_all(Call call, const Card& card, bool must_fit) {
  // What is wanted: forward, gradients, and 8 for a deterministic launch; then some in 16 bits.
  constexpr int kWhich[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 6, 7, 8, 0, 7};
  for (int variant = 0; variant < 16; ++variant) {
    const int which = kWhich[variant];
    const bool narrow = variant > 8;
    call.operation = which == 0 ? Operation::kForward : Operation::kBackward;
    call.maps_format = narrow ? jda_ascend::kBfloat16 : jda_ascend::kFloat32;
    call.weight_format = variant > 13 ? jda_ascend::kBfloat16 : jda_ascend::kFloat32;
    call.deterministic = which == 8;
    const int wants = which == 8 ? 1 : which;
    call.wants_features = wants & 1;
    call.wants_locations = wants & 2;
    call.wants_weight = wants & 4;
    call.finds_zeros = narrow && which == 8;
    call.leaves_zeros = narrow && (which & 1) != 0;
    Tiling t;
    const std::string error = jda_ascend::MakeTiling(call, card, t);
    if (!error.empty()) {
      // A group takes 16 numbers of a row at least where maps have 16 bits.
      const bool may_not = narrow && call.groups > 512 && call.channels < 16 * call.groups;
      expect(!must_fit || may_not, error.c_str(), call, t);
      continue;
    }
    check_areas(call, card, t);
    check_sizes(call, t);
    check_cut(call, t);
    check_work(call, card, t);
  }
}

void check_page_limits() {
  for (int cores : {1, 40, 48}) {
    for (int64_t batch : {1, 128}) {
      for (int64_t channels : {64, 128, 192, 256}) {
        for (int64_t anchors : {1, 2048}) {
          for (int64_t points : {1, 2048}) {
            for (int64_t cameras = 1; cameras <= 6; ++cameras) {
              for (int64_t scales = 1; scales <= 4; ++scales) {
                check_all(
                    {batch, 150000000 / channels, channels, anchors, points, cameras, scales, 8, 0},
                    {cores}, true);
              }
            }
          }
        }
      }
    }
  }
}

// Any group that divides c.
void check_groups(int64_t most_channels) {
  for (int64_t channels = 1; channels <= most_channels; ++channels) {
    for (int64_t groups = 1; groups <= channels; ++groups) {
      if (channels % groups != 0) continue;
      check_all({1, 1000, channels, 900, 13, 6, 4, groups, 0}, {48}, true);
    }
  }
}

void check_random(int calls) {
  std::mt19937_64 random(7);
  const auto up_to = [&random](double most) {
    const double exponent = std::uniform_real_distribution<>(0, std::log2(most + 1))(random);
    return static_cast<int64_t>(std::exp2(exponent));
  };
  for (int i = 0; i < calls; ++i) {
    const int64_t groups = up_to(1024), scales = up_to(16);
    const Call call{up_to(1000), up_to(2e9), groups * std::max<int64_t>(1, up_to(2048 / groups)),
                    up_to(1e6),  up_to(1e5), up_to(64),
                    scales,      groups,     1};
    check_all(call, {static_cast<int32_t>(up_to(64))}, false);
  }
}

void check_errors() {
  const auto error = [](Call call) {
    Tiling t;
    return jda_ascend::MakeTiling(call, {48}, t);
  };
  const Call good{1, 100, 32, 2, 3, 2, 2, 4, 0};
  Tiling t{};
  Call call = good;
  EXPECT(error(call).empty());
  call.groups = 5;
  EXPECT(error(call).find("weight has group=5, which does not divide") == 0);
  call.groups = 0;
  EXPECT(error(call).find("weight has group=0, at least one channel group") == 0);
  call = good;
  call.cameras = 1000;
  EXPECT(error(call).find("cam * scale=2000") == 0);
  call = good;
  call.rows = int64_t{1} << 31;
  EXPECT(error(call).find("num_feat=2147483648") == 0);
  call = good;
  call.channels = call.groups = 3000;
  EXPECT(error(call).find("group=3000") == 0);
  call = good;
  call.channels = 100000;
  EXPECT(error(call).find("c / group=25000") == 0);
}

// The largest of each limit is taken, one more is not.
void check_ends_of_limits() {
  const auto error = [](Call call) {
    Tiling t;
    return jda_ascend::MakeTiling(call, {48}, t);
  };
  const Tiling t{};
  Call call{1, INT32_MAX, 32, 2, 3, 512, 2, 4, 0};
  EXPECT(error(call).empty());
  ++call.rows;
  EXPECT(error(call) == "num_feat=2147483648 on Ascend, where it is less than 2^31");
  call = {1, 100, 2047, 2, 3, 2, 2, 2047, 0};  // whose rows are too long for UB
  EXPECT(error(call).find("c / group=1 on Ascend") == 0);
  call.channels = call.groups = 2048;
  EXPECT(error(call) == "group=2048 on Ascend, where it is at most 2047");
  call = {1, 100, 32, 2, 3, 205, 5, 4, 0};
  EXPECT(error(call) == "cam * scale=1025 on Ascend, where it is at most 1024");
  call = {1, 100, 2040, 2, 3, 2, 2, 1, 0};
  EXPECT(error(call).empty());
  ++call.channels;
  EXPECT(error(call).find("c / group=2041 on Ascend, where a block of pairs") == 0);
  call.maps_format = jda_ascend::kFloat16;
  call.channels = 2032;
  EXPECT(error(call).empty());
  ++call.channels;
  EXPECT(error(call).find("c / group=2033 on Ascend, where a block of pairs") == 0);
}

// ---- choices

// What is chosen where UB has `ub_bytes` and more, up to those of the choice before.
struct Choice {
  uint32_t ub_bytes;
  int32_t tiles, samples, buffers, block_pairs, block_anchors;
};

bool operator==(const Choice& a, const Choice& b) {
  return a.ub_bytes == b.ub_bytes && a.tiles == b.tiles && a.samples == b.samples &&
         a.buffers == b.buffers && a.block_pairs == b.block_pairs &&
         a.block_anchors == b.block_anchors;
}

// A tiling tells nothing but what was asked for: neither what lay in its place before, nor what is
// said of the other direction.
void check_repeated(Call call, const Card& card, const Tiling& t) {
  Tiling again;
  std::memset(&again, 0xff, sizeof(again));
  if (call.operation == Operation::kForward) {
    call.wants_features = call.wants_locations = call.wants_weight = true;
  }
  EXPECT(jda_ascend::MakeTiling(call, card, again).empty() &&
         std::memcmp(&again, &t, sizeof(t)) == 0);
}

// Every choice from the best one down, as UB gets smaller: each is taken as long as it fits.
void check_ladder(const Call& call, const std::vector<Choice>& choices) {
  Card card{2};
  for (const Choice& right : choices) {
    Tiling t;
    EXPECT(jda_ascend::MakeTiling(call, card, t).empty());
    const Choice found{t.ub_bytes, t.tiles, t.samples, t.buffers, t.block_pairs, t.block_anchors};
    EXPECT(found == right);
    card.ub_bytes = right.ub_bytes;
    check_repeated(call, card, t);
    --card.ub_bytes;
  }
  Tiling t;
  EXPECT(!jda_ascend::MakeTiling(call, card, t).empty());
}

void check_choices() {
  Call call{1, 1000, 16, 4, 600, 1, 3, 2, 0};
  check_ladder(call, {{78432, 1, 8, 3, 88, 2},
                      {52832, 1, 8, 3, 40, 2},
                      {41824, 1, 8, 3, 16, 2},
                      {38496, 1, 8, 3, 8, 2},
                      {36448, 1, 8, 2, 8, 2},
                      {34400, 1, 4, 3, 8, 2},
                      {33376, 1, 4, 2, 8, 2},
                      {32864, 2, 4, 3, 8, 2},
                      {32352, 2, 4, 2, 8, 2},
                      {31840, 1, 2, 2, 8, 2},
                      {31584, 1, 1, 3, 8, 2}});
  call.operation = Operation::kBackward;
  call.wants_features = call.wants_locations = call.wants_weight = true;
  call.channels = 32;
  call.groups = 4;
  check_ladder(call, {{97888, 1, 8, 2, 88, 2}, {97376, 1, 8, 2, 88, 1}, {64480, 1, 8, 2, 40, 2},
                      {63968, 1, 8, 2, 40, 1}, {50080, 1, 8, 2, 16, 2}, {49568, 1, 8, 2, 16, 1},
                      {45280, 1, 8, 2, 8, 2},  {44768, 1, 8, 2, 8, 1},  {41888, 1, 4, 2, 16, 2},
                      {41376, 1, 4, 2, 16, 1}, {37088, 1, 4, 2, 8, 2},  {36576, 1, 4, 2, 8, 1},
                      {34016, 2, 4, 2, 8, 2},  {33504, 2, 4, 2, 8, 1},  {32480, 4, 4, 2, 8, 2},
                      {31968, 4, 4, 2, 8, 1},  {30944, 1, 1, 2, 8, 2},  {30432, 1, 1, 2, 8, 1},
                      {30176, 2, 1, 2, 8, 1},  {30048, 4, 1, 2, 8, 1}});
  call.scales = 4;
  call.groups = 2;
  check_ladder(call, {{92704, 1, 8, 2, 64, 2},
                      {64544, 1, 8, 2, 32, 2},
                      {64032, 1, 8, 2, 32, 1},
                      {52512, 1, 8, 2, 16, 2},
                      {52000, 1, 8, 2, 16, 1},
                      {46496, 1, 8, 2, 8, 2},
                      {45984, 1, 8, 2, 8, 1},
                      {44320, 1, 4, 2, 16, 2},
                      {43808, 1, 4, 2, 16, 1},
                      {38304, 1, 4, 2, 8, 2},
                      {37792, 1, 4, 2, 8, 1},
                      {35232, 2, 4, 2, 8, 2},
                      {34720, 2, 4, 2, 8, 1},
                      {34208, 1, 2, 2, 8, 2},
                      {33696, 1, 2, 2, 8, 1},
                      {32160, 1, 1, 2, 8, 2},
                      {31648, 1, 1, 2, 8, 1},
                      {31392, 2, 1, 2, 8, 1}});
}

// Two packets of rows of 16 bits are computed together where there is room for that.
void check_together() {
  const auto together = [](jda_ascend::Format format, int64_t channels) {
    Tiling t;
    Call call{1, 89760, channels, 900, 13, 6, 4, 8, 0};
    call.maps_format = call.weight_format = format;
    return jda_ascend::MakeTiling(call, {48}, t).empty() ? 100 * t.samples + t.together : 0;
  };
  const Call call{};
  const Tiling t{};
  EXPECT(together(jda_ascend::kBfloat16, 256) == 816);
  EXPECT(together(jda_ascend::kFloat16, 512) == 808);
  EXPECT(together(jda_ascend::kFloat32, 256) == 808);
}

// Where there is room, a block touches as many anchors as a chunk does, up to eight.
void check_touched_anchors() {
  const int64_t points_and_anchors[][2] = {{0, 8},   {1, 8},   {85, 8},  {86, 7},
                                           {128, 6}, {129, 5}, {171, 4}, {256, 4},
                                           {257, 3}, {512, 3}, {513, 2}, {9999, 2}};
  for (const auto& [points, anchors] : points_and_anchors) {
    const Call call{1, 100, 8, 9, points, 1, 1, 1, 0};
    Tiling t;
    EXPECT(jda_ascend::MakeTiling(call, {48}, t).empty() && t.block_anchors == anchors);
  }
}

// What repeats and strides can say limits tiles and scales where UB would not.
void check_instruction_limits() {
  const auto tiles = [](int64_t scales, int64_t groups) {
    Tiling t;
    const Call call{1, 100, 8 * groups, 2, 600, 1, scales, groups, 0};
    return jda_ascend::MakeTiling(call, {1, 1 << 20}, t).empty() ? t.tiles : 0;
  };
  const Call call{};
  const Tiling t{};
  EXPECT(tiles(255, 1) == 1 && tiles(256, 1) == 0);
  EXPECT(tiles(31, 64) == 1 && tiles(32, 64) == 2);
  // Rows of samples that fill whole repeats start in different banks.
  const auto apart = [](int64_t channels) {
    Tiling t;
    Call call{1, 100, channels, 2, 3, 1, 1, 1, 0};
    call.maps_format = jda_ascend::kFloat16;
    return jda_ascend::MakeTiling(call, {1}, t).empty() ? t.upper_pitch - 2 * t.tile_pitch : -1;
  };
  EXPECT(apart(960) == 16 && apart(1984) == 16 && apart(1000) == 0);
}

void check_cores() {
  const auto cores = [](Call call, int32_t of_card) {
    Tiling t;
    return jda_ascend::MakeTiling(call, {of_card}, t).empty() ? t.cores : 0;
  };
  const Tiling t{};
  Call call{1, 100, 40, 70, 64, 1, 1, 8, 0};
  EXPECT(cores(call, 63) == 63 && cores(call, 64) == 64);
  EXPECT(cores(call, 65) == 64 && cores(call, 70) == 64);
  call.anchors = 7;
  EXPECT(cores(call, 6) == 6 && cores(call, 8) == 7);
  call.operation = Operation::kBackward;
  call.wants_features = call.deterministic = true;
  EXPECT(cores(call, 48) == 8);
  call.batch = 20;  // two tiles each
  EXPECT(cores(call, 48) == 40);
  call.batch = call.groups = 5;
  EXPECT(cores(call, 48) == 25);
  call.batch = 0;
  EXPECT(cores(call, 48) == 1);
}

// Sums of as many elements as 96 MiB hold, one at least; and in a deterministic launch, one element for
// every core whose groups are too few.
void check_elements_at_once() {
  const Tiling t{};
  Call call{100, 8192, 256, 70, 64, 1, 1, 8, 0};
  call.operation = Operation::kBackward;
  call.wants_features = true;
  const auto at_once = [&call](int32_t cores) { return jda_ascend::ElementsAtOnce(call, {cores}); };
  EXPECT(at_once(48) == 100);
  call.maps_format = jda_ascend::kFloat16;
  EXPECT(at_once(48) == 12);
  call.rows = 49152;
  EXPECT(at_once(48) == 2);
  ++call.rows;
  EXPECT(at_once(48) == 1);
  // Gradients of an element end in whole blocks, or those of some elements do.
  call.wants_weight = call.wants_locations = true;
  EXPECT(at_once(48) == 1);
  call.points = 1;
  call.anchors = 33;
  EXPECT(at_once(48) == 4);
  call.scales = call.groups = 1;
  EXPECT(at_once(48) == 8);
  call.weight_format = jda_ascend::kFloat16;
  EXPECT(at_once(48) == 16);
  call.wants_weight = call.wants_locations = false;
  EXPECT(at_once(48) == 1);
  call.channels = 257;
  EXPECT(at_once(48) == 16);
  call.channels = 256;
  call.groups = 8;
  call.deterministic = true;
  EXPECT(at_once(48) == 6 && at_once(49) == 7 && at_once(8) == 1);
  call.groups = 1;
  EXPECT(at_once(48) == 48);
  call.groups = 0;  // which MakeTiling refuses
  EXPECT(at_once(48) == 48);
  call.groups = 8;
  call.wants_features = false;
  EXPECT(at_once(48) == 100);
  call = {0, 0, 0, 0, 0, 0, 0, 1, 0};
  EXPECT(at_once(48) == 1);
}

// Launches of a call leave zeros for each other, where the sums of all lie.
void check_launches() {
  Call call{5, 49152, 256, 1, 64, 1, 1, 8, 0};
  call.operation = Operation::kBackward;
  call.wants_features = true;
  call.maps_format = jda_ascend::kFloat16;
  const auto check = [&call](const std::vector<int64_t>& batches) {
    std::vector<Tiling> launches;
    const std::string error = jda_ascend::MakeLaunches(call, {48}, launches);
    const Tiling last = launches.back();
    expect(error.empty() && launches.size() == batches.size(), "number of launches", call, last);
    launches.resize(batches.size());
    for (size_t i = 0; i < batches.size(); ++i) {
      const Tiling& t = launches[i];
      EXPECT(t.batch == batches[i] && t.sums == 2048);
      EXPECT((t.leaves_zeros != 0) == (i + 1 < batches.size()));
      EXPECT((t.workspace_zeroed == t.sums) == (i > 0));
    }
  };
  check({2, 2, 1});
  call.batch = 4;
  check({2, 2});
  call.batch = 2;
  check({2});
  call.batch = 0;
  call.wants_features = false;
  std::vector<Tiling> launches;
  const std::string none = jda_ascend::MakeLaunches(call, {48}, launches);
  const Tiling t = launches[0];
  EXPECT(none.empty() && launches.size() == 1 && t.leaves_zeros == 0);
  call.groups = 3;
  EXPECT(!jda_ascend::MakeLaunches(call, {48}, launches).empty());
}

// More cores than samples need, where sums are many.
void check_cores_that_round() {
  Tiling t;
  Call call{1, 640, 256, 1, 64, 1, 1, 8, 0};
  call.operation = Operation::kBackward;
  call.wants_features = true;
  EXPECT(jda_ascend::MakeTiling(call, {48}, t).empty() && t.cores == 1);
  call.maps_format = jda_ascend::kFloat16;
  EXPECT(jda_ascend::MakeTiling(call, {48}, t).empty() && t.cores == 10);
  call.deterministic = true;
  EXPECT(jda_ascend::MakeTiling(call, {48}, t).empty() && t.cores == 10);
}

// Without scales there is nothing to sample, and zeros of anchors to write.
void check_no_scales() {
  const Call call{2, 100, 40, 3, 64, 1, 0, 8, 0};
  Tiling t;
  EXPECT(jda_ascend::MakeTiling(call, {48}, t).empty());
  EXPECT(t.pairs == 0 && t.granules == 0 && t.cores == 6);
}

void check_named_cases() {
  check_errors();
  check_ends_of_limits();
  check_choices();
  check_together();
  check_touched_anchors();
  check_instruction_limits();
  check_cores();
  check_elements_at_once();
  check_launches();
  check_cores_that_round();
  check_no_scales();
}

}  // namespace

int main() {
  check_page_limits();
  check_groups(256);
  check_random(2000);
  check_named_cases();
  std::printf("%d failures\n", failures);
  return failures != 0;
}
