#include "plan.h"

#include <algorithm>
#include <utility>

#include "scratch.h"

namespace jda {
namespace {

// A visit of at most so many key points shares its cluster with others.
constexpr int32_t kShort = 4;

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
std::vector<Seen> look_everywhere(const Sizes& sizes, const T* locations, Team& team) {
  const int64_t anchors = sizes.batch * sizes.anchors, cameras = sizes.cameras;
  std::vector<Seen> seen(anchors * cameras);
  const int64_t span = std::max<int64_t>(1, 2048 / std::max<int64_t>(1, sizes.points * cameras));
  team.for_ranges(anchors, span, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a) look(sizes, locations, a, seen.data() + a * cameras);
  });
  return seen;
}

// Key points of one anchor in one camera that are too many for one visit.
struct Crowd {
  int64_t visit;  // the first of its visits; they follow each other
  int32_t pieces, camera;
};

// The visits of each camera of a batch element begin where the next's do.
std::vector<int64_t> count_visits(const Sizes& sizes, const std::vector<Seen>& seen) {
  const int64_t cameras = sizes.cameras;
  std::vector<int64_t> begin(sizes.batch * cameras + 1, 0);
  const Seen* here = seen.data();
  for (int64_t b = 0; b < sizes.batch; ++b)
    for (int64_t a = 0; a < sizes.anchors; ++a)
      for (int64_t k = 0; k < cameras; ++k) begin[b * cameras + k + 1] += here++->pieces();
  for (size_t g = 1; g < begin.size(); ++g) begin[g] += begin[g - 1];
  return begin;
}

// Divides the first of some visits, which has the key points of all, among them.
void divide(int64_t listed, int64_t pieces, Visit* visits) {
  const Visit whole = visits[0];
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t begin = whole.count * i / pieces, end = whole.count * (i + 1) / pieces;
    visits[i] = whole;
    visits[i].listed = listed + begin;
    visits[i].count = static_cast<int32_t>(end - begin);
    visits[i].part = whole.part < 0 ? -1 : whole.part + i;
  }
}

// Writes the visits of all anchors, camera by camera in the anchors' order, and numbers the partial
// results. The key points of crowds still have to be listed.
std::vector<Crowd> write_visits(const Sizes& sizes, const std::vector<Seen>& seen,
                                std::vector<int64_t> next, Plan& plan) {
  const int64_t anchors = sizes.batch * sizes.anchors, cameras = sizes.cameras;
  std::vector<Crowd> crowds;
  int64_t listed = 0;
  plan.visits.resize(next.back());
  plan.pieces.assign(anchors, 0);
  plan.part.assign(anchors, 0);
  const Seen* here = seen.data();
  for (int64_t a = 0; a < anchors; ++a) {
    int64_t* next_of_camera = next.data() + a / sizes.anchors * cameras;
    for (int64_t k = 0; k < cameras; ++k) plan.pieces[a] += here[k].pieces();
    plan.part[a] = plan.parts;
    const bool several = plan.pieces[a] > 1;
    for (int64_t k = 0; k < cameras; ++k, ++here) {
      const int32_t pieces = here->pieces();
      if (pieces == 0) continue;
      Visit* visit = plan.visits.data() + next_of_camera[k];
      *visit = {-1, several ? plan.parts : -1, static_cast<int32_t>(a), here->count, here->place};
      if (pieces > 1) {
        crowds.push_back({next_of_camera[k], pieces, static_cast<int32_t>(k)});
        divide(listed, pieces, visit);
        listed += here->count;
      }
      next_of_camera[k] += pieces;
      plan.parts += several ? pieces : 0;
    }
  }
  plan.points.resize(listed);
  return crowds;
}

// Lists the key points of a crowd along the curve, by 16 x 16 tiles, so that each of its visits is a
// block of them.
template <typename T>
void list_points(const Sizes& sizes, const T* locations, const Crowd& crowd, Plan& plan) {
  Visit* visits = plan.visits.data() + crowd.visit;
  const int64_t first = visits->anchor * sizes.points;
  const T* of_camera = locations + crowd.camera * 2;
  const auto place = [&](int64_t point) {
    const T* location = of_camera + point * sizes.cameras * 2;
    return curve(location[0], location[1]);
  };
  int32_t begin[257] = {};
  const auto each = [&](auto use) {
    const T* location = of_camera + first * sizes.cameras * 2;
    for (int64_t p = first; p < first + sizes.points; ++p, location += sizes.cameras * 2)
      if (visible(location[0], location[1])) use(p, place(p) >> 8);
  };
  each([&](int64_t, uint32_t tile) { ++begin[tile + 1]; });
  for (int tile = 0; tile < 256; ++tile) begin[tile + 1] += begin[tile];
  int32_t* points = plan.points.data() + visits->listed;
  each([&](int64_t p, uint32_t tile) { points[begin[tile]++] = static_cast<int32_t>(p); });
  for (int32_t i = 0; i < crowd.pieces; ++i) visits[i].place = place(plan.points[visits[i].listed]);
}

