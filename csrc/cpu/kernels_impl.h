// The inner loops for one instruction set: JDA_ISA names it, JDA_VECTOR_BYTES is its vector and
// JDA_VECTORS how many accumulators fit its registers.
#include "finish.h"
#include "groups.h"
#include "merge.h"
#include "rows.h"

namespace jda::JDA_ISA {

template <typename F, typename Groups, int G>
Kernels<F> make_kernels() {
  return {merge<F, G, false>, merge<F, G, true>,       gather<F, Groups>, add_parts<F>, zero<F>,
          dot<F, Groups>,     row_gradient<F, Groups>, finish<F, G>};
}

template <typename F, typename Groups>
Kernels<F> with_groups(int64_t groups) {
  return groups == 8 ? make_kernels<F, Groups, 8>() : make_kernels<F, Groups, 0>();
}

template <typename F>
Kernels<F> kernels(int64_t channels, int64_t groups) {
  switch (channels / groups) {
    case 4:
      return with_groups<F, FixedGroups<4>>(groups);
    case 8:
      return with_groups<F, FixedGroups<8>>(groups);
    case 16:
      return with_groups<F, FixedGroups<16>>(groups);
    case 32:
      return with_groups<F, FixedGroups<32>>(groups);
    case 64:
      return with_groups<F, FixedGroups<64>>(groups);
  }
  constexpr int kWidest = kLanes<Real<F>>, kNarrower = kWidest > 8 ? 8 : kWidest;
  if (channels / groups % kWidest == 0) return with_groups<F, VectorGroups<kWidest>>(groups);
  if (channels / groups % kNarrower == 0) return with_groups<F, VectorGroups<kNarrower>>(groups);
  return with_groups<F, AnyGroups>(groups);
}

#define JDA_INSTANTIATE(F) template Kernels<F> kernels(int64_t, int64_t);
JDA_FOR_TYPES(JDA_INSTANTIATE)

}  // namespace jda::JDA_ISA
