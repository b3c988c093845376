// What the memory system alone allows: feature rows read, or read and written, in a given order.
#include <cstdint>
#include <thread>
#include <vector>

namespace {

// As wide as the widest vectors; a compiler splits it for narrower ones.
typedef float Vector __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int kLanes = 16;

volatile float sink;

// Adds up rows, `V` vectors of each, in registers.
template <int V>
void gather(const float* features, int64_t channels, const int64_t* row, int64_t count) {
  Vector sum[V] = {};
  for (int64_t i = 0; i < count; ++i) {
    const float* p = features + row[i] * channels;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[v] += *reinterpret_cast<const Vector*>(p + v * kLanes);
  }
  float total = 0;
  for (int v = 0; v < V; ++v) total += sum[v][0];
  sink = total;
}

// Adds a constant to rows in memory.
template <int V>
void scatter(float* features, int64_t channels, const int64_t* row, int64_t count) {
  const Vector one = Vector{} + 1.0f;
  for (int64_t i = 0; i < count; ++i) {
    float* p = features + row[i] * channels;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) *reinterpret_cast<Vector*>(p + v * kLanes) += one;
  }
}

// Each thread a part of the list. Scatters of several threads race: their sums mean nothing, only
// their time does.
template <typename Work>
void split(int64_t count, int threads, const Work& work) {
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t)
    others.emplace_back([=] { work(count * t / threads, count * (t + 1) / threads); });
  work(0, count / threads);
  for (auto& other : others) other.join();
}

}  // namespace

// Channels must be 64, 128 or 256; 0 is returned otherwise.
extern "C" int gather_rows(const float* features, int64_t channels, const int64_t* row,
                           int64_t count, int threads) {
  const auto run = channels == 256 ? gather<16> : channels == 128 ? gather<8> : gather<4>;
  split(count, threads,
        [=](int64_t begin, int64_t end) { run(features, channels, row + begin, end - begin); });
  return channels == 256 || channels == 128 || channels == 64;
}

extern "C" int scatter_rows(float* features, int64_t channels, const int64_t* row, int64_t count,
                            int threads) {
  const auto run = channels == 256 ? scatter<16> : channels == 128 ? scatter<8> : scatter<4>;
  split(count, threads,
        [=](int64_t begin, int64_t end) { run(features, channels, row + begin, end - begin); });
  return channels == 256 || channels == 128 || channels == 64;
}
