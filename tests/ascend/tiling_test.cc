// Every buffer of every legal size fits UB, none overlaps another, nothing overflows: MakeTiling
// over the corners of the limits and over random sizes. Prints what is wrong and fails.

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
using jda_ascend::Direction;
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

// What the kernels address in each area, computed here from its use.
void check_sizes(const Call& call, const Tiling& t) {
  const int64_t f = 4, pairs = t.block_pairs, n = t.samples;
  EXPECT(t.weights.bytes >= 2 * call.scales * pairs * t.weight_pitch * f);
  EXPECT(t.ring.bytes >= 2LL * t.block_anchors * t.row_pitch * f);
  EXPECT(t.ring.bytes >= 2LL * t.row_pitch * f);
  EXPECT(t.spread.bytes >= n * t.weight_pitch * 32);
  EXPECT(t.maps.bytes >= 4 * call.scales * call.cameras * f);
  EXPECT(t.map_rows.bytes >= 2 * call.scales * call.cameras * f);
  EXPECT(t.geometry.bytes >= 2 * t.planes * call.scales * pairs * f);
  EXPECT(t.scratch.bytes >= 8 * call.scales * pairs * f);
  EXPECT(t.words.bytes >= 2 * 8 * jda_ascend::kWords);
  EXPECT(t.meeting.bytes >= 32u * t.cores && t.slots.bytes >= 32u * t.cores);
  const bool backward = call.direction == Direction::kBackward;
  EXPECT(t.bilinear.bytes >= (backward ? 1 : 2) * 4 * jda_ascend::kSpread * 32);
  EXPECT(backward || t.scratch.bytes >= n * t.tile_pitch * f);
  if (!backward || call.wants_locations || call.wants_weight) {
    EXPECT(t.corners.bytes >= t.buffers * 2 * n * t.sample_pitch * f);
  }
  if (backward && call.wants_features) {
    EXPECT(t.gradients.bytes >= 4 * n * t.tile_pitch * f);
    EXPECT(t.scratch.bytes >= n * t.tile_pitch * f);
  }
}

void check_cut(const Call& call, const Tiling& t) {
  EXPECT(int64_t{t.group_channels} * call.groups == call.channels);
  EXPECT(t.group_pitch >= t.group_channels && t.group_pitch % 8 == 0);
  EXPECT(int64_t{t.tiles} * t.tile_groups >= call.groups);
  EXPECT((t.tiles - 1LL) * t.tile_groups < call.groups);
  EXPECT(t.block_pairs % 8 == 0 && t.block_pairs >= 8 && t.block_anchors >= 1);
  EXPECT(t.block_pairs <= jda_ascend::kChunk && 8 % t.samples == 0);
  EXPECT(t.block_anchors <= jda_ascend::kMaxRuns);
  // Limits of instructions: repeats and strides of 8 bits, missing corners in 64 bits.
  EXPECT(t.buffers >= 2 && t.buffers <= 3);
  EXPECT(t.scales * t.weight_pitch / 8 <= 255);
  EXPECT(t.sample_pitch >= 2 * t.tile_pitch && t.sample_pitch % 8 == 0);
  EXPECT(t.tile_pitch / 8 <= 255 && t.tile_groups <= 64);
  EXPECT(t.samples * t.weight_pitch / 8 <= 255);
  EXPECT(2 * call.groups <= 4095 && call.scales <= 4095);
}

void check_work(const Call& call, const Card& card, const Tiling& t) {
  EXPECT(t.cores >= 1 && t.cores <= card.cores);
  EXPECT(t.counted_granules * t.cores >= t.granules);
  EXPECT(t.granules * 64 >= t.pairs);
  EXPECT(t.sync == 0 && t.workspace_zeroed >= 32 * t.cores);
  EXPECT(t.totals >= t.workspace_zeroed && t.begins >= t.totals + 32 * t.cores);
  EXPECT(t.bits >= t.begins + 32 * t.cores && t.partials >= t.bits + 8 * t.granules);
  EXPECT(t.workspace_bytes >= t.partials + 32LL * t.cores * ((call.channels + 7) / 8));
  // Where one core's part of an array ends and the next one's begins, whole blocks end too.
  EXPECT(t.counted_granules * 8 % 32 == 0);
  if (call.direction == Direction::kBackward) {
    EXPECT(t.share_unit * 8 % 32 == 0 && t.share_unit * call.scales * call.groups * 4 % 32 == 0);
  } else if (call.channels * 4 % 32 == 0) {
    EXPECT(t.share_unit == 1);
  } else if (t.pairs > 0) {
    EXPECT(t.share_unit % t.anchor_pairs == 0);
    EXPECT(t.share_unit / t.anchor_pairs * call.channels * 4 % 32 == 0);
  }
}

void check_all(Call call, const Card& card, bool must_fit) {
  for (int variant = 0; variant < 9; ++variant) {
    call.direction = variant == 0 ? Direction::kForward : Direction::kBackward;
    call.deterministic = variant == 8;
    const int wants = variant == 8 ? 1 : variant;
    call.wants_features = wants & 1;
    call.wants_locations = wants & 2;
    call.wants_weight = wants & 4;
    Tiling t;
    const std::string error = jda_ascend::MakeTiling(call, card, t);
    if (!error.empty()) {
      expect(!must_fit, error.c_str(), call, t);
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
  EXPECT(error(call).find("group=5") == 0);
  call.groups = 0;
  EXPECT(error(call).find("group=0") == 0);
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
}

}  // namespace

int main() {
  check_page_limits();
  check_groups(1024);
  check_random(20000);
  check_errors();
  check_ends_of_limits();
  std::printf("%d failures\n", failures);
  return failures != 0;
}
