// What the handlers of this library share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

#include "ffi/operands.h"
#include "scratch.h"
#include "team.h"

namespace jda {

// The calling thread alone, or with the help of XLA's pool.
inline Team make_team(ffi::ThreadPool& pool, bool alone) {
  return Team(alone ? 1 : std::max<int64_t>(1, pool.num_threads()),
              [&pool](std::function<void()> task) { pool.Schedule(std::move(task)); });
}

// A result that XLA has just allocated.
inline ffi::AnyBuffer fresh(ffi::AnyBuffer result) {
  prefer_large_pages(result.untyped_data(), result.size_bytes());
  return result;
}

}  // namespace jda

// What a target of this library takes: XLA's threads and any arrays; where it samples, also which of
// two coordinates is y.
#define JDA_BIND_ON_CPU xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>() JDA_BIND_ARRAYS
#define JDA_BIND_SAMPLING JDA_BIND_ON_CPU.Attr<int64_t>("y_axis")
