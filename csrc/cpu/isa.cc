#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace jda {

#define JDA_DECLARE(NAME)                               \
  namespace NAME {                                      \
  template <typename T>                                 \
  Kernels<T> kernels(int64_t channels, int64_t groups); \
  }

JDA_DECLARE(baseline)
#if defined(__x86_64__)
JDA_DECLARE(avx2)
JDA_DECLARE(avx512)
#endif

namespace {

Isa widest() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    return Isa::kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};

Isa choose() {
  const Isa best = widest();
  if (const char* asked = std::getenv("JDA_CPU_ISA"))
    for (int i = 0; i < static_cast<int>(best); ++i)
      if (!std::strcmp(asked, kNames[i])) return static_cast<Isa>(i);
  return best;
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* isa_name() { return kNames[static_cast<int>(isa())]; }

template <typename T>
Kernels<T> kernels(int64_t channels, int64_t groups) {
#if defined(__x86_64__)
  if (isa() == Isa::kAvx512) return avx512::kernels<T>(channels, groups);
  if (isa() == Isa::kAvx2) return avx2::kernels<T>(channels, groups);
#endif
  return baseline::kernels<T>(channels, groups);
}

template Kernels<float> kernels(int64_t, int64_t);
template Kernels<double> kernels(int64_t, int64_t);

}  // namespace jda
