// The CPU kernels as a plain C interface, for callers other than XLA. Every function may be called from
// any thread.
#ifndef JDA_CPU_C_API_H_
#define JDA_CPU_C_API_H_

#include <stdint.h>

#include "problem.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

typedef struct jda_cpu_problem {
  jda_sizes sizes;
  int64_t y_axis;  // 0: locations are (y, x), 1: (x, y)
  // Numbers of dtypes, which are XLA's: 10 float16, 11 float32, 12 float64, 16 bfloat16. That of the
  // locations follows: float64 with float64, float32 with all others.
  int64_t feature_maps_dtype;
  int64_t weight_dtype;  // that of feature_maps, or float32 where that has 16 bits
  int64_t threads;       // that may work on the call, the caller's among them
} jda_cpu_problem;

// The arrays of a call, dense. Forward reads all but `cotangent` and writes `out`. Backward writes
// those of the gradients that are not null.
typedef struct jda_cpu_arrays {
  const void* feature_maps;          // [batch, rows, channels]
  const int32_t* spatial_shape;      // [cameras, scales, 2]
  const int32_t* scale_start_index;  // [cameras, scales]
  const void* sample_locations;      // [batch, anchors, points, cameras, 2]
  const void* weight;                // [batch, anchors, points, cameras, scales, groups]
  const void* cotangent;             // [batch, anchors, channels]
  void* out;                         // [batch, anchors, channels]
  void* grad_feature_maps;
  void* grad_sample_locations;
  void* grad_weight;
} jda_cpu_arrays;

// They return 0, or XLA's number for an error: 3 for an invalid argument, 8 for no memory, 13.
int jda_cpu_compute_forward(const jda_cpu_problem* problem, const jda_cpu_arrays* arrays);
int jda_cpu_compute_backward(const jda_cpu_problem* problem, const jda_cpu_arrays* arrays);

// The last error of this thread, valid until its next call; "" if there was none.
const char* jda_cpu_error(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // JDA_CPU_C_API_H_
