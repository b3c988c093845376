#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace jda {

#define JDA_DECLARE(NAME)                                      \
  namespace NAME {                                             \
  template <typename W>                                        \
  SampleKernels<W> sample_kernels(int64_t groups);             \
  template <typename F>                                        \
  RowKernels<F> row_kernels(int64_t channels, int64_t groups); \
  }

JDA_DECLARE(baseline)
#if defined(__x86_64__)
JDA_DECLARE(avx2)
JDA_DECLARE(avx512)
#endif

namespace {

#if defined(__x86_64__)
// Conversions of float16, which not every compiler's __builtin_cpu_supports knows.
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

Isa widest() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!has_f16c()) return Isa::kBaseline;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    return Isa::kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

// Null if it is not set or empty.
const char* asked() {
  const char* name = std::getenv("JDA_CPU_ISA");
  return name && *name ? name : nullptr;
}

constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};

// The narrower of what the machine has and what is asked for.
Isa choose() {
  const Isa best = widest();
  for (int i = 0; i < static_cast<int>(best); ++i)
    if (asked() && !std::strcmp(asked(), kNames[i])) return static_cast<Isa>(i);
  return best;
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* isa_name() { return kNames[static_cast<int>(isa())]; }

bool isa_is_known() {
  return !asked() || std::any_of(std::begin(kNames), std::end(kNames),
                                 [](const char* name) { return !std::strcmp(asked(), name); });
}

template <typename W>
SampleKernels<W> sample_kernels(int64_t groups) {
#if defined(__x86_64__)
  if (isa() == Isa::kAvx512) return avx512::sample_kernels<W>(groups);
  if (isa() == Isa::kAvx2) return avx2::sample_kernels<W>(groups);
#endif
  return baseline::sample_kernels<W>(groups);
}

template <typename F>
RowKernels<F> row_kernels(int64_t channels, int64_t groups) {
#if defined(__x86_64__)
  if (isa() == Isa::kAvx512) return avx512::row_kernels<F>(channels, groups);
  if (isa() == Isa::kAvx2) return avx2::row_kernels<F>(channels, groups);
#endif
  return baseline::row_kernels<F>(channels, groups);
}

#define JDA_INSTANTIATE(F)                           \
  template SampleKernels<F> sample_kernels(int64_t); \
  template RowKernels<F> row_kernels(int64_t, int64_t);
JDA_FOR_TYPES(JDA_INSTANTIATE)

}  // namespace jda
