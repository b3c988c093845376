// What may be wrong with a call's values, in the words of jda/_check.py: "" if nothing is. And how a
// library refuses a call: by an exception inside, as a code and a text outside.
#ifndef JDA_CHECK_H_
#define JDA_CHECK_H_

#include <new>
#include <stdexcept>
#include <string>

#include "problem.h"

namespace jda {

inline std::string wrong_groups(const Sizes& sizes) {
  if (sizes.groups < 1) {
    return "weight has group=" + std::to_string(sizes.groups) +
           ", at least one channel group is needed";
  }
  if (sizes.channels % sizes.groups == 0) return "";
  return "weight has group=" + std::to_string(sizes.groups) +
         ", which does not divide c=" + std::to_string(sizes.channels);
}

// The maps of a call, as its index arrays have them: whatever a kernel reads follows from them.
inline std::string wrong_maps(const Sizes& sizes, const int32_t* spatial_shape,
                              const int32_t* scale_start_index) {
  for (int64_t i = 0; i < sizes.cameras * sizes.scales; ++i) {
    const int64_t height = spatial_shape[2 * i], width = spatial_shape[2 * i + 1];
    const int64_t start = scale_start_index[i], end = start + height * width;
    if (height > 0 && width > 0 && start >= 0 && end <= sizes.rows) continue;
    const std::string which =
        "[" + std::to_string(i / sizes.scales) + ", " + std::to_string(i % sizes.scales) + "] is ";
    const std::string shape =
        "spatial_shape" + which + "(" + std::to_string(height) + ", " + std::to_string(width) + ")";
    const std::string first = "scale_start_index" + which + std::to_string(start);
    if (height <= 0 || width <= 0) return shape + ", both sizes must be positive";
    if (start < 0) return first + ", it must not be negative";
    return first + " and " + shape + ", so that the map ends at row " + std::to_string(end) +
           ", but feature_maps has num_feat=" + std::to_string(sizes.rows);
  }
  return "";
}

inline void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

inline void require_none(const std::string& wrong) {
  if (!wrong.empty()) throw std::invalid_argument(wrong);
}

inline void require_at_most(int64_t most, const char* array, const char* axis, int64_t size) {
  if (size > most)
    throw std::invalid_argument(std::string(array) + " has " + axis + "=" + std::to_string(size) +
                                ", at most " + std::to_string(most) + " are allowed");
}

// Where y stands in the last axis of the locations.
inline int read_y_axis(int64_t y_axis) {
  require(y_axis == 0 || y_axis == 1, "y_axis must be 0 or 1");
  return static_cast<int>(y_axis);
}

// Why some work failed. The codes are those of XLA's FFI; 0: it did not.
struct Failure {
  int code;
  std::string what;
};
enum { kInvalidArgument = 3, kResourceExhausted = 8, kInternal = 13 };

template <typename Work>
Failure failure_of(const Work& work) {
  try {
    work();
    return {0, ""};
  } catch (const std::invalid_argument& error) {
    return {kInvalidArgument, error.what()};
  } catch (const std::bad_alloc&) {
    return {kResourceExhausted, "no memory for the scratch of a kernel"};
  } catch (const std::exception& error) {
    return {kInternal, error.what()};
  }
}

}  // namespace jda

#endif  // JDA_CHECK_H_
