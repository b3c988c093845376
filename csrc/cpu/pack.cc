// Pyramids of feature maps to rows of the operator, and back: blocked copies, transposing where the
// channels of a map come first.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

// The narrowest instruction set is enough: memory is what this waits for.
#define JDA_ISA baseline

#include "handler.h"
#include "simd.h"

namespace jda {
namespace {

using namespace JDA_ISA;

constexpr int64_t kPixels = 256;               // of a block; their channels go from cache to cache
constexpr int64_t kWorthHelp = 1 << 18;        // bytes that are left to the calling thread
constexpr size_t kFarBytes = size_t{4} << 20;  // more than the caches near a core hold

// The maps of one scale in some cameras: [batch, cameras, channels, pixels], or channels last.
struct Maps {
  char* data;
  int64_t cameras, pixels;
  int64_t first, stride;  // row of the first camera's first pixel; rows from camera to camera
};

// In turn a lane of the first half (the second, if `upper`) of a and one of b.
template <int N>
constexpr int interleaved(int lane, bool upper) {
  return (upper ? N / 2 : 0) + lane / 2 + (lane % 2 ? N : 0);
}
template <typename T, int N, int... I>
void interleave(Vector<T, N> a, Vector<T, N> b, Vector<T, N>* both, Lanes<I...>) {
  both[0] = __builtin_shufflevector(a, b, interleaved<N>(I, false)...);
  both[1] = __builtin_shufflevector(a, b, interleaved<N>(I, true)...);
}

// Transposes N vectors of N lanes: rows interleaved with those half of all further on, log2(N) times.
template <typename T, int N>
void transpose_square(Vector<T, N>* rows) {
  for (int step = 1; step < N; step *= 2) {
    Vector<T, N> next[N];
    for (int r = 0; r < N / 2; ++r)
      interleave<T, N>(rows[r], rows[r + N / 2], next + 2 * r, LanesTo<N>{});
    std::copy(next, next + N, rows);
  }
}

// to[j, i] = from[i, j] for `rows` times `columns` elements. A cache line of `to` is written at once.
template <typename T>
void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
               int64_t columns, bool past_caches) {
  constexpr int kLanes = 16 / sizeof(T), kSquares = 4, kRows = kSquares * kLanes;
  const int64_t whole_rows = rows / kRows * kRows, whole_columns = columns / kLanes * kLanes;
  for (int64_t i = 0; i < whole_rows; i += kRows)
    for (int64_t j = 0; j < whole_columns; j += kLanes) {
      Vector<T, kLanes> square[kSquares][kLanes];
      for (int s = 0; s < kSquares; ++s) {
        for (int r = 0; r < kLanes; ++r)
          square[s][r] = load_lanes<kLanes>(from + (i + s * kLanes + r) * from_stride + j);
        transpose_square<T, kLanes>(square[s]);
      }
      for (int q = 0; q < kLanes; ++q)
        for (int s = 0; s < kSquares; ++s) {
          T* target = to + (j + q) * to_stride + i + s * kLanes;
          past_caches ? store_lanes_past_caches<kLanes>(target, square[s][q])
                      : store_lanes<kLanes>(target, square[s][q]);
        }
    }
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = j < whole_columns ? whole_rows : 0; i < rows; ++i)
      to[j * to_stride + i] = from[i * from_stride + j];
}

// Whether rows that are written should and can go past the caches.
bool past_caches(const void* to, int64_t stride_bytes, size_t all_bytes) {
  return all_bytes > kFarBytes && stride_bytes % 64 == 0 &&
         reinterpret_cast<uintptr_t>(to) % 64 == 0;
}

struct PackCall {
  std::vector<Maps> maps;
  char* packed;  // [batch, rows, channels]
  size_t bytes;
  int64_t batch, rows, channels;
  bool channels_last, packs;
};

