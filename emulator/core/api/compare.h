// Comparisons: a bit for each element.
#pragma once

#include "machine/compare.h"
#include "vector.h"

namespace api {

// As many calls of the instruction as repeats take, of 252 each.
template <class T, class U>
void compare(const Caller& by, uint32_t count, const AscendC::LocalTensor<U>& dst,
             const AscendC::LocalTensor<T>& src0, const AscendC::LocalTensor<T>* src1,
             AscendC::CMPMODE mode, Wide<T> scalar) {
  static_assert(one_of<U, int8_t, uint8_t>, "the bits of Compare go into bytes");
  static_assert(one_of<T, half, float, int32_t>, "Compare does not take this type");
  constexpr uint32_t kAtOnce = 252, per = kRepeat / sizeof(T);
  Call call(by);
  if (count % per) {
    call.core.error("compare-count", by, " of ", count,
                    " elements, which are not a multiple of 256 bytes: the rest is not compared");
  }
  if (std::is_same_v<T, int32_t> && mode != AscendC::CMPMODE::EQ) {
    call.core.error("compare-type", by, " of int32_t knows EQ only, and takes all for it");
    mode = AscendC::CMPMODE::EQ;
  }
  for (uint32_t done = 0, left = count / per; left > 0;) {
    const uint32_t now = std::min(left, kAtOnce), at = done * per;
    call.whole(now, sizeof(T));
    const Operand a = call.operand(src0[at], "src0", 1, 8);
    const Operand b = src1 ? call.operand((*src1)[at], "src1", 1, 8) : Operand{};
    const auto to = dst[at / 8];
    to.check(by, "dst", now * per / 8, kBlock);
    emulator::compare<T>(call.instruction(), to.address(), a, src1 ? &b : nullptr, scalar,
                         static_cast<Comparison>(mode));
    done += now;
    left -= now;
  }
}

}  // namespace api

namespace AscendC {

template <class T, class U>
void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,
             CMPMODE mode, uint32_t count, Site site = Site::here()) {
  api::compare<T, U>({"Compare", site}, count, dst, src0, &src1, mode, {});
}
template <class T, class U>
void CompareScalar(const LocalTensor<U>& dst, const LocalTensor<T>& src, const api::Same<T> scalar,
                   CMPMODE mode, uint32_t count, Site site = Site::here()) {
  api::compare<T, U>({"CompareScalar", site}, count, dst, src, nullptr, mode, scalar);
}

}  // namespace AscendC
