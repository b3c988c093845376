// What XLA's border of the CPU library does with calls that nobody meant: sizes that contradict each
// other, missing arrays, other types, wild values of indices, locations and attributes. Each input, a
// string of bytes, is one call. It must be refused or computed; sanitizers watch. What is computed must
// not depend on the number of threads.

#include <cstdio>
#include <cstdlib>

#include "border.h"

extern "C" {
XLA_FFI_Handler jda_cpu_forward, jda_cpu_tangent, jda_cpu_backward, jda_cpu_pack, jda_cpu_unpack;
XLA_FFI_Handler jda_cpu_corners, jda_cpu_corners_backward;
}

namespace border {
namespace {

XLA_FFI_Handler* const kAggregations[] = {jda_cpu_forward, jda_cpu_tangent, jda_cpu_backward};

Call corners(bool backward, Bytes& bytes) {
  Sizes s{bytes.below(3), bytes.below(40),    bytes.below(70),    bytes.below(5),
          bytes.below(9), 1 + bytes.below(3), 1 + bytes.below(3), bytes.below(9)};
  if (bytes.next() > 240) s.points *= 16;  // more than a chunk holds
  const XLA_FFI_DataType type = kTypes[bytes.below(2)];
  const Shape pairs{s.batch, s.anchors, s.points, s.cameras};
  Shape locations = pairs, weight = pairs,
        centres{s.batch, s.anchors, s.points, 4, s.cameras, s.scales};
  locations.push_back(2);
  for (int64_t size : {s.scales, s.groups}) weight.push_back(size);
  Shape of_corners = centres;
  centres.push_back(2);
  of_corners.push_back(s.groups);

  Call call;
  const auto bin = [&](Bytes& b) { return (s.channels + 2) * 1.0 * coordinate(b) - 1; };
  const auto value = [](Bytes& b) { return b.rarely() ? b.number<float>() : b.next() / 64.0 - 2; };
  const auto add = [&](XLA_FFI_DataType of, const Shape& shape, const auto& value) {
    call.arguments.emplace_back(of, shape);
    fill(call.arguments.back(), bytes, value);
  };
  add(type, {s.batch, s.rows, s.channels}, value);
  add(XLA_FFI_DataType_S32, {s.cameras, s.scales, 2}, value);
  add(XLA_FFI_DataType_S32, {s.cameras, s.scales}, value);
  add(type, locations, coordinate);
  add(type, weight, value);
  add(type, pairs, bin);
  fill_maps(call.arguments[1], call.arguments[2], s.rows, bytes);
  if (backward) {
    call.handler = jda_cpu_corners_backward;
    add(type, of_corners, value);
    const uint8_t wanted = bytes.next();
    for (int i = 0; i < 4; ++i) {
      const int of[] = {0, 3, 4, 5};
      call.results.emplace_back(type, wanted >> i & 1 ? call.arguments[of[i]].shape : Shape{0});
    }
  } else {
    call.handler = jda_cpu_corners;
    call.results.emplace_back(type, centres);
    call.results.emplace_back(type, of_corners);
  }
  const int64_t y_axis = bytes.rarely() ? bytes.number<int64_t>() : bytes.below(2);
  call.attributes.push_back({"y_axis", XLA_FFI_DataType_S64, {y_axis}, false});
  return call;
}

Call packing(bool packs, Bytes& bytes) {
  const int64_t batch = bytes.below(3), channels = bytes.below(40), count = bytes.below(4);
  const auto type = kTypes[bytes.below(4)];
  const bool channels_last = bytes.next() & 1;
  std::vector<Array> maps;
  Attribute first{"first", XLA_FFI_DataType_S64, {}, true};
  Attribute stride{"stride", XLA_FFI_DataType_S64, {}, true};
  int64_t rows = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t cameras = bytes.below(3), pixels = bytes.below(70);
    maps.emplace_back(type, channels_last ? Shape{batch, cameras, pixels, channels}
                                          : Shape{batch, cameras, channels, pixels});
    first.values.push_back(bytes.rarely() ? bytes.number<int64_t>() : rows);
    stride.values.push_back(bytes.rarely() ? bytes.number<int64_t>() : pixels);
    rows += cameras * pixels;
  }
  Call call;
  call.handler = packs ? jda_cpu_pack : jda_cpu_unpack;
  (packs ? call.arguments : call.results) = std::move(maps);
  (packs ? call.results : call.arguments).emplace_back(type, Shape{batch, rows, channels});
  for (Array& array : call.arguments)
    for (uint8_t& byte : array.first) byte = bytes.next();
  call.attributes.push_back({"channels_last", XLA_FFI_DataType_PRED, {channels_last}, false});
  call.attributes.push_back(first);
  call.attributes.push_back(stride);
  return call;
}

}  // namespace

void one_input(const uint8_t* data, size_t size) {
  Bytes bytes(data, size);
  const int64_t target = bytes.below(7);
  const bool is_spoiled = bytes.next() > 190;
  Call call = target < 3   ? aggregation(target, 4, bytes)
              : target < 5 ? packing(target == 3, bytes)
                           : corners(target == 6, bytes);
  if (target < 3) call.handler = kAggregations[target];
  if (is_spoiled) spoil(bytes.next() & 1 ? call.arguments : call.results, bytes);
  const bool computed = run(call, 1);
  computed_calls += computed;
  const auto alone = results_of(call);
  const bool again = run(call, 3);
  if (computed != again || (computed && alone != results_of(call))) {
    std::printf("the result depends on the number of threads\n");
    std::abort();
  }
}

}  // namespace border
