// Deformable aggregation on an Ascend card, as a plain C interface. It opens CANN's libraries when it
// is asked to, and needs nothing of CANN before. Every function may be called from any thread.
//
// A function that can fail returns one of the codes below; jda_ascend_error() tells more.

#ifndef JDA_ASCEND_LAUNCHER_LAUNCHER_H_
#define JDA_ASCEND_LAUNCHER_LAUNCHER_H_

#include <stdint.h>

#include "problem.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

// The numbers are those of XLA's FFI.
enum jda_ascend_code {
  JDA_ASCEND_OK = 0,
  JDA_ASCEND_INVALID_ARGUMENT = 3,     // sizes beyond the kernels' limits, maps outside num_feat
  JDA_ASCEND_RESOURCE_EXHAUSTED = 8,   // no memory on the card or the host
  JDA_ASCEND_FAILED_PRECONDITION = 9,  // no CANN, a card of another kind, no kernels for it
  JDA_ASCEND_INTERNAL = 13,            // a kernel fault, or a call of the runtime that failed
  JDA_ASCEND_UNAVAILABLE = 14          // no card
};

// Opens the driver's libraries in `folder`; null or "": where CANN's environment variables, the
// loader's path and the default installation say. It touches no card. Opening the same again is
// fine and returns at once; another driver cannot follow in the same process.
int jda_ascend_open(const char* folder);

// The last error of this thread, valid until its next call; "" if there was none. Where libraries were
// looked for in vain, its first line ends in "; tried", and the others are paths and reasons.
const char* jda_ascend_error(void);

// What is there. Texts may be in any encoding, and are valid until the next call in this thread.
typedef struct jda_ascend_description {
  const char* runtime;   // path of the driver's runtime library
  const char* compiler;  // path of its run-time compiler; null if it has none
  const char* toolkit;   // CANN's version; null if it does not tell
  const char* problem;   // null, or why the card cannot be used; soc and kernels are null then
  const char* soc;       // e.g. "Ascend910B1"
  const char* kernels;   // where they came from: "compiled", "cache" or the path of a file built
                         // ahead; null if this process did not need them yet
  int32_t emulated;  // 1 if the libraries are not CANN's but stand in for a card that is not there
  int32_t card;      // number of the card that host calls use; -1 if there is none
  int32_t cores;     // its vector cores; 0 where there is a problem
} jda_ascend_description;

// Calls `listener` with a line of text before and after what takes a while: the compilation of kernels,
// and the wait for another process that compiles them. It is called in the thread of the call that
// needs the kernels. Null: nobody listens, as at first.
void jda_ascend_tell(void (*listener)(const char* line));

// Initialises the card. Fails if no driver is open.
int jda_ascend_describe(jda_ascend_description* description);

typedef struct jda_ascend_problem {
  jda_sizes sizes;
  int64_t y_axis;  // 0: locations are (y, x), 1: (x, y)
  // Numbers of dtypes, which are XLA's: 10 float16, 11 float32, 16 bfloat16. A gradient has the dtype of
  // its argument.
  int64_t feature_maps_dtype;  // and of `out` and `cotangent`
  int64_t weight_dtype;        // that of feature_maps, or float32
  int64_t deterministic;       // 1: grad_feature_maps does not depend on which core adds first
} jda_ascend_problem;

// The arrays of a call, dense. Forward reads all but `cotangent` and writes `out`. Backward writes
// those of the gradients that are not null.
typedef struct jda_ascend_arrays {
  const void* feature_maps;          // [batch, rows, channels]
  const int32_t* spatial_shape;      // [cameras, scales, 2]
  const int32_t* scale_start_index;  // [cameras, scales]
  const float* sample_locations;     // [batch, anchors, points, cameras, 2]
  const void* weight;                // [batch, anchors, points, cameras, scales, groups]
  const void* cotangent;             // [batch, anchors, channels]
  void* out;                         // [batch, anchors, channels]
  void* grad_feature_maps;
  float* grad_sample_locations;
  void* grad_weight;
} jda_ascend_arrays;

// Arrays in the memory of the thread's current card; the work is enqueued on `stream` and not waited
// for. The values of spatial_shape and scale_start_index are not checked.
int jda_ascend_enqueue_forward(const jda_ascend_problem* problem, const jda_ascend_arrays* arrays,
                               void* stream);
int jda_ascend_enqueue_backward(const jda_ascend_problem* problem, const jda_ascend_arrays* arrays,
                                void* stream);

// Arrays in the memory of the host: copied to the card JDA_ASCEND_DEVICE (0 if unset), computed
// there and copied back before the call returns.
int jda_ascend_compute_forward(const jda_ascend_problem* problem, const jda_ascend_arrays* arrays);
int jda_ascend_compute_backward(const jda_ascend_problem* problem, const jda_ascend_arrays* arrays);

// Frees the memory that is kept for the next call, after waiting for the work that uses it.
int jda_ascend_trim(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // JDA_ASCEND_LAUNCHER_LAUNCHER_H_
