// The CPU kernels against plain loops in double precision, over ugly problems and unusual teams.
//
//   kernels_test full|lean [seed]
//
// Every array lies in a heap allocation of its exact size, so that a sanitizer sees each access past
// its end, and results are NaN before the call, so that each element not written is seen. Features of
// rows that no map covers and weights of invisible samples are NaN: nothing may use them.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "c_api.h"
#include "call.h"
#include "operator.h"
#include "plan.h"
#include "pool.h"

namespace {

using jda::BFloat16;
using jda::Float16;
using jda::Map;
using jda::Problem;
using jda::Real;
using jda::Team;
using Random = std::mt19937;

int passed = 0, failed = 0;

void check(bool good, const std::string& what) {
  ++(good ? passed : failed);
  if (!good && failed <= 20) std::fprintf(stderr, "FAILED %s\n", what.c_str());
}

// ---- Numbers ------------------------------------------------------------------------------------

struct Binary {  // a 16-bit format
  int mantissa, bias;
};
template <typename F>
constexpr Binary kBinary = std::is_same_v<F, BFloat16> ? Binary{7, 127} : Binary{10, 15};
template <typename F>
constexpr bool kHalf = sizeof(F) == 2;

template <typename F>
double widened(F v) {
  if constexpr (!kHalf<F>) {
    return v;
  } else {
    constexpr Binary k = kBinary<F>;
    const int fraction = v.bits & ((1 << k.mantissa) - 1);
    const int exponent = (v.bits & 0x7fff) >> k.mantissa;
    const double sign = v.bits >> 15 ? -1 : 1, one = 1 << k.mantissa;
    if (exponent == (0x7fff >> k.mantissa)) return fraction ? std::nan("") : sign / 0.0;
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - k.bias - k.mantissa);
    return sign * std::ldexp(one + fraction, exponent - k.bias - k.mantissa);
  }
}

// How far apart numbers of the format are around v.
template <typename F>
double spacing(double v) {
  if constexpr (!kHalf<F>) {
    return 0;  // far below the errors of sums
  } else {
    const int lowest = 1 - kBinary<F>.bias;
    return std::ldexp(1, std::max(v == 0 ? lowest : std::ilogb(v), lowest) - kBinary<F>.mantissa);
  }
}

// To nearest even.
template <typename F>
F rounded(double v) {
  if constexpr (!kHalf<F>) {
    return static_cast<F>(v);
  } else {
    constexpr Binary k = kBinary<F>;
    const uint16_t sign = std::signbit(v) ? 0x8000 : 0,
                   infinite = 0x7fff >> k.mantissa << k.mantissa;
    if (std::isnan(v)) return {0x7fff};
    if (std::isinf(v)) return {static_cast<uint16_t>(sign | infinite)};
    const double step = spacing<F>(v), nearest = std::nearbyint(std::fabs(v) / step) * step;
    if (nearest >= std::ldexp(1, k.bias + 1)) return {static_cast<uint16_t>(sign | infinite)};
    const double unit = spacing<F>(nearest);
    const int exponent = nearest == 0 ? 1 - k.bias : std::max(std::ilogb(nearest), 1 - k.bias);
    // The exponent and the fraction beside it: a carry goes from one to the other.
    const int bits = ((exponent + k.bias - 1) << k.mantissa) + static_cast<int>(nearest / unit);
    return {static_cast<uint16_t>(sign | bits)};
  }
}

template <typename F>
constexpr const char* kTypeName = std::is_same_v<F, float>      ? "float"
                                  : std::is_same_v<F, double>   ? "double"
                                  : std::is_same_v<F, BFloat16> ? "bfloat16"
                                                                : "float16";

// ---- Problems -----------------------------------------------------------------------------------

constexpr double kAll = 1;
enum Layout { kApart, kOverlapping, kWithGaps };

struct Sizes {
  std::string name;
  int64_t batch, anchors, points, cameras, scales, groups, group_size;
  int height, width;     // of the largest map; each further scale halves them
  double visible = 0.6;  // share of the samples; kAll: all, and away from borders
  Layout layout = kApart;
  int y_axis = 0;
};

std::string describe(const Sizes& s) {
  const int64_t numbers[] = {s.batch,      s.anchors, s.points, s.cameras, s.scales, s.groups,
                             s.group_size, s.height,  s.width,  s.layout,  s.y_axis};
  std::string text = s.name + " {";
  for (int64_t number : numbers) text += std::to_string(number) + ", ";
  return text + "visible " + std::to_string(s.visible) + "}";
}

// `size` elements, NaN at first, which begin on a cache line or just behind one.
template <typename T>
class Array {
 public:
  explicit Array(int64_t size = 0, bool aligned = true) : size_(size), skip_(!aligned) {
    memory_ = static_cast<T*>(::operator new((size + skip_) * sizeof(T), kLine));
    if constexpr (!std::is_same_v<T, Map> && !std::is_integral_v<T>)
      std::fill(begin(), end(), rounded<T>(std::nan("")));
  }
  Array(Array&& other) noexcept
      : size_(other.size_), skip_(other.skip_), memory_(std::exchange(other.memory_, nullptr)) {}
  ~Array() { ::operator delete(memory_, kLine); }

