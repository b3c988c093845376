// Calls an FFI handler as XLA would on a platform of which no plug-in is here: a hand-made call frame
// and the few functions of XLA's interface that our handlers use.

#include <cstdint>
#include <cstring>
#include <vector>

#include "support/xla_errors.h"

struct XLA_FFI_ExecutionContext {
  void* stream;
};

namespace {

XLA_FFI_Error* GetStream(XLA_FFI_Stream_Get_Args* args) {
  args->stream = args->ctx->stream;
  return nullptr;
}

XLA_FFI_Api MakeApi() {
  XLA_FFI_Api api = api_of_errors();
  api.XLA_FFI_Stream_Get = GetStream;
  return api;
}

struct Array {
  int64_t dtype;
  int64_t rank;
  int64_t* dimensions;
  void* data;
};

struct Buffers {
  std::vector<XLA_FFI_Buffer> buffers;
  std::vector<void*> pointers;

  Buffers(const Array* arrays, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const Array& a = arrays[i];
      buffers.push_back({XLA_FFI_Buffer_STRUCT_SIZE, nullptr,
                         static_cast<XLA_FFI_DataType>(a.dtype), a.data, a.rank, a.dimensions});
    }
    for (XLA_FFI_Buffer& buffer : buffers) pointers.push_back(&buffer);
  }
};

}  // namespace

// Returns the code of the error, 0 for none, and its message.
extern "C" int call_handler(XLA_FFI_Handler* handler, void* stream, const Array* arguments,
                            int64_t argument_count, const Array* results, int64_t result_count,
                            int64_t y_axis, int64_t deterministic, char* message,
                            int64_t message_bytes) {
  static const XLA_FFI_Api api = MakeApi();
  XLA_FFI_ExecutionContext context{stream};
  Buffers in(arguments, argument_count), out(results, result_count);
  std::vector<XLA_FFI_ArgType> in_types(argument_count, XLA_FFI_ArgType_BUFFER);
  std::vector<XLA_FFI_RetType> out_types(result_count, XLA_FFI_RetType_BUFFER);

  // By name, as XLA sorts them.
  XLA_FFI_ByteSpan names[] = {{"deterministic", 13}, {"y_axis", 6}};
  XLA_FFI_ByteSpan* name_pointers[] = {&names[0], &names[1]};
  XLA_FFI_Scalar scalars[] = {{XLA_FFI_DataType_S64, &deterministic},
                              {XLA_FFI_DataType_S64, &y_axis}};
  void* attributes[] = {&scalars[0], &scalars[1]};
  XLA_FFI_AttrType attribute_types[] = {XLA_FFI_AttrType_SCALAR, XLA_FFI_AttrType_SCALAR};

  XLA_FFI_CallFrame frame = {};
  frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
  frame.api = &api;
  frame.ctx = &context;
  frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
  frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, argument_count, in_types.data(),
                in.pointers.data()};
  frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, result_count, out_types.data(),
                out.pointers.data()};
  frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE, nullptr, 2, attribute_types, name_pointers, attributes};

  XLA_FFI_Error* error = handler(&frame);
  if (error == nullptr) return 0;
  const int code = error->code;
  std::strncpy(message, error->message.c_str(), message_bytes - 1);
  delete error;
  return code;
}
