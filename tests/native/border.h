// What fuzzers of the border between XLA and a library share: XLA's side of a call, and calls that
// nobody meant, made of any string of bytes. Each program defines one_input(); border_main.cc runs it.
#ifndef JDA_TESTS_NATIVE_BORDER_H_
#define JDA_TESTS_NATIVE_BORDER_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/xla_errors.h"

struct XLA_FFI_ExecutionContext {
  int64_t threads;
  std::vector<std::thread> helpers;
  void* stream;
};

namespace border {

void one_input(const uint8_t* data, size_t size);

extern int64_t computed_calls;  // so far; the others were refused

// ---- XLA's side of a call -----------------------------------------------------------------------

inline XLA_FFI_Error* schedule(XLA_FFI_ThreadPool_Schedule_Args* args) {
  args->ctx->helpers.emplace_back(args->task, args->data);
  return nullptr;
}

inline XLA_FFI_Error* num_threads(XLA_FFI_ThreadPool_NumThreads_Args* args) {
  *args->num_threads = args->ctx->threads;
  return nullptr;
}

inline XLA_FFI_Error* get_stream(XLA_FFI_Stream_Get_Args* args) {
  args->stream = args->ctx->stream;
  return nullptr;
}

inline XLA_FFI_Api make_api() {
  XLA_FFI_Api api = api_of_errors();
  api.XLA_FFI_ThreadPool_Schedule = schedule;
  api.XLA_FFI_ThreadPool_NumThreads = num_threads;
  api.XLA_FFI_Stream_Get = get_stream;
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

inline int64_t width(XLA_FFI_DataType type) {
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

inline int64_t elements(const Shape& shape) {
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
  bool is_on_card = false;  // a handler then gets this in place of `memory`
  void* on_card = nullptr;
  XLA_FFI_Buffer buffer = {};

  Array(XLA_FFI_DataType type, const Shape& shape)
      : type(type), shape(shape), first(elements(shape) * width(type)) {}

  void begin() {
    memory.reset(new uint8_t[first.size()]);
    std::copy(first.begin(), first.end(), memory.get());
    void* const data = is_on_card ? on_card : memory.get();
    buffer = {XLA_FFI_Buffer_STRUCT_SIZE,         nullptr,     type, data,
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
inline float coordinate(Bytes& bytes) {
  constexpr float kInfinity = __builtin_inff();
  constexpr float kOdd[] = {0,    1,      -0.0f,          kInfinity, -kInfinity, __builtin_nanf(""),
                            0.5f, 1e-45f, 0x1.fffffep-1f, 3e38f,     -1e30f,     2147483648.0f};
  const uint8_t kind = bytes.next();
  if (kind < 200) return static_cast<float>(kind) / 199;
  return kOdd[kind % std::size(kOdd)];
}

inline void fill(Array& array, Bytes& bytes, const std::function<double(Bytes&)>& value) {
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

inline void set_int(Array& array, size_t i, int32_t value) {
  if (array.type == XLA_FFI_DataType_S32 && (i + 1) * 4 <= array.first.size())
    std::memcpy(&array.first[i * 4], &value, 4);
}

// Maps that lie one behind the other; some of their numbers are anything.
inline void fill_maps(Array& shapes, Array& starts, int64_t rows, Bytes& bytes) {
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
inline void spoil(std::vector<Array>& arrays, Bytes& bytes) {
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

// Forward, tangent or backward, of one of the first so many types. The handler is the caller's to name.
inline Call aggregation(int64_t operation, int64_t types, Bytes& bytes) {
  Sizes s{bytes.below(3),     bytes.below(40),   0,
          bytes.below(5),     bytes.below(9),    1 + bytes.below(3),
          1 + bytes.below(3), 1 + bytes.below(9)};
  s.channels = s.groups * bytes.below(12);
  if (bytes.next() > 240) s.points *= 16;  // more than a cluster holds
  const XLA_FFI_DataType type = kTypes[bytes.below(types)];
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
    call.results.emplace_back(type, out);
  } else if (operation == 1) {
    add_floating(call.arguments);
    call.results.emplace_back(type, out);
  } else {
    add(type, out);
    add_floating(call.results);
  }
  const int64_t y_axis = bytes.rarely() ? bytes.number<int64_t>() : bytes.below(2);
  call.attributes.push_back({"y_axis", XLA_FFI_DataType_S64, {y_axis}, false});
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
inline bool run(Call& call, int64_t threads, void* stream = nullptr) {
  static const XLA_FFI_Api api = make_api();
  XLA_FFI_ExecutionContext context{threads, {}, stream};
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

inline std::vector<std::vector<uint8_t>> results_of(const Call& call) {
  std::vector<std::vector<uint8_t>> found;
  for (const Array& array : call.results)
    found.emplace_back(array.memory.get(), array.memory.get() + array.first.size());
  return found;
}

}  // namespace border

#endif  // JDA_TESTS_NATIVE_BORDER_H_
