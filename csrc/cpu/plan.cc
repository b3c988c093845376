#include "plan.h"

#include <algorithm>
#include <utility>

namespace jda {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Bits of v, each after a zero bit.
constexpr uint32_t spread_bits(uint32_t v) {
  v = (v | v << 4) & 0x0f0f;
  v = (v | v << 2) & 0x3333;
  return (v | v << 1) & 0x5555;
}

struct SpreadBits {
  uint16_t of[256] = {};
  constexpr SpreadBits() {
    for (uint32_t v = 0; v < 256; ++v) of[v] = static_cast<uint16_t>(spread_bits(v));
  }
};
constexpr SpreadBits kSpread;

// Place of (y, x) on a Z-order curve through 256 x 256 tiles of the image.
template <typename T>
uint32_t curve(T y, T x) {
  return uint32_t{kSpread.of[static_cast<int32_t>(y * 256)]} << 1 |
         kSpread.of[static_cast<int32_t>(x * 256)];
}

// The visible key points of one anchor in one camera.
struct Seen {
  int32_t count = 0;
  uint32_t place = 0;  // of the first of them on the curve
  int32_t pieces() const { return static_cast<int32_t>(ceil_div(count, kClusterPoints)); }
};

template <typename T>
void look(const Sizes& sizes, const T* locations, int64_t anchor, Seen* seen) {
  const T* location = locations + anchor * sizes.points * sizes.cameras * 2;
  std::fill_n(seen, sizes.cameras, Seen{});
  for (int64_t p = 0; p < sizes.points; ++p)
    for (int64_t k = 0; k < sizes.cameras; ++k, location += 2)
      if (visible(location[0], location[1]) && seen[k].count++ == 0)
        seen[k].place = curve(location[0], location[1]);
}

template <typename T>
uint32_t place(const Sizes& sizes, const T* locations, int64_t anchor, int64_t camera,
               int64_t point) {
  const T* location = locations + ((anchor * sizes.points + point) * sizes.cameras + camera) * 2;
  return curve(location[0], location[1]);
}

// Lists the visible key points of one anchor in one camera along the curve, by 16 x 16 tiles.
template <typename T>
void list_points(const Sizes& sizes, const T* locations, int64_t anchor, int64_t camera,
                 int32_t* points) {
  const T* first = locations + (anchor * sizes.points * sizes.cameras + camera) * 2;
  int32_t begin[257] = {};
  auto each = [&](auto use) {
    const T* location = first;
    for (int64_t p = 0; p < sizes.points; ++p, location += sizes.cameras * 2)
      if (visible(location[0], location[1])) use(p, curve(location[0], location[1]) >> 8);
  };
  each([&](int64_t, uint32_t tile) { ++begin[tile + 1]; });
  for (int tile = 0; tile < 256; ++tile) begin[tile + 1] += begin[tile];
  each([&](int64_t p, uint32_t tile) { points[begin[tile]++] = static_cast<int32_t>(p); });
}

// What is seen of every anchor in every camera, and where its clusters go.
struct Layout {
  std::vector<Seen> seen;       // [batch * anchors, cameras]
  std::vector<int64_t> part;    // likewise: the partial result of its first cluster
  std::vector<int64_t> listed;  // likewise: where its key points are listed, or -1
  std::vector<int64_t> begin;   // [batch * cameras + 1]: the first cluster of each camera
  int64_t points = 0;           // that are listed
};

template <typename T>
std::vector<Seen> look_everywhere(const Sizes& sizes, const T* locations, Team& team) {
  const int64_t anchors = sizes.batch * sizes.anchors, cameras = sizes.cameras;
  std::vector<Seen> seen(anchors * cameras);
  const int64_t span = std::max<int64_t>(1, 2048 / std::max<int64_t>(1, sizes.points * cameras));
  team.for_ranges(anchors, span, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a) look(sizes, locations, a, seen.data() + a * cameras);
  });
  return seen;
}

// Counts the clusters and the partial results of every anchor.
Layout lay_out(const Sizes& sizes, std::vector<Seen> seen, Plan& plan) {
  const int64_t anchors = sizes.batch * sizes.anchors, cameras = sizes.cameras;
  Layout layout;
  layout.seen = std::move(seen);
  layout.part.resize(anchors * cameras);
  layout.listed.assign(anchors * cameras, -1);
  layout.begin.assign(sizes.batch * cameras + 1, 0);
  plan.pieces.assign(anchors, 0);
  plan.part.assign(anchors, 0);
  for (int64_t a = 0; a < anchors; ++a) {
    for (int64_t k = 0; k < cameras; ++k) {
      const Seen& here = layout.seen[a * cameras + k];
      layout.begin[a / sizes.anchors * cameras + k + 1] += here.pieces();
      layout.part[a * cameras + k] = plan.parts + plan.pieces[a];
      plan.pieces[a] += here.pieces();
      if (here.pieces() > 1) {
        layout.listed[a * cameras + k] = layout.points;
        layout.points += here.count;
      }
    }
    plan.part[a] = plan.parts;
    if (plan.pieces[a] > 1) plan.parts += plan.pieces[a];
  }
  for (size_t g = 1; g < layout.begin.size(); ++g) layout.begin[g] += layout.begin[g - 1];
  return layout;
}

// Writes the clusters of one anchor in one camera; returns one past the last of them.
template <typename T>
Cluster* write_clusters(const Sizes& sizes, const T* locations, const Layout& layout,
                        const Plan& plan, int64_t anchor, int64_t camera, Cluster* cluster) {
  const int64_t at = anchor * sizes.cameras + camera;
  const Seen& here = layout.seen[at];
  const int64_t pieces = here.pieces();
  for (int64_t i = 0; i < pieces; ++i, ++cluster) {
    const int64_t begin = here.count * i / pieces, end = here.count * (i + 1) / pieces;
    *cluster = {
        anchor, static_cast<int32_t>(camera), static_cast<int32_t>(end - begin), here.place, -1,
        -1};
    if (pieces > 1) {
      cluster->listed = layout.listed[at] + begin;
      cluster->place = place(sizes, locations, anchor, camera, plan.points[cluster->listed]);
    }
    if (plan.pieces[anchor] > 1) cluster->part = layout.part[at] + i;
  }
  return cluster;
}

}  // namespace

template <typename T>
Plan make_plan(const Sizes& sizes, const T* locations, Team& team) {
  const int64_t cameras = sizes.cameras;
  Plan plan;
  const Layout layout = lay_out(sizes, look_everywhere(sizes, locations, team), plan);
  plan.points.resize(layout.points);
  if (layout.points > 0)
    team.for_each(layout.listed.size(), [&](int64_t, int64_t i) {
      if (layout.listed[i] >= 0)
        list_points(sizes, locations, i / cameras, i % cameras,
                    plan.points.data() + layout.listed[i]);
    });
  plan.clusters.resize(layout.begin.back());
  team.for_each(sizes.batch * cameras, [&](int64_t, int64_t g) {  // a camera of a batch element
    Cluster *first = plan.clusters.data() + layout.begin[g], *last = first;
    const int64_t anchor = g / cameras * sizes.anchors;
    for (int64_t a = anchor; a < anchor + sizes.anchors; ++a)
      last = write_clusters(sizes, locations, layout, plan, a, g % cameras, last);
    std::stable_sort(first, last,
                     [](const Cluster& a, const Cluster& b) { return a.place < b.place; });
  });
  return plan;
}

template Plan make_plan(const Sizes&, const float*, Team&);
template Plan make_plan(const Sizes&, const double*, Team&);

}  // namespace jda