  int64_t size() const { return size_; }
  T* begin() const { return memory_ + skip_; }
  T* end() const { return begin() + size_; }
  T& operator[](int64_t i) const { return begin()[i]; }

 private:
  static constexpr std::align_val_t kLine{64};
  int64_t size_, skip_;
  T* memory_;
};

template <typename F, typename W>
struct Input {
  Sizes sizes;
  int64_t rows;
  Array<Map> maps;
  Array<F> features;
  Array<Real<F>> locations;
  Array<W> weight;
  Array<F> cotangent;
  Array<F> tangent_features;
  Array<Real<F>> tangent_locations;
  Array<W> tangent_weight;

  Problem<F, W> problem() const {
    const Sizes& s = sizes;
    Problem<F, W> p{{s.batch, rows, s.groups * s.group_size, s.anchors, s.points, s.cameras,
                     s.scales, s.groups},
                    s.y_axis,
                    maps.begin(),
                    features.begin(),
                    locations.begin(),
                    weight.begin()};
    p.cotangent = cotangent.begin();
    return p;
  }
};

int64_t place_maps(const Sizes& s, Array<Map>& maps, Random& random) {
  int64_t rows = s.layout == kApart ? 0 : 2;
  for (int64_t i = 0; i < maps.size(); ++i) {
    Map& map = maps[i];
    const int64_t halvings = std::min<int64_t>(30, i % s.scales);
    map = {rows, std::max(1, s.height >> halvings), std::max(1, s.width >> halvings)};
    if (s.layout == kOverlapping) map.start = random() % (rows + 1);
    rows = std::max(rows, map.start + int64_t{map.height} * map.width);
    if (s.layout == kWithGaps) rows += random() % 90;
  }
  return rows + (s.layout == kApart ? 0 : 1);
}

// A coordinate: most often near `centre`, sometimes where a kernel may slip.
template <typename T>
T visible_coordinate(T centre, int size, Random& random) {
  std::uniform_real_distribution<T> unit(0, 1);
  const T near = centre + (unit(random) - T(0.5)) / 16;
  switch (random() % 12) {
    case 0:
      return std::numeric_limits<T>::denorm_min();
    case 1:
      return std::nextafter(T(1), T(0));
    case 2:
      return T(0.5);
    case 3:
      return (random() % size + T(0.5)) / size;  // the centre of a pixel
    case 4:
      return (random() % size + T(0.25)) / size;
    case 5:
      return std::max(unit(random), T(1e-6));
    default:
      return near > 0 && near < 1 ? near : T(0.999);
  }
}

template <typename T>
T invisible_coordinate(Random& random) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const T values[] = {T(0),
                      T(-0.0),
                      T(1),
                      std::nextafter(T(1), T(2)),
                      -kInfinity,
                      kInfinity,
                      -std::numeric_limits<T>::denorm_min(),
                      std::numeric_limits<T>::quiet_NaN(),
                      T(-0.3),
                      T(1e30)};
  return values[random() % std::size(values)];
}

template <typename F, typename W>
Input<F, W> make_input(const Sizes& s, Random& random) {
  using T = Real<F>;
  Array<Map> maps(s.cameras * s.scales);
  const int64_t rows = place_maps(s, maps, random), channels = s.groups * s.group_size;
  const int64_t anchors = s.batch * s.anchors, samples = anchors * s.points * s.cameras;
  const int64_t weights = s.scales * s.groups;
  const bool aligned = random() % 2;
  Input<F, W> input{s,
                    rows,
                    std::move(maps),
                    Array<F>(s.batch * rows * channels, aligned),
                    Array<T>(samples * 2, aligned),
                    Array<W>(samples * weights, aligned),
                    Array<F>(anchors * channels, aligned),
                    Array<F>(s.batch * rows * channels, aligned),
                    Array<T>(samples * 2, aligned),
                    Array<W>(samples * weights, aligned)};
  std::uniform_real_distribution<T> real(-1, 1), unit(0, 1);
  auto value = [&] { return rounded<F>(real(random)); };
  auto of_weight = [&] { return rounded<W>(real(random)); };
  std::generate(input.cotangent.begin(), input.cotangent.end(), value);
  for (const Map& map : input.maps)
    for (int64_t b = 0; b < s.batch; ++b) {
      const int64_t first = (b * rows + map.start) * channels;
      const int64_t size = int64_t{map.height} * map.width * channels;
      std::generate_n(input.features.begin() + first, size, value);
      std::generate_n(input.tangent_features.begin() + first, size, value);
    }
  T centre[2] = {};
  for (int64_t i = 0; i < samples; ++i) {
    if (i % (s.points * s.cameras) == 0) centre[0] = unit(random), centre[1] = unit(random);
    T* location = input.locations.begin() + 2 * i;
    location[s.y_axis] = visible_coordinate(centre[0], s.height, random);
    location[1 - s.y_axis] = visible_coordinate(centre[1], s.width, random);
    if (s.visible == kAll)
      std::generate_n(location, 2, [&] { return T(0.1) + T(0.8) * unit(random); });
    if (s.visible == kAll || unit(random) < s.visible) {
      std::generate_n(input.weight.begin() + i * weights, weights, of_weight);
      std::generate_n(input.tangent_weight.begin() + i * weights, weights, of_weight);
      std::generate_n(input.tangent_locations.begin() + 2 * i, 2, [&] { return real(random); });
    } else {
      location[random() % 2] = invisible_coordinate<T>(random);
    }
  }
  return input;
}

