// What XLA's border of the CPU library does with calls that nobody meant: sizes that contradict each
// other, missing arrays, other types, wild values of indices, locations and attributes. Each input, a
// string of bytes, is one call. It must be refused or computed; sanitizers watch. What is computed must
// not depend on the number of threads.
//
// Clang's libFuzzer calls LLVMFuzzerTestOneInput (-DJDA_LIBFUZZER). Without it, main() runs the kept
// inputs of a folder, and then changed ones:
//     border_fuzz FOLDER [INPUTS [SEED]]

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/xla_errors.h"

extern "C" {
XLA_FFI_Handler jda_cpu_forward, jda_cpu_tangent, jda_cpu_backward, jda_cpu_pack, jda_cpu_unpack;
XLA_FFI_Handler jda_cpu_corners, jda_cpu_corners_backward;
}

struct XLA_FFI_ExecutionContext {
  int64_t threads;
  std::vector<std::thread> helpers;
};

namespace {

// ---- XLA's side of a call -----------------------------------------------------------------------

XLA_FFI_Error* schedule(XLA_FFI_ThreadPool_Schedule_Args* args) {
  args->ctx->helpers.emplace_back(args->task, args->data);
  return nullptr;
}

XLA_FFI_Error* num_threads(XLA_FFI_ThreadPool_NumThreads_Args* args) {
  *args->num_threads = args->ctx->threads;
  return nullptr;
}

XLA_FFI_Api make_api() {
  XLA_FFI_Api api = api_of_errors();
  api.XLA_FFI_ThreadPool_Schedule = schedule;
  api.XLA_FFI_ThreadPool_NumThreads = num_threads;
  return api;
}

// ---- From bytes to a call -----------------------------------------------------------------------

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t next() { return size_ == 0 ? 0 : (--size_, *data_++); }
  int64_t below(int64_t end) { return next() % end; }
  bool rarely() { return next() > 250; }

