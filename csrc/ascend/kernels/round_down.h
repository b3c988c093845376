// Rounding down, on the vector unit.

#ifndef JDA_ASCEND_ROUND_DOWN_H_
#define JDA_ASCEND_ROUND_DOWN_H_

#include "kernel_operator.h"

namespace jda_ascend {

using namespace AscendC;

// to = floor(from). The conversion may round up just below a whole number; that is undone.
__aicore__ inline void RoundDown(const LocalTensor<float>& to, const LocalTensor<float>& from,
                                 const LocalTensor<float>& spare, int32_t count) {
  PipeBarrier<PIPE_V>();
  Cast(to, from, RoundMode::CAST_FLOOR, static_cast<uint32_t>(count));
  PipeBarrier<PIPE_V>();
  Sub(spare, from, to, count);
  PipeBarrier<PIPE_V>();
  Muls(spare, spare, 1e30f, count);
  PipeBarrier<PIPE_V>();
  Mins(spare, spare, 0.0f, count);
  PipeBarrier<PIPE_V>();
  Maxs(spare, spare, -1.0f, count);
  PipeBarrier<PIPE_V>();
  Add(to, to, spare, count);
  PipeBarrier<PIPE_V>();
}

}  // namespace jda_ascend

#endif  // JDA_ASCEND_ROUND_DOWN_H_