// ---- What is right ------------------------------------------------------------------------------

// Results, as bits: what is wanted. The last three are tangents of the result, each for the tangent
// of one argument alone.
enum { kOut, kFeatures, kLocations, kWeight, kOfFeatures, kOfLocations, kOfWeight, kArrays };
constexpr const char* kNames[] = {"out",
                                  "grad_feature_maps",
                                  "grad_locations",
                                  "grad_weight",
                                  "tangent of feature_maps",
                                  "tangent of locations",
                                  "tangent of weight"};

struct Sum {
  double value = 0, size = 0;  // `size` bounds the terms, whatever their bilinear coefficients
  bool any = false;            // rounding decides which one-sided derivative is taken

  void add(double coefficient, double term) {
    value += coefficient * term;
    size += std::max(1.0, std::fabs(coefficient)) * std::fabs(term);
  }

  void add(const Sum& other) {
    value += other.value, size += other.size;
    any |= other.any;
  }
};

struct Pixel {
  double cell, distance;
  bool unsure;  // of the cell, since `location * size` may be rounded or not
};

template <typename T>
Pixel pixel(T location, int size) {
  volatile const T product = location * static_cast<T>(size);  // volatile: rounded
  const double at = std::fma(static_cast<double>(location), size, -0.5), cell = std::floor(at);
  const T rounded = product - T(0.5), fused = static_cast<T>(at);
  return {cell, at - cell, std::floor(rounded) != cell || std::floor(fused) != cell};
}

template <typename F, typename W>
struct Expected {
  using T = Real<F>;
  std::vector<Sum> of[kArrays];

  explicit Expected(const Input<F, W>& in) {
    const Sizes& s = in.sizes;
    for (int i : {kOut, kOfFeatures, kOfLocations, kOfWeight}) of[i].resize(in.cotangent.size());
    of[kFeatures].resize(in.features.size());
    of[kLocations].resize(in.locations.size());
    of[kWeight].resize(in.weight.size());
    for (int64_t i = 0; i < in.locations.size() / 2; ++i) {  // over batch, anchors, points, cameras
      const T y = in.locations[2 * i + s.y_axis], x = in.locations[2 * i + 1 - s.y_axis];
      if (!(y > 0 && y < 1 && x > 0 && x < 1)) continue;
      for (int64_t scale = 0; scale < s.scales; ++scale) add(in, i, y, x, scale);
    }
  }

  void add(const Input<F, W>& in, int64_t i, T y, T x, int64_t scale) {
    const Sizes& s = in.sizes;
    const int64_t anchor = i / (s.points * s.cameras), channels = s.groups * s.group_size;
    const Map& map = in.maps[i % s.cameras * s.scales + scale];
    const Pixel h = pixel(y, map.height), w = pixel(x, map.width);
    const int64_t at_y = 2 * i + s.y_axis, at_x = 2 * i + 1 - s.y_axis;
    Sum &grad_y = of[kLocations][at_y], &grad_x = of[kLocations][at_x];
    grad_y.any |= h.unsure, grad_x.any |= w.unsure;
    for (int corner = 0; corner < 4; ++corner) {
      const bool down = corner / 2, right = corner % 2;
      const double row = h.cell + down, column = w.cell + right;
      if (row < 0 || row >= map.height || column < 0 || column >= map.width) continue;
      const double dh = down ? h.distance : 1 - h.distance,
                   dw = right ? w.distance : 1 - w.distance;
      const double by_y = (down ? 1 : -1) * dw * map.height;
      const double by_x = (right ? 1 : -1) * dh * map.width;
      const double dot_y = in.tangent_locations[at_y], dot_x = in.tangent_locations[at_x];
      const int64_t at = (anchor / s.anchors * in.rows + map.start +
                          static_cast<int64_t>(row * map.width + column)) *
                         channels;
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t weight_at = (i * s.scales + scale) * s.groups + c / s.group_size;
        const int64_t out_at = anchor * channels + c;
        const double feature = widened(in.features[at + c]), weight = widened(in.weight[weight_at]);
        const double bar = widened(in.cotangent[out_at]), both = weight * feature;
        of[kOut][out_at].add(dh * dw, both);
        of[kFeatures][at + c].add(dh * dw, weight * bar);
        of[kWeight][weight_at].add(dh * dw, feature * bar);
        grad_y.add(by_y, both * bar);
        grad_x.add(by_x, both * bar);
        grad_y.size += map.height * std::fabs(both * bar);
        grad_x.size += map.width * std::fabs(both * bar);
        of[kOfFeatures][out_at].add(dh * dw, weight * widened(in.tangent_features[at + c]));
        of[kOfWeight][out_at].add(dh * dw, widened(in.tangent_weight[weight_at]) * feature);
        Sum& moved = of[kOfLocations][out_at];
        moved.add(by_y * dot_y + by_x * dot_x, both);
        moved.size +=
            (map.height * std::fabs(dot_y) + map.width * std::fabs(dot_x)) * std::fabs(both);
        moved.any |= h.unsure || w.unsure;
      }
    }
    if (h.unsure || w.unsure) allow_cells_beside(in, i, scale, h, w);
  }

  // Where rounding decides in which cell a sample lies, its derivatives may be of a cell beside it.
  void allow_cells_beside(const Input<F, W>& in, int64_t i, int64_t scale, const Pixel& h,
                          const Pixel& w) {
    const Sizes& s = in.sizes;
    const int64_t anchor = i / (s.points * s.cameras), channels = s.groups * s.group_size;
    const Map& map = in.maps[i % s.cameras * s.scales + scale];
    const int64_t at_y = 2 * i + s.y_axis, at_x = 2 * i + 1 - s.y_axis;
    const double by_y = map.height * std::fabs(in.tangent_locations[at_y]);
    const double by_x = map.width * std::fabs(in.tangent_locations[at_x]);
    for (double row = h.cell - 1; row <= h.cell + 2; ++row)
      for (double column = w.cell - 1; column <= w.cell + 2; ++column) {
        if (row < 0 || row >= map.height || column < 0 || column >= map.width) continue;
        const int64_t at = (anchor / s.anchors * in.rows + map.start +
                            static_cast<int64_t>(row * map.width + column)) *
                           channels;
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t weight_at = (i * s.scales + scale) * s.groups + c / s.group_size;
          const int64_t out_at = anchor * channels + c;
          const double both =
              std::fabs(widened(in.features[at + c]) * widened(in.weight[weight_at]));
          const double bar = std::fabs(widened(in.cotangent[out_at]));
          of[kLocations][at_y].size += map.height * both * bar;
          of[kLocations][at_x].size += map.width * both * bar;
          of[kOfLocations][out_at].size += (by_y + by_x) * both;
        }
      }
  }

  // The tangent of the result for the tangents of several arguments.
  std::vector<Sum> tangent(unsigned of_arguments) const {
    std::vector<Sum> sums(of[kOut].size());
    for (int array : {kOfFeatures, kOfLocations, kOfWeight})
      if (of_arguments >> array & 1)
        for (size_t i = 0; i < sums.size(); ++i) sums[i].add(of[array][i]);
    return sums;
  }
};

