// What the emulated driver has beyond ACL: its identity, controls and books, for tests.
#ifndef JDA_EMULATOR_DRIVER_CONTROLS_H_
#define JDA_EMULATOR_DRIVER_CONTROLS_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A driver that has this symbol is the emulation and no hardware. The text names the build.
const char* jda_emulated_driver(void);

// Numbers by name: "devices", "cores", "core_limit" (how many of them the process may use, 0: all),
// "memory" (bytes of a device), "seed" (of the kernels' order of execution, 0: program order),
// "workers" (1: streams that are created from now on work on threads of their own; 0: when a
// synchronisation needs them), "transfer_microseconds" (that every copy takes longer on such a
// thread; 0 also ends those under way), "kernel_types" and "kernel_parameters" (1: binaries that are
// loaded from now on say which cores their kernels are for, and describe their parameters). 0: there
// is no such number. Also by the environment variable JDA_EMULATED, as in "cores=8,seed=3".
int jda_emulated_set(const char* name, int64_t value);
void jda_emulated_set_soc(const char* name);

// The n-th call of the function from now on fails with the code and does nothing else; n = 0: every
// call. "kernel" and "copy" are functions too: the n-th to be executed faults. Also by the
// environment variable JDA_EMULATED_FAIL, as in "aclrtMalloc:3:207001,kernel:1:507035".
void jda_emulated_fail(const char* function, int64_t n, int code);

int64_t jda_emulated_calls(const char* function);
// "device", "device_bytes", "pinned", "pinned_bytes", "streams", "events", "binaries", "programs",
// "transfers" (copies under way on threads of streams): what exists now. "device_peak": the largest
// "device_bytes" so far. -1: there is no such number.
int64_t jda_emulated_live(const char* what);

// Broken rules, a line each, with places in a kernel in indented lines below; and the calls and the
// operations of streams in order, a line each. The text stays until this thread's next call of one of
// the two.
int64_t jda_emulated_finding_count(void);
const char* jda_emulated_findings(void);
const char* jda_emulated_trace(void);

// Clears the books and returns the controls to their defaults. Memory, streams and the like stay.
void jda_emulated_reset(void);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // JDA_EMULATOR_DRIVER_CONTROLS_H_
