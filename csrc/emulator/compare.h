// Compare gives a bit for each element, Select takes one.
#pragma once

#include "vector.h"

namespace emulator {

// The whole of each repeat is compared, whatever the mask.
inline Lanes whole_repeats(uint32_t repeats, uint32_t per_repeat) {
  return Lanes::contiguous(static_cast<uint64_t>(repeats) * per_repeat, per_repeat);
}

template <class T>
bool compare(T a, T b, AscendC::CMPMODE mode) {
  using M = AscendC::CMPMODE;
  switch (mode) {
    case M::LT:
      return a < b;
    case M::GT:
      return a > b;
    case M::EQ:
      return a == b;
    case M::LE:
      return a <= b;
    case M::GE:
      return a >= b;
    case M::NE:
      return a != b && a == a && b == b;  // what is no number compares as false
  }
  return false;
}

template <class T, class U, class Second>
void compare_call(VectorCall& call, const BinaryStrides& s, const AscendC::LocalTensor<U>& dst,
                  const AscendC::LocalTensor<T>& src0, const AscendC::LocalTensor<T>* src1,
                  AscendC::CMPMODE mode, Second scalar) {
  static_assert(one_of<U, int8_t, uint8_t>, "the bits of Compare go into bytes");
  static_assert(one_of<T, half, float, int32_t>, "Compare does not take this type");
  const MaskRegister& mask = call.core.mask;
  if (!mask.owned && !mask.full()) {
    call.core.report("mask-inherited", Severity::unspecified,
                     std::string(call.i.name) +
                         " sets no mask, and may look at the one that another call left behind",
                     call.i.site);
  }
  if (std::is_same_v<T, int32_t> && mode != AscendC::CMPMODE::EQ) {
    call.core.error("compare-type", std::string(call.i.name) + " of int32_t knows EQ only",
                    call.i.site);
  }
  const uint32_t bytes = call.lanes.repeats * call.lanes.per_repeat / 8;
  std::array<Operand, 2> sources = {call.read(src0, "src0", s.src0_block, s.src0), {}};
  if (src1) sources[1] = call.read(*src1, "src1", s.src1_block, s.src1);
  if (bytes && !dst.usable(call.i, "dst", bytes, kBlock)) call.i.valid = false;
  if (call.i.valid) call.i.writes.add(dst.address(), bytes);
  const auto overlaps = [&](const Operand& o) {
    return dst.address() < o.address + extent(call.lanes, o) && o.address < dst.address() + bytes;
  };
  if (overlaps(sources[0]) || (src1 && overlaps(sources[1]))) {
    call.core.error("overlap-repeats",
                    std::string(call.i.name) + ": source and destination overlap", call.i.site);
  }
  if (!src1) sources[1] = sources[0];
  if (call.lanes.repeats == 0) return;
  call.i.work.repeats = call.lanes.repeats;
  call.core.issue(
      call.i, [=, lanes = call.lanes, to = dst.address(), tensor = src1 != nullptr](uint8_t* ub) {
        uint32_t bit = 0;
        each_piece(lanes, sources, [&](const std::array<uint32_t, 2>& p, uint32_t n) {
          const T *a = at<T>(ub, p[0]), *b = at<T>(ub, p[1]);
          for (uint32_t k = 0; k < n; ++k, ++bit) {
            uint8_t& byte = ub[to + bit / 8];
            const unsigned on = compare<Wide<T>>(a[k], tensor ? b[k] : scalar, mode);
            byte = (byte & ~(1u << bit % 8)) | on << bit % 8;
          }
        });
      });
}

template <class T>
uint32_t compare_repeats(VectorCall& call, uint32_t count) {
  if (count * sizeof(T) % kRepeat) {
    call.core.error(
        "compare-count",
        std::string(call.i.name) + " of " + std::to_string(count) +
            " elements, which are not a multiple of 256 bytes: the rest is not compared",
        call.i.site);
  }
  return count * sizeof(T) / kRepeat;
}

inline void check_scratch(VectorCall& call) {
  if (!call.core.options.reserve_scratch || call.core.ub_used > kUbBytes - kUbSystem - kUbScratch) {
    call.core.error("scratch",
                    std::string(call.i.name) + " needs the 8 KB of UB that are reserved by default",
                    call.i.site);
  }
}

template <class T, class U>
void select_call(VectorCall& call, const BinaryStrides& s, const AscendC::LocalTensor<T>& dst,
                 const AscendC::LocalTensor<U>& bits, const AscendC::LocalTensor<T>& src0,
                 const AscendC::LocalTensor<T>* src1, T scalar, AscendC::SELMODE mode) {
  static_assert(one_of<T, half, float>, "Select does not take this type");
  const bool still = mode == AscendC::SELMODE::VSEL_CMPMASK_SPR;
  if ((!src1) != (mode == AscendC::SELMODE::VSEL_TENSOR_SCALAR_MODE)) {
    call.core.error("select-mode", "Select: the mode does not fit the operands", call.i.site);
  }
  if (!still) check_scratch(call);
  const uint32_t per = call.lanes.per_repeat;
  const uint32_t bytes = still ? per / 8 : (call.lanes.repeats * per + 7) / 8;
  std::array<Operand, 2> sources = {call.read(src0, "src0", s.src0_block, s.src0), {}};
  if (src1) sources[1] = call.read(*src1, "src1", s.src1_block, s.src1);
  // Of the last repeat, no more bits than it has lanes.
  uint32_t lanes = 0;
  for (const LaneRun& run : call.lanes.tail) lanes = run.begin + run.count;
  const uint32_t used = call.lanes.repeats == 0 ? 0
                        : still ? (call.lanes.repeats > 1 ? per / 8 : (lanes + 7) / 8)
                                : bytes - per / 8 + (lanes + 7) / 8;
  if (used && !bits.usable(call.i, "selMask", used, kBlock)) call.i.valid = false;
  if (call.i.valid) call.i.reads.add(bits.address(), used);
  const Operand to = call.write(dst, s.dst_block, s.dst);
  check_overlap(call.core, call.i, call.lanes, to, sources.data(), src1 ? 2 : 1,
                Accumulation::none);
  if (call.lanes.repeats == 0) return;
  call.i.work.repeats = call.lanes.repeats * (still ? 1 : 2);
  call.core.issue(call.i, [=, lanes = call.lanes, mask = bits.address(),
                           tensor = src1 != nullptr](uint8_t* ub) {
    for (uint32_t r = 0; r < lanes.repeats; ++r) {
      for (const LaneRun& run : lanes.of(r)) {
        for (uint32_t lane = run.begin; lane < run.begin + run.count; ++lane) {
          const uint32_t bit = still ? lane : r * per + lane;
          const bool first = ub[mask + bit / 8] >> bit % 8 & 1;
          const T other = tensor ? *at<T>(ub, sources[1].lane(r, lane)) : scalar;
          *at<T>(ub, to.lane(r, lane)) = first ? *at<T>(ub, sources[0].lane(r, lane)) : other;
        }
      }
    }
  });
}

}  // namespace emulator