// ---- Teams --------------------------------------------------------------------------------------

// The pool's threads stay, as XLA's do: an emulator of another processor keeps what belongs to a
// thread that has ended, so that a thread for each call would fill the machine's memory.
enum Helpers { kPool, kNever, kLate, kInline };

struct Crew {
  const char* name;
  int size;
  Helpers helpers;
};
constexpr Crew kAlone{"one thread", 1, kNever};
constexpr Crew kCrews[] = {{"one thread again", 1, kNever},
                           {"two threads", 2, kPool},
                           {"three threads", 3, kPool},
                           {"eight threads", 8, kPool},
                           {"helpers that never start", 4, kNever},
                           {"helpers that start late", 4, kLate},
                           {"helpers that run inline", 4, kInline}};

// Runs call(team) and gives late helpers their chance when the call and its team are gone.
template <typename Call>
void with_team(const Crew& crew, const Call& call) {
  if (crew.helpers == kPool) {
    Team team = jda::pool_team(crew.size);
    return call(team);
  }
  std::vector<std::function<void()>> late;
  {
    Team team(crew.size, [&](std::function<void()> task) {
      if (crew.helpers == kLate) late.push_back(std::move(task));
      if (crew.helpers == kInline) task();
    });
    call(team);
  }
  for (auto& task : late) task();
}

using Results = std::vector<std::vector<double>>;  // widened, empty where not wanted

template <typename... Arrays>
Results results_of(const Arrays&... arrays) {
  Results results;
  auto keep = [&](const auto& array) {
    results.emplace_back();
    for (const auto& v : array) results.back().push_back(widened(v));
  };
  (keep(arrays), ...);
  return results;
}

// The wanted ones, and the tangent of the result for the wanted tangents as kOfFeatures.
template <typename F, typename W>
Results run(const Input<F, W>& in, const Crew& crew, unsigned wanted,
            int64_t pass_bytes = jda::kPassBytes) {
  auto wants = [&](int array) { return wanted >> array & 1; };
  const bool tangent = wants(kOfFeatures) || wants(kOfLocations) || wants(kOfWeight);
  auto size_if = [&](bool want, const auto& like) { return want ? like.size() : 0; };
  const Array<F> out(size_if(wants(kOut), in.cotangent)),
      of_features(size_if(wants(kFeatures), in.features)), moved(size_if(tangent, in.cotangent));
  const Array<W> of_weight(size_if(wants(kWeight), in.weight));
  const Array<Real<F>> of_locations(size_if(wants(kLocations), in.locations));
  auto start = [](const auto& array) { return array.size() ? array.begin() : nullptr; };
  Problem<F, W> problem = in.problem();
  problem.out = start(out);
  problem.grad_feature_maps = start(of_features);
  problem.grad_locations = start(of_locations);
  problem.grad_weight = start(of_weight);
  with_team(crew, [&](Team& team) {
    if (problem.out) forward(problem, team, pass_bytes);
    backward(problem, team, pass_bytes);
    if (!moved.size()) return;
    problem.out = moved.begin();
    if (wants(kOfFeatures)) problem.tangent_feature_maps = in.tangent_features.begin();
    if (wants(kOfLocations)) problem.tangent_locations = in.tangent_locations.begin();
    if (wants(kOfWeight)) problem.tangent_weight = in.tangent_weight.begin();
    jda::tangent(problem, team, pass_bytes);
  });
  return results_of(out, of_features, of_locations, of_weight, moved);
}