// Sorts visits by their places, byte by byte; visits of the same place keep their order.
void sort(Visit* visits, int64_t count, Visit* spare) {
  for (int shift : {0, 8}) {
    int64_t begin[257] = {};
    const auto digit = [&](int64_t i) { return visits[i].place >> shift & 255; };
    for (int64_t i = 0; i < count; ++i) ++begin[digit(i) + 1];
    for (int d = 0; d < 256; ++d) begin[d + 1] += begin[d];
    for (int64_t i = 0; i < count; ++i) spare[begin[digit(i)]++] = visits[i];
    std::swap(visits, spare);
  }
}

// Whether a visit has so few key points that what they share is not worth looking for.
bool is_short(const Visit& visit) { return visit.count <= kShort && visit.listed < 0; }

// Adds the clusters of the visits [begin, end), which are those of one camera.
void add_clusters(int64_t begin, int64_t end, int64_t camera, Plan& plan) {
  for (int64_t i = begin; i < end;) {
    Cluster cluster{i, 0, 0, static_cast<int32_t>(camera)};
    do {
      cluster.count += plan.visits[i++].count;
    } while (i < end && is_short(plan.visits[i]) && is_short(plan.visits[i - 1]) &&
             cluster.count + plan.visits[i].count <= kClusterPoints);
    cluster.visits = static_cast<int32_t>(i - cluster.visit);
    plan.clusters.push_back(cluster);
  }
}

}  // namespace

template <typename T>
int64_t count_visible(const Sizes& sizes, const T* locations) {
  const int64_t count = sizes.batch * sizes.anchors * sizes.points * sizes.cameras;
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i) found += visible(locations[2 * i], locations[2 * i + 1]);
  return found;
}

int64_t plan_bytes(const Sizes& sizes) {
  const int64_t lists = sizes.batch * sizes.anchors * sizes.cameras;
  const int64_t visits = lists * ceil_div(sizes.points, kClusterPoints);
  const int64_t listed = sizes.points > kClusterPoints ? lists * sizes.points : 0;
  const int64_t of_visit = 2 * sizeof(Visit) + sizeof(Cluster);  // once more while they are sorted
  return lists * sizeof(Seen) + visits * of_visit + listed * sizeof(int32_t);
}

int64_t most_parts(const Sizes& sizes) {
  const int64_t pieces = sizes.cameras * ceil_div(sizes.points, kClusterPoints);
  return pieces > 1 ? sizes.batch * sizes.anchors * pieces : 0;
}

template <typename T>
Plan make_plan(const Sizes& sizes, const T* locations, Team& team) {
  Plan plan;
  const std::vector<Seen> seen = look_everywhere(sizes, locations, team);
  const std::vector<int64_t> begin = count_visits(sizes, seen);
  const std::vector<Crowd> crowds = write_visits(sizes, seen, begin, plan);
  team.for_each(crowds.size(),
                [&](int64_t, int64_t i) { list_points(sizes, locations, crowds[i], plan); });
  const int64_t lists = sizes.batch * sizes.cameras;
  if (sizes.channels >= kNarrow) {
    Scratch<Visit> spare(plan.visits.size());
    team.for_each(lists, [&](int64_t, int64_t g) {  // a camera of a batch element
      sort(plan.visits.data() + begin[g], begin[g + 1] - begin[g], spare.get() + begin[g]);
    });
  }
  for (int64_t g = 0; g < lists; ++g) add_clusters(begin[g], begin[g + 1], g % sizes.cameras, plan);
  return plan;
}

#define JDA_INSTANTIATE(T)                                \
  template Plan make_plan(const Sizes&, const T*, Team&); \
  template int64_t count_visible(const Sizes&, const T*);
JDA_INSTANTIATE(float)
JDA_INSTANTIATE(double)

}  // namespace jda