  template <typename T>
  T number() {
    uint8_t bytes[sizeof(T)];
    for (uint8_t& byte : bytes) byte = next();
    T value;
    std::memcpy(&value, bytes, sizeof(T));
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

constexpr int64_t kMostElements = 1 << 14;  // of an array; more would only be slow
constexpr XLA_FFI_DataType kTypes[] = {XLA_FFI_DataType_F32,  XLA_FFI_DataType_F64,
                                       XLA_FFI_DataType_BF16, XLA_FFI_DataType_F16,
                                       XLA_FFI_DataType_S32,  XLA_FFI_DataType_S8};

int64_t width(XLA_FFI_DataType type) {
  switch (type) {
    case XLA_FFI_DataType_F64:
      return 8;
    case XLA_FFI_DataType_BF16:
    case XLA_FFI_DataType_F16:
      return 2;
    case XLA_FFI_DataType_S8:
      return 1;
    default:
      return 4;
  }
}

using Shape = std::vector<int64_t>;

int64_t elements(const Shape& shape) {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

// An array with memory of exactly its size, so that a sanitizer sees every step beside it.
struct Array {
  XLA_FFI_DataType type;
  Shape shape;
  std::vector<uint8_t> first;  // what it holds when the call begins
  std::unique_ptr<uint8_t[]> memory;
  XLA_FFI_Buffer buffer = {};

  Array(XLA_FFI_DataType type, const Shape& shape)
      : type(type), shape(shape), first(elements(shape) * width(type)) {}

  void begin() {
    memory.reset(new uint8_t[first.size()]);
    std::copy(first.begin(), first.end(), memory.get());
    buffer = {XLA_FFI_Buffer_STRUCT_SIZE,         nullptr,     type, memory.get(),
              static_cast<int64_t>(shape.size()), shape.data()};
  }
};

struct Attribute {
  std::string name;
  XLA_FFI_DataType type;
  std::vector<int64_t> values;
  bool is_list;
};

struct Call {
  XLA_FFI_Handler* handler;
  std::vector<Array> arguments, results;
  std::vector<Attribute> attributes;  // sorted by name, as XLA has them
};

struct Sizes {
  int64_t batch, rows, channels, anchors, points, cameras, scales, groups;
};

// Values that kernels have to be careful with, and others.
float coordinate(Bytes& bytes) {
  constexpr float kInfinity = __builtin_inff();
  constexpr float kOdd[] = {0,    1,      -0.0f,          kInfinity, -kInfinity, __builtin_nanf(""),
                            0.5f, 1e-45f, 0x1.fffffep-1f, 3e38f,     -1e30f,     2147483648.0f};
  const uint8_t kind = bytes.next();
  if (kind < 200) return static_cast<float>(kind) / 199;
  return kOdd[kind % std::size(kOdd)];
}

void fill(Array& array, Bytes& bytes, const std::function<double(Bytes&)>& value) {
  const int64_t size = width(array.type);
  for (size_t at = 0; at < array.first.size(); at += size) {
    const double v = value(bytes);
    if (array.type == XLA_FFI_DataType_F32) {
      const float narrow = static_cast<float>(v);
      std::memcpy(&array.first[at], &narrow, size);
    } else if (array.type == XLA_FFI_DataType_F64) {
      std::memcpy(&array.first[at], &v, size);
    } else {
      for (int64_t i = 0; i < size; ++i) array.first[at + i] = bytes.next();
    }
  }
}

void set_int(Array& array, size_t i, int32_t value) {
  if (array.type == XLA_FFI_DataType_S32 && (i + 1) * 4 <= array.first.size())
    std::memcpy(&array.first[i * 4], &value, 4);
}

// Maps that lie one behind the other; some of their numbers are anything.
void fill_maps(Array& shapes, Array& starts, int64_t rows, Bytes& bytes) {
  int64_t row = 0;
  for (size_t i = 0; i * 4 < starts.first.size(); ++i) {
    const auto height = static_cast<int32_t>(1 + bytes.below(4));
    const auto width = static_cast<int32_t>(1 + bytes.below(5));
    const bool fits = row + height * width <= rows;
    set_int(shapes, 2 * i, bytes.rarely() ? bytes.number<int32_t>() : fits ? height : 1);
    set_int(shapes, 2 * i + 1, bytes.rarely() ? bytes.number<int32_t>() : fits ? width : 1);
    set_int(starts, i,
            bytes.rarely() ? bytes.number<int32_t>() : static_cast<int32_t>(fits ? row : 0));
    if (fits) row += height * width;
  }
}

// One thing that is wrong: a size, a rank or a type; or an array too few or too many.
void spoil(std::vector<Array>& arrays, Bytes& bytes) {
  if (arrays.empty()) return;
  Array& array = arrays[bytes.below(arrays.size())];
  XLA_FFI_DataType type = array.type;
  Shape shape = array.shape;
  switch (bytes.below(6)) {
    case 0:
      arrays.pop_back();
      return;
    case 1:
      arrays.emplace_back(type, shape);
      return;
    case 2:
      type = kTypes[bytes.below(std::size(kTypes))];
      break;
    case 3:
      if (!shape.empty()) shape[bytes.below(shape.size())] = bytes.below(9);
      break;
    case 4:
      if (!shape.empty()) shape.pop_back();
      break;
    default:
      shape.push_back(bytes.below(4));
  }
  if (elements(shape) > kMostElements) return;
  Array changed(type, shape);
  const size_t kept = std::min(changed.first.size(), array.first.size());
  std::copy_n(array.first.begin(), kept, changed.first.begin());
  array = std::move(changed);
}

Call aggregation(int64_t operation, Bytes& bytes) {
  Sizes s{bytes.below(3),     bytes.below(40),   0,
          bytes.below(5),     bytes.below(9),    1 + bytes.below(3),
          1 + bytes.below(3), 1 + bytes.below(9)};
  s.channels = s.groups * bytes.below(12);
  if (bytes.next() > 240) s.points *= 16;  // more than a cluster holds
  const XLA_FFI_DataType type = kTypes[bytes.below(4)];
  const auto real = type == XLA_FFI_DataType_F64 ? type : XLA_FFI_DataType_F32;
  const bool wide_weight = type > XLA_FFI_DataType_F32 && bytes.next() > 127;
  const auto of_weight = wide_weight ? real : type;
  const Shape features{s.batch, s.rows, s.channels}, out{s.batch, s.anchors, s.channels};
  const Shape locations{s.batch, s.anchors, s.points, s.cameras, 2};
  Shape weight{s.batch, s.anchors, s.points, s.cameras, s.scales, s.groups};
  if (elements(weight) > kMostElements) weight[2] = s.points = 1;

  Call call;
  const auto value = [](Bytes& b) { return b.rarely() ? b.number<float>() : b.next() / 64.0 - 2; };
  const auto add = [&](XLA_FFI_DataType of, const Shape& shape, bool wanted = true) {
    call.arguments.emplace_back(of, wanted ? shape : Shape{0});
    fill(call.arguments.back(), bytes, value);
  };
  const auto add_floating = [&](auto& arrays) {  // those that are not wanted are empty
    const uint8_t wanted = bytes.next();
    arrays.emplace_back(type, wanted & 1 ? features : Shape{0});
    arrays.emplace_back(real, wanted & 2 ? call.arguments[3].shape : Shape{0});
    arrays.emplace_back(of_weight, wanted & 4 ? weight : Shape{0});
  };
  add(type, features);
  add(XLA_FFI_DataType_S32, {s.cameras, s.scales, 2});
  add(XLA_FFI_DataType_S32, {s.cameras, s.scales});
  add(real, {s.batch, s.anchors, s.points, s.cameras, 2});
  add(of_weight, weight);
  fill(call.arguments[3], bytes, coordinate);
  fill_maps(call.arguments[1], call.arguments[2], s.rows, bytes);
  if (operation == 0) {
    call.handler = jda_cpu_forward;
    call.results.emplace_back(type, out);
  } else if (operation == 1) {
    call.handler = jda_cpu_tangent;
    add_floating(call.arguments);
    call.results.emplace_back(type, out);
  } else {
    call.handler = jda_cpu_backward;
    add(type, out);
    add_floating(call.results);
  }
  const int64_t y_axis = bytes.rarely() ? bytes.number<int64_t>() : bytes.below(2);
  call.attributes.push_back({"y_axis", XLA_FFI_DataType_S64, {y_axis}, false});
  return call;
}

Call corners(bool backward, Bytes& bytes) {
  Sizes s{bytes.below(3), bytes.below(40),    bytes.below(70),    bytes.below(5),
          bytes.below(9), 1 + bytes.below(3), 1 + bytes.below(3), 1 + bytes.below(9)};
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

// ---- Calling ------------------------------------------------------------------------------------

struct Pointers {
  std::vector<void*> arrays;
  explicit Pointers(std::vector<Array>& of) {
    for (Array& array : of) {
      array.begin();
      arrays.push_back(&array.buffer);
    }
  }
};

// Whether the call was computed. The results stay in their memory.
bool run(Call& call, int64_t threads) {
  static const XLA_FFI_Api api = make_api();
  XLA_FFI_ExecutionContext context{threads, {}};
  Pointers in(call.arguments), out(call.results);
  std::vector<XLA_FFI_ArgType> in_types(call.arguments.size(), XLA_FFI_ArgType_BUFFER);
  std::vector<XLA_FFI_RetType> out_types(call.results.size(), XLA_FFI_RetType_BUFFER);

  const size_t count = call.attributes.size();
  std::vector<XLA_FFI_ByteSpan> names(count);
  std::vector<XLA_FFI_ByteSpan*> name_pointers(count);
  std::vector<XLA_FFI_Scalar> scalars(count);
  std::vector<XLA_FFI_Array> lists(count);
  std::vector<XLA_FFI_AttrType> types(count);
  std::vector<void*> values(count);
  for (size_t i = 0; i < count; ++i) {
    Attribute& attribute = call.attributes[i];
    names[i] = {attribute.name.data(), attribute.name.size()};
    name_pointers[i] = &names[i];
    scalars[i] = {attribute.type, attribute.values.data()};
    lists[i] = {attribute.type, attribute.values.size(), attribute.values.data()};
    types[i] = attribute.is_list ? XLA_FFI_AttrType_ARRAY : XLA_FFI_AttrType_SCALAR;
    values[i] = attribute.is_list ? static_cast<void*>(&lists[i]) : &scalars[i];
  }

  XLA_FFI_CallFrame frame = {};
  frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
  frame.api = &api;
  frame.ctx = &context;
  frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
  frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, static_cast<int64_t>(in_types.size()),
                in_types.data(), in.arrays.data()};
  frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, static_cast<int64_t>(out_types.size()),
                out_types.data(), out.arrays.data()};
  frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE, nullptr,      static_cast<int64_t>(count), types.data(),
                 name_pointers.data(),      values.data()};
  XLA_FFI_Error* error = call.handler(&frame);
  for (std::thread& helper : context.helpers) helper.join();
  const bool computed = error == nullptr;
  delete error;
  return computed;
}

std::vector<std::vector<uint8_t>> results_of(const Call& call) {
  std::vector<std::vector<uint8_t>> found;
  for (const Array& array : call.results)
    found.emplace_back(array.memory.get(), array.memory.get() + array.first.size());
  return found;
}

int64_t computed_calls = 0;

void one_input(const uint8_t* data, size_t size) {
  Bytes bytes(data, size);
  const int64_t target = bytes.below(7);
  const bool is_spoiled = bytes.next() > 190;
  Call call = target < 3   ? aggregation(target, bytes)
              : target < 5 ? packing(target == 3, bytes)
                           : corners(target == 6, bytes);
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  one_input(data, size);
  return 0;
}

#if !defined(JDA_LIBFUZZER)
namespace {

using Input = std::vector<uint8_t>;

Input running;  // what a crash would be a finding of

void keep_running() {
  std::ofstream("border_fuzz.finding", std::ios::binary)
      .write(reinterpret_cast<const char*>(running.data()), running.size());
  std::printf("the input is in border_fuzz.finding\n");
}

void try_input(const Input& input) {
  running = input;
  one_input(running.data(), running.size());
}

Input changed(const std::vector<Input>& kept, std::mt19937_64& random) {
  Input input = kept.empty() ? Input{} : kept[random() % kept.size()];
  if (input.empty()) input.push_back(random());
  if (input.size() < 64 || random() % 4 == 0)
    for (int i = random() % 512; i > 0; --i) input.push_back(random());
  for (int i = random() % 8; i > 0; --i) input[random() % input.size()] = random();
  for (int i = random() % 3; i > 0; --i) input[random() % 16 % input.size()] = random();
  if (random() % 4 == 0) input.resize(1 + random() % input.size());
  return input;
}

}  // namespace

extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

int main(int argc, char** argv) {
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(keep_running);
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1]))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Input> kept;
  for (const auto& file : files) {
    std::ifstream stream(file, std::ios::binary);
    kept.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    try_input(kept.back());
  }
  const int64_t inputs = argc > 2 ? std::atoll(argv[2]) : 0;
  std::mt19937_64 random(argc > 3 ? std::atoll(argv[3]) : 1);
  for (int64_t i = 0; i < inputs; ++i) try_input(changed(kept, random));
  std::printf("%zu kept and %lld changed inputs: %lld computed, the others refused\n", kept.size(),
              static_cast<long long>(inputs), static_cast<long long>(computed_calls));
}
#endif