// The result and the gradients once more, through the C interface.
template <typename F, typename W>
Results run_c_api(const Input<F, W>& in, int threads) {
  const Problem<F, W> problem = in.problem();
  const jda_cpu_problem call{problem, problem.y_axis, jda::number_of<F>(), jda::number_of<W>(),
                             threads};
  std::vector<int32_t> shapes, starts;
  for (int64_t i = 0; i < problem.cameras * problem.scales; ++i) {
    const Map& map = problem.maps[i];
    shapes.insert(shapes.end(), {map.height, map.width});
    starts.push_back(static_cast<int32_t>(map.start));
  }
  const Array<F> out(in.cotangent.size()), of_features(in.features.size());
  const Array<W> of_weight(in.weight.size());
  const Array<Real<F>> of_locations(in.locations.size());
  const jda_cpu_arrays arrays{problem.feature_maps, shapes.data(),       starts.data(),
                              problem.locations,    problem.weight,      in.cotangent.begin(),
                              out.begin(),          of_features.begin(), of_locations.begin(),
                              of_weight.begin()};
  check(!jda_cpu_compute_forward(&call, &arrays), jda_cpu_error());
  check(!jda_cpu_compute_backward(&call, &arrays), jda_cpu_error());
  return results_of(out, of_features, of_locations, of_weight);
}

// ---- Checks -------------------------------------------------------------------------------------

// Checks each array of `got` up to its first element where not good(array, index).
template <typename Good, typename Want>
void check_results(const std::string& where, const Results& got, Good good, Want want) {
  for (size_t array = 0; array < got.size(); ++array) {
    size_t i = 0;
    while (i < got[array].size() && good(array, i)) ++i;
    std::string what;
    if (i < got[array].size())
      what = where + ": " + kNames[array] + "[" + std::to_string(i) + "] is " +
             std::to_string(got[array][i]) + ", not " + std::to_string(want(array, i));
    check(what.empty(), what);
  }
}

template <typename F, typename W>
void check_values(const Sizes& s, const Results& got, const Expected<F, W>& expected,
                  unsigned wanted) {
  // Pixel coordinates are known to eps * size, and a sum errs by some eps of its terms; it is
  // rounded once to the array's type.
  const double tolerance =
      std::numeric_limits<Real<F>>::epsilon() * (8.0 * std::max(s.height, s.width) + 256);
  const std::vector<Sum> moved = expected.tangent(wanted);
  auto sum = [&](int array, int64_t i) {
    return array == kOfFeatures ? moved[i] : expected.of[array][i];
  };
  auto good = [&](int array, int64_t i) {
    const Sum right = sum(array, i);
    const double error = (right.any ? 4 : tolerance) * right.size;
    const double most = std::fabs(right.value) + error;
    const double last = array == kLocations ? 0
                        : array == kWeight  ? spacing<W>(most)
                                            : spacing<F>(most);
    return std::fabs(got[array][i] - right.value) <= error + last / 2;
  };
  check_results(describe(s), got, good, [&](int array, int64_t i) { return sum(array, i).value; });
}

void check_same(const std::string& where, const Results& got, const Results& alone) {
  auto want = [&](int array, int64_t i) { return alone[array][i]; };
  auto good = [&](int array, int64_t i) {
    return std::memcmp(&got[array][i], &alone[array][i], sizeof(double)) == 0;
  };
  check_results(where, got, good, want);
}

template <typename F, typename W>
void check_plan(const Input<F, W>& in, const Crew& crew) {
  const Sizes& s = in.sizes;
  const Problem<F, W> problem = in.problem();
  jda::Plan plan;
  with_team(crew, [&](Team& team) { plan = make_plan(problem, problem.locations, team); });

  std::vector<int> times(in.locations.size() / 2), part_times(plan.parts);
  std::vector<int32_t> pieces(s.batch * s.anchors);
  bool counts = true, order = true, parts = true, each = true;
  int64_t visits = 0;
  const auto list = [&](const jda::Cluster& i) {
    return plan.visits[i.visit].anchor / s.anchors * s.cameras + i.camera;
  };
  for (size_t i = 0; i < plan.clusters.size(); ++i) {
    const jda::Cluster& cluster = plan.clusters[i];
    counts &= cluster.visit == visits && cluster.visits >= 1 && cluster.count >= 1 &&
              cluster.count <= jda::kClusterPoints;
    if (!counts) break;
    Array<int32_t> found(jda::kClusterPoints);
    const int32_t* points = key_points(problem, plan, cluster, found.begin());
    int32_t count = 0;
    for (int32_t v = 0; v < cluster.visits; ++v, ++visits) {
      const jda::Visit& visit = plan.visits[visits];
      counts &= visit.count >= 1 && (count += visit.count) <= cluster.count;
      for (int32_t p = 0; p < visit.count; ++p, ++points) {
        each &= *points / s.points == visit.anchor;
        ++times[*points * s.cameras + cluster.camera];
      }
      const int64_t first = plan.part[visit.anchor], several = plan.pieces[visit.anchor] > 1;
      ++pieces[visit.anchor];
      parts &= several ? visit.part >= first && visit.part < first + plan.pieces[visit.anchor] &&
                             ++part_times[visit.part] == 1
                       : visit.part == -1;
      order &=
          v == 0 || problem.channels < jda::kNarrow || plan.visits[visits - 1].place <= visit.place;
    }
    counts &= count == cluster.count;
    if (i == 0) continue;
    const jda::Cluster& before = plan.clusters[i - 1];
    order &= list(before) < list(cluster) ||
             (list(before) == list(cluster) &&
              (problem.channels < jda::kNarrow ||
               plan.visits[cluster.visit - 1].place <= plan.visits[cluster.visit].place));
  }
  counts &= visits == static_cast<int64_t>(plan.visits.size());
  for (int64_t i = 0; i < static_cast<int64_t>(times.size()); ++i)
    each &= times[i] == jda::visible(in.locations[2 * i], in.locations[2 * i + 1]);
  for (int used : part_times) parts &= used == 1;
  const std::string where = describe(s) + ", plan with " + crew.name + ": ";
  check(counts, where + "a cluster has no points, or too many, or others than its visits");
  check(each, where + "not every visible sample, and no other, is in one visit of its anchor");
  check(pieces == plan.pieces, where + "visits of an anchor are counted wrongly");
  check(parts, where + "parts are not numbered one by one");
  check(order, where + "visits are out of order");
}