// `count` pixels of one camera's map, to their rows or from them.
template <typename T>
void copy(const PackCall& call, const Maps& maps, int64_t element, int64_t camera, int64_t begin,
          int64_t count) {
  const int64_t channels = call.channels;
  T* rows = reinterpret_cast<T*>(call.packed) +
            (element * call.rows + maps.first + camera * maps.stride + begin) * channels;
  T* map =
      reinterpret_cast<T*>(maps.data) + (element * maps.cameras + camera) * maps.pixels * channels;
  if (call.channels_last) {
    map += begin * channels;
    std::memcpy(call.packs ? rows : map, call.packs ? map : rows, count * channels * sizeof(T));
  } else if (call.packs) {
    const bool past = past_caches(rows, channels * sizeof(T), call.bytes);
    transpose(map + begin, maps.pixels, rows, channels, channels, count, past);
  } else {
    map += begin;
    const bool past = past_caches(map, maps.pixels * sizeof(T), call.bytes);
    transpose(rows, channels, map, maps.pixels, count, channels, past);
  }
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

template <typename T>
void run_typed(const PackCall& call, Team& team) {
  for (const Maps& maps : call.maps) {
    const int64_t blocks = (maps.pixels + kPixels - 1) / kPixels;
    team.for_each(call.batch * maps.cameras * blocks, [&](int64_t, int64_t i) {
      const int64_t begin = i % blocks * kPixels, image = i / blocks;
      copy<T>(call, maps, image / maps.cameras, image % maps.cameras, begin,
              std::min(kPixels, maps.pixels - begin));
    });
  }
}

// The maps [batch, cameras, channels, pixels] (or channels last) and where their rows lie.
Maps read_places(ffi::AnyBuffer buffer, const PackCall& call, int64_t first, int64_t stride) {
  const auto dims = buffer.dimensions();
  require(dims.size() == 4 && dims[0] == call.batch, "maps must have four axes and one batch size");
  const int64_t pixels = dims[call.channels_last ? 2 : 3];
  require(dims[call.channels_last ? 3 : 2] == call.channels, "maps must agree in channels");
  // Divided, since sums and products of what a program says may overflow.
  const int64_t cameras = dims[1], last = call.rows - pixels;  // where a map may start at most
  require(first >= 0 && stride >= pixels &&
              (cameras == 0 ||
               (first <= last && (stride == 0 || cameras - 1 <= (last - first) / stride))),
          "maps must lie within the rows");
  return {static_cast<char*>(buffer.untyped_data()), cameras, pixels, first, stride};
}

// Where every map lies among the packed rows.
struct Places {
  bool channels_last;
  ffi::Span<const int64_t> first, stride;
};

// `maps` are the arguments or the results of the call.
template <typename Arrays>
ffi::Error run(ffi::ThreadPool& pool, ffi::AnyBuffer packed, const Arrays& maps, bool packs,
               const Places& places) {
  const auto dims = packed.dimensions();
  require(dims.size() == 3, "the packed maps must be [bs, num_feat, c]");
  require(places.first.size() == maps.size() && places.stride.size() == maps.size(),
          "every map must have a place");
  PackCall call{{},
                static_cast<char*>(packed.untyped_data()),
                packed.size_bytes(),
                dims[0],
                dims[1],
                dims[2],
                places.channels_last,
                packs};
  for (size_t i = 0; i < maps.size(); ++i) {
    const ffi::AnyBuffer map = packs ? array(maps, i) : fresh(array(maps, i));
    require(map.element_type() == packed.element_type(), "maps must have one dtype");
    call.maps.push_back(read_places(map, call, places.first[i], places.stride[i]));
  }
  const bool alone = static_cast<int64_t>(packed.size_bytes()) < kWorthHelp;
  Team team = make_team(pool, alone);
  switch (ffi::ByteWidth(packed.element_type())) {
    case 2:
      run_typed<uint16_t>(call, team);
      break;
    case 4:
      run_typed<uint32_t>(call, team);
      break;
    case 8:
      run_typed<uint64_t>(call, team);
      break;
    default:
      throw std::invalid_argument("maps must have elements of 2, 4 or 8 bytes");
  }
  return ffi::Error::Success();
}

ffi::Error Pack(ffi::ThreadPool pool, ffi::RemainingArgs maps, ffi::RemainingRets packed,
                bool channels_last, ffi::Span<const int64_t> first,
                ffi::Span<const int64_t> stride) {
  return reported([&] {
    require_count(packed, 1);
    return run(pool, fresh(array(packed, 0)), maps, true, {channels_last, first, stride});
  });
}

ffi::Error Unpack(ffi::ThreadPool pool, ffi::RemainingArgs packed, ffi::RemainingRets maps,
                  bool channels_last, ffi::Span<const int64_t> first,
                  ffi::Span<const int64_t> stride) {
  return reported([&] {
    require_count(packed, 1);
    return run(pool, array(packed, 0), maps, false, {channels_last, first, stride});
  });
}

}  // namespace
}  // namespace jda

#define JDA_BIND_PACKING                            \
  JDA_BIND_ON_CPU.Attr<bool>("channels_last")       \
      .Attr<xla::ffi::Span<const int64_t>>("first") \
      .Attr<xla::ffi::Span<const int64_t>>("stride")

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_pack, jda::Pack, JDA_BIND_PACKING);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jda_cpu_unpack, jda::Unpack, JDA_BIND_PACKING);

#pragma GCC visibility pop
