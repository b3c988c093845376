// The inner loops for one instruction set: JDA_ISA names it, JDA_VECTOR_BYTES is its vector and
// JDA_VECTORS how many accumulators fit its registers.
#include "direct.h"
#include "finish.h"
#include "groups.h"
#include "lines.h"
#include "merge.h"
#include "rows.h"
#include "tabulate.h"

namespace jda::JDA_ISA {

template <typename W, int G>
SampleKernels<W> with_groups() {
  return {merge<W, G, false>, merge<W, G, true>, finish<W, G>, tabulate<W, G>};
}

template <typename W>
SampleKernels<W> sample_kernels(int64_t groups) {
  return groups == 8   ? with_groups<W, 8>()
         : groups == 1 ? with_groups<W, 1>()
                       : with_groups<W, 0>();
}

template <typename F, typename Groups>
RowKernels<F> with_layout() {
  constexpr int kSize = Groups::kSize, kMost = kLanes<Real<F>>;
  constexpr int kVector = kSize < kFewLanes ? 0 : kSize < kMost ? kSize : kMost;
  return {gather<F, Groups>,       add_parts<F>,        zero<F>,           dot<F, Groups>,
          row_gradient<F, Groups>, multiply<F, Groups>, direct<F, Groups>, sweep<F, kVector>};
}

template <typename F>
RowKernels<F> row_kernels(int64_t channels, int64_t groups) {
  switch (channels / groups) {
    case 4:
      return with_layout<F, FixedGroups<4>>();
    case 8:
      return with_layout<F, FixedGroups<8>>();
    case 16:
      return with_layout<F, FixedGroups<16>>();
    case 32:
      return with_layout<F, FixedGroups<32>>();
    case 64:
      return with_layout<F, FixedGroups<64>>();
  }
  constexpr int kWidest = kLanes<Real<F>>, kNarrower = kWidest > 8 ? 8 : kWidest;
  if (channels / groups % kWidest == 0) return with_layout<F, VectorGroups<kWidest>>();
  if (channels / groups % kNarrower == 0) return with_layout<F, VectorGroups<kNarrower>>();
  return with_layout<F, AnyGroups>();
}

#define JDA_INSTANTIATE(F)                           \
  template SampleKernels<F> sample_kernels(int64_t); \
  template RowKernels<F> row_kernels(int64_t, int64_t);
JDA_FOR_TYPES(JDA_INSTANTIATE)

}  // namespace jda::JDA_ISA