template <typename F, typename W>
void check_problem(Sizes sizes, Random& random) {
  sizes.name += std::string(", ") + kTypeName<F> + " and weights in " + kTypeName<W>;
  const Input<F, W> in = make_input<F, W>(sizes, random);
  check_plan(in, kAlone);
  check_plan(in, kCrews[2]);
  const Expected<F, W> expected(in);
  for (unsigned chosen = 0; chosen < 8; ++chosen) {       // of the three arguments
    const bool all = chosen == 7, samples = chosen == 6;  // two ways through the kernels
    const unsigned wanted = chosen << kFeatures | chosen << kOfFeatures | (chosen == 0 || all);
    const Results alone = run(in, kAlone, wanted);
    check_values(sizes, alone, expected, wanted);
    for (const Crew& crew : kCrews)
      if (all || samples || crew.size == 3)
        check_same(describe(sizes) + " with " + crew.name, run(in, crew, wanted), alone);
    // In as many passes as there can be, and in passes over several anchors.
    for (int64_t pass_bytes : {0, 1 << 16}) {
      if (pass_bytes > 0 && !all) continue;
      const Results parted = run(in, kAlone, wanted, pass_bytes);
      check_values(sizes, parted, expected, wanted);
      check_same(describe(sizes) + " in passes", run(in, kCrews[2], wanted, pass_bytes), parted);
    }
    if (all) check_same(describe(sizes) + " through the C interface", run_c_api(in, 3), alone);
  }
}

// Every 16-bit number through the kernels: one sample in the middle of a map's only pixel gives
// the pixel's features times one as they are, and sums of two of them are rounded to nearest even.
template <typename F>
void check_rounding() {
  const Map map{0, 1, 1};
  const Array<F> features(1 << 16), weight(1), out(1 << 16);
  const Array<Real<F>> location(2);
  location[0] = location[1] = 0.5;
  for (double scale : {1.0, 1.0 / 3, 0.75, 3.0}) {
    for (int i = 0; i < 1 << 16; ++i) features[i] = {static_cast<uint16_t>(i)};
    weight[0] = rounded<F>(scale);
    Problem<F> problem{{1, 1, 1 << 16, 1, 1, 1, 1, 1},
                       0,
                       &map,
                       features.begin(),
                       location.begin(),
                       weight.begin()};
    problem.out = out.begin();
    with_team(kAlone, [&](Team& team) { forward(problem, team); });
    bool good = true;
    for (int i = 0; i < 1 << 16; ++i) {
      const double want = static_cast<float>(widened(features[i]) * widened(weight[0]));
      const double got = widened(out[i]);
      good &= want == want ? got == widened(rounded<F>(want)) : got != got;
    }
    check(good, std::string(kTypeName<F>) + " times " + std::to_string(scale));
  }
}

