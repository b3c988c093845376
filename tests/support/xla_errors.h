// The part of XLA's side of its FFI that every hand-made call frame needs: errors.
#ifndef JDA_TESTS_XLA_ERRORS_H_
#define JDA_TESTS_XLA_ERRORS_H_

#include <string>

#include "xla/ffi/api/c_api.h"

struct XLA_FFI_Error {
  std::string message;
  XLA_FFI_Error_Code code;
};

// XLA's functions, of which there are those for errors; a test adds what its handlers use.
inline XLA_FFI_Api api_of_errors() {
  XLA_FFI_Api api = {};
  api.struct_size = XLA_FFI_Api_STRUCT_SIZE;
  api.api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr, XLA_FFI_API_MAJOR,
                     XLA_FFI_API_MINOR};
  api.XLA_FFI_Error_Create = [](XLA_FFI_Error_Create_Args* args) {
    return new XLA_FFI_Error{args->message, args->errc};
  };
  api.XLA_FFI_Error_GetMessage = [](XLA_FFI_Error_GetMessage_Args* args) {
    args->message = args->error->message.c_str();
  };
  api.XLA_FFI_Error_Destroy = [](XLA_FFI_Error_Destroy_Args* args) { delete args->error; };
  return api;
}

#endif  // JDA_TESTS_XLA_ERRORS_H_