namespace AscendC {

template <class T, class U>
void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,
             CMPMODE mode, uint32_t count, Site site = Site::here()) {
  emulator::VectorCall call("Compare", site);
  call.lanes = emulator::whole_repeats(emulator::compare_repeats<T>(call, count),
                                       emulator::kRepeat / sizeof(T));
  emulator::compare_call<T, U, T>(call, {}, dst, src0, &src1, mode, T());
}
template <class T, class U, bool isSetMask = true>
void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,
             CMPMODE mode, uint64_t, const Byte& repeat_time, const BinaryRepeatParams& params,
             Site site = Site::here()) {
  emulator::VectorCall call("Compare", site);
  emulator::check_field(call.core, "Compare", site, "repeatTime", repeat_time);
  call.lanes = emulator::whole_repeats(repeat_time.value, emulator::kRepeat / sizeof(T));
  emulator::compare_call<T, U, T>(call, emulator::strides(call.core, "Compare", site, params), dst,
                                  src0, &src1, mode, T());
}
template <class T, class U, bool isSetMask = true>
void CompareScalar(const LocalTensor<U>& dst, const LocalTensor<T>& src,
                   const emulator::Same<T> scalar, CMPMODE mode, uint32_t count,
                   Site site = Site::here()) {
  emulator::VectorCall call("CompareScalar", site);
  call.lanes = emulator::whole_repeats(emulator::compare_repeats<T>(call, count),
                                       emulator::kRepeat / sizeof(T));
  emulator::compare_call<T, U, T>(call, {}, dst, src, nullptr, mode, scalar);
}
template <class T, class U, bool isSetMask = true>
void CompareScalar(const LocalTensor<U>& dst, const LocalTensor<T>& src,
                   const emulator::Same<T> scalar, CMPMODE mode, uint64_t, const Byte& repeat_time,
                   const UnaryRepeatParams& params, Site site = Site::here()) {
  emulator::VectorCall call("CompareScalar", site);
  emulator::check_field(call.core, "CompareScalar", site, "repeatTime", repeat_time);
  call.lanes = emulator::whole_repeats(repeat_time.value, emulator::kRepeat / sizeof(T));
  const auto s = emulator::strides(call.core, "CompareScalar", site, params);
  emulator::compare_call<T, U, T>(call, {1, s.src_block, 1, 8, s.src, 8}, dst, src, nullptr, mode,
                                  scalar);
}
template <class T, class U>
void Compares(const LocalTensor<U>& dst, const LocalTensor<T>& src, const emulator::Same<T> scalar,
              CMPMODE mode, uint32_t count, Site site = Site::here()) {
  CompareScalar<T, U>(dst, src, scalar, mode, count, site);
}

template <class T, class U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const LocalTensor<T>& src1, SELMODE mode, uint32_t count, Site site = Site::here()) {
  emulator::VectorCall call("Select", site);
  call.count(count, sizeof(T));
  emulator::select_call<T, U>(call, {}, dst, selMask, src0, &src1, T(), mode);
}
template <class T, class U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const emulator::Same<T> src1, SELMODE mode, uint32_t count, Site site = Site::here()) {
  emulator::VectorCall call("Select", site);
  call.count(count, sizeof(T));
  emulator::select_call<T, U>(call, {}, dst, selMask, src0, nullptr, src1, mode);
}
template <class T, class U, bool isSetMask = true>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const LocalTensor<T>& src1, SELMODE mode, uint64_t mask, const Byte& repeat_time,
            const BinaryRepeatParams& params, Site site = Site::here()) {
  emulator::VectorCall call("Select", site);
  call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time.value, sizeof(T));
  emulator::select_call<T, U>(call, emulator::strides(call.core, "Select", site, params), dst,
                              selMask, src0, &src1, T(), mode);
}
template <class T, class U, bool isSetMask = true>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const emulator::Same<T> src1, SELMODE mode, uint64_t mask, const Byte& repeat_time,
            const BinaryRepeatParams& params, Site site = Site::here()) {
  emulator::VectorCall call("Select", site);
  call.masked(emulator::MaskArgument::first(mask), isSetMask, repeat_time.value, sizeof(T));
  emulator::select_call<T, U>(call, emulator::strides(call.core, "Select", site, params), dst,
                              selMask, src0, nullptr, src1, mode);
}

}  // namespace AscendC