// What the C interface refuses, it refuses before it reads an array.
void check_refusals() {
  const jda_cpu_problem good{{1, 6, 8, 0, 1, 1, 1, 2}, 0, jda::kFloat32, jda::kFloat32, 1};
  const int32_t shape[] = {2, 3}, far[] = {2, 4}, start[] = {0};
  jda_cpu_arrays arrays{};
  arrays.spatial_shape = shape, arrays.scale_start_index = start;
  auto tried = [&](auto change) {
    jda_cpu_problem call = good;
    change(call);
    const int forward = jda_cpu_compute_forward(&call, &arrays);
    check(jda_cpu_compute_backward(&call, &arrays) == forward, "refused in both directions");
    return std::to_string(forward) + (": " + std::string(jda_cpu_error()));
  };
  auto refused = [&](auto change, const char* text) {
    const std::string told = tried(change);
    check(told == std::string("3: ") + text, "refused: " + told);
  };
  auto nothing = [](jda_cpu_problem&) {};
  check(tried(nothing) == "0: ", "a call without anchors");
  refused([](auto& call) { call.sizes.batch = -1; }, "sizes must not be negative");
  refused([](auto& call) { call.sizes.groups = 3; },
          "weight has group=3, which does not divide c=8");
  refused([](auto& call) { call.sizes.points = int64_t{1} << 31; },
          "sample_locations has pts=2147483648, at most 2147483647 are allowed");
  refused([](auto& call) { call.sizes.scales = int64_t{1} << 23; },
          "weight has scale=8388608, at most 8388607 are allowed");
  refused([](auto& call) { call.y_axis = 2; }, "y_axis must be 0 or 1");
  refused([](auto& call) { call.feature_maps_dtype = 4; },
          "feature_maps must be float32, float64, bfloat16 or float16");
  refused([](auto& call) { call.weight_dtype = jda::kFloat64; },
          "weight must have the dtype of feature_maps, or be float32 where that has 16 bits");
  arrays.spatial_shape = far;
  refused(nothing,
          "scale_start_index[0, 0] is 0 and spatial_shape[0, 0] is (2, 4), so that the map ends "
          "at row 8, but feature_maps has num_feat=6");
}

// batch, anchors, points, cameras, scales, groups, channels in each, height, width
const Sizes kUgly[] = {
    {"no batch", 0, 3, 4, 2, 2, 8, 4, 5, 6},
    {"no anchors", 2, 0, 4, 2, 2, 8, 4, 5, 6},
    {"no points", 2, 3, 0, 2, 2, 8, 4, 5, 6},
    {"no cameras", 2, 3, 4, 0, 2, 8, 4, 5, 6, 0.6, kWithGaps},
    {"no scales", 2, 3, 4, 2, 0, 8, 4, 5, 6, 0.6, kWithGaps},
    {"no channels", 2, 3, 4, 2, 2, 8, 0, 5, 6},
    {"nothing visible", 2, 3, 4, 2, 2, 8, 4, 5, 6, 0.0},
    {"one of each", 1, 1, 1, 1, 1, 1, 1, 1, 1, kAll},
    {"one pixel", 2, 5, 9, 2, 2, 8, 8, 1, 1},
    {"one row", 2, 5, 9, 2, 3, 8, 32, 1, 37, 0.8},
    {"one column", 2, 5, 9, 2, 3, 3, 12, 41, 1, 0.8, kWithGaps, 1},
    {"overlapping maps", 2, 5, 9, 3, 3, 8, 16, 9, 7, 0.8, kOverlapping},
    {"gaps between maps", 2, 5, 9, 3, 3, 8, 8, 9, 7, 0.8, kWithGaps, 1},
    {"7 channels", 1, 5, 9, 2, 2, 1, 7, 9, 7},
    {"7 groups of one", 1, 5, 9, 2, 2, 7, 1, 9, 7},
    {"96 groups of one", 1, 5, 9, 2, 2, 96, 1, 9, 7},
    {"520 channels", 1, 5, 9, 2, 2, 8, 65, 9, 7},
    {"1024 channels, 8 groups", 1, 3, 5, 2, 2, 8, 128, 9, 7},
    {"1024 groups", 1, 3, 5, 1, 2, 1024, 1, 6, 8},
    {"1024 channels, 1 group", 1, 3, 5, 1, 2, 1, 1024, 6, 8},
    {"8 groups of 24", 1, 5, 9, 2, 2, 8, 24, 9, 7},
    {"8 groups of 48", 1, 5, 9, 2, 2, 8, 48, 9, 7},
    {"3 groups of 88", 1, 5, 9, 2, 2, 3, 88, 9, 7},
    {"2 groups of 320", 1, 3, 5, 2, 2, 2, 320, 9, 7},
    {"64 groups of 2", 1, 5, 9, 2, 2, 64, 2, 9, 7},
    {"33 groups of 3", 1, 5, 9, 2, 2, 33, 3, 9, 7},
    {"21 groups of 5", 1, 5, 9, 2, 2, 21, 5, 9, 7},
    {"17 groups of 6", 1, 5, 9, 2, 2, 17, 6, 9, 7},
    {"19 groups of 7", 1, 5, 9, 2, 2, 19, 7, 9, 7},
    {"9 groups of 12", 1, 5, 9, 2, 2, 9, 12, 9, 7},
    {"5 groups of 37", 1, 5, 9, 2, 2, 5, 37, 9, 7},
    {"a warp", 1, 600, 1, 1, 1, 1, 3, 30, 40, 0.9},
    {"a warp of wide rows", 2, 300, 1, 1, 1, 1, 32, 30, 40, 0.9, kApart, 1},
    {"few points", 2, 90, 3, 2, 3, 1, 32, 9, 7},
    {"few points, odd groups", 1, 200, 2, 3, 2, 5, 7, 16, 16, 0.5},
    {"few points, some anchors with more", 1, 60, 9, 2, 2, 8, 4, 16, 16, 0.4},
    {"a warp of one channel", 1, 400, 1, 1, 2, 1, 1, 21, 33, 0.9, kWithGaps},
    {"a warp of five channels", 2, 200, 1, 1, 2, 1, 5, 20, 30, 0.9, kApart, 1},
    {"few points, one row", 2, 60, 3, 2, 2, 2, 4, 1, 37, 0.8},
    {"few points, one column", 2, 60, 3, 2, 2, 3, 8, 37, 1, 0.8, kWithGaps, 1},
    {"few points, overlapping maps", 1, 60, 2, 2, 2, 1, 16, 9, 7, 0.8, kOverlapping},
    {"few points, lines too long for a sweep", 1, 20, 2, 1, 1, 1, 128, 2, 1100, 0.8},
    {"few points, rows past the caches", 1, 60, 2, 1, 1, 8, 32, 66, 72, 0.8, kWithGaps},
    {"few points, many weights of an anchor", 1, 2, 4, 6, 8, 700, 1, 9, 7},
    {"many points, pairs of channels", 2, 5, 40, 2, 2, 9, 2, 9, 7, 0.8, kWithGaps},
    {"one anchor in passes", 1, 1, 500, 2, 2, 8, 4, 16, 16, 0.9},
    {"blocks of points", 1, 3, 300, 2, 2, 8, 4, 32, 64, 0.9},
    {"blocks of points, one pixel", 1, 2, 600, 1, 2, 8, 8, 1, 1, 0.9},
    {"65 points", 1, 2, 65, 1, 1, 4, 4, 8, 8, 0.99},
    {"full clusters, no rows shared", 1, 2, 128, 1, 1, 96, 1, 80, 80, kAll},
    {"full clusters, few rows", 1, 2, 128, 1, 1, 96, 1, 8, 8, kAll},
    {"a cluster larger than a chunk", 1, 2, 130, 1, 40, 4, 2, 9, 9, 0.9, kOverlapping},
    {"many chunks", 2, 40, 20, 2, 2, 8, 4, 16, 16, 0.9},
    {"wide buckets", 1, 20, 20, 1, 1, 1, 1, 400, 330, 0.9, kWithGaps},
    {"more samples than rows", 2, 6, 60, 2, 2, 8, 4, 5, 6, 0.9},
    {"more samples than rows, odd groups", 1, 8, 90, 1, 1, 3, 7, 9, 7, 0.9, kOverlapping, 1},
    {"more samples than rows, 21 anchors", 1, 21, 90, 1, 1, 1, 3, 7, 9, 0.9},
    {"more samples than rows, rows of no map", 1, 8, 90, 1, 2, 8, 8, 9, 7, 0.9, kWithGaps},
    {"passes over the batch", 3, 10, 340, 4, 16, 1, 4, 8, 8, 0.01},
    {"rows past the caches", 1, 6, 12, 2, 1, 8, 32, 50, 44, 0.8},
    {"rows past the caches, odd groups", 3, 4, 12, 1, 1, 4, 24, 66, 56, 0.8, kWithGaps}};

Sizes random_sizes(int number, Random& random) {
  auto one_of = [&](std::vector<int64_t> values) { return values[random() % values.size()]; };
  Sizes s{"random " + std::to_string(number),
          one_of({1, 1, 2, 3}),
          one_of({1, 2, 5, 17}),
          one_of({1, 3, 13, 40, 150}),
          one_of({1, 2, 3}),
          one_of({1, 2, 4}),
          one_of({1, 2, 3, 7, 8, 8, 8, 16}),
          one_of({1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 20, 24, 32, 48, 64, 65, 128}),
          static_cast<int>(one_of({1, 2, 3, 8, 21, 60})),
          static_cast<int>(one_of({1, 2, 5, 16, 33})),
          one_of({1, 5, 9}) / 10.0,
          static_cast<Layout>(random() % 3),
          static_cast<int>(random() % 2)};
  while (s.batch * s.anchors * s.points * s.cameras * s.scales * s.groups * s.group_size > 150000)
    if (s.anchors > 1)
      s.anchors /= 2;
    else if (s.points > 1)
      s.points /= 2;
    else
      break;
  return s;
}

constexpr void (*kOtherTypes[])(Sizes, Random&) = {
    check_problem<BFloat16, BFloat16>, check_problem<Float16, Float16>,
    check_problem<BFloat16, float>, check_problem<Float16, float>, check_problem<double, double>};

}  // namespace

int main(int argc, char** argv) {
  const char* asked = std::getenv("JDA_CPU_ISA");
  if (!jda::isa_is_known()) {
    std::printf("JDA_CPU_ISA is '%s'; it may be 'baseline', 'avx2' or 'avx512'\n", asked);
    return 1;
  }
  if (asked && *asked && std::strcmp(asked, jda::isa_name())) {
    std::printf("this machine has no %s\n", asked);
    return 77;
  }
  const bool full = argc > 1 && !std::strcmp(argv[1], "full");
  Random random(argc > 2 ? std::atoi(argv[2]) : 1);
  std::vector<Sizes> problems(std::begin(kUgly), std::end(kUgly));
  for (int i = 0; i < (full ? 20 : 5); ++i) problems.push_back(random_sizes(i, random));
  for (const Sizes& sizes : problems) {
    check_problem<float, float>(sizes, random);
    // Each type meets its share of the problems.
    kOtherTypes[random() % (full ? 5 : 4)](sizes, random);
  }
  check_refusals();
  check_rounding<BFloat16>();
  check_rounding<Float16>();
  std::printf("%s: %d passed, %d failed\n", jda::isa_name(), passed, failed);
  return failed > 0;
}
