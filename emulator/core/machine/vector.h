// Instructions of the vector pipe that work on each lane by itself. Operands are addresses in UB with
// strides; the mask registers select the lanes.
#pragma once

#include "lanes.h"
#include "numbers.h"

namespace emulator {

// One instruction: its operands are recorded and checked, then it is issued with what it computes.
class VectorInstruction {
 public:
  VectorInstruction(Core& core, const Caller& by, Lanes lanes)
      : core(core), i(core.draft(Pipe::V, by)), lanes(std::move(lanes)) {
    i.work.repeats = this->lanes.repeats;
  }

  void reads(const Operand& operand) {
    if (inside(operand)) add_footprint(lanes, operand, i.reads);
  }
  void writes(const Operand& operand) {
    if (inside(operand)) add_footprint(lanes, operand, i.writes);
  }
  // Whether bytes that an operand takes are in UB: if not, the instruction is not executed.
  bool inside(uint32_t address, uint64_t bytes) {
    if (address + bytes <= kUbBytes) return i.valid;
    core.error("ub-bounds", i.by, ": an operand ends beyond the 192 KB of UB");
    return i.valid = false;
  }
  bool inside(const Operand& operand) {
    return inside(operand.address, lanes.repeats ? extent(lanes, operand) : 0);
  }
  void overlap_is_an_error(const char* what) {
    core.error("overlap-repeats", i.by, ": ", what, " overlap");
  }

  // `run` works on an image of UB.
  template <class F>
  void issue(F run) {
    if (lanes.repeats) core.issue(i, std::move(run));
  }
  // f(ub, addresses, lanes) works on one contiguous piece of all operands.
  template <size_t n, class F>
  void issue_pieces(const std::array<Operand, n>& operands, F f) {
    issue([lanes = lanes, operands, f](uint8_t* ub) {
      each_piece(lanes, operands, [&](const auto& at, uint32_t count) { f(ub, at, count); });
    });
  }

  Core& core;
  Instruction& i;
  const Lanes lanes;
};

// dst = f(a, b)
template <class T, class F>
void binary(VectorInstruction v, const Operand& to, const Operand& a, const Operand& b,
            Accumulation accumulation, F f) {
  const std::array<Operand, 2> sources = {a, b};
  for (const Operand& source : sources) v.reads(source);
  v.writes(to);
  if (std::is_same_v<T, int16_t>) accumulation = Accumulation::none;
  check_overlap(v.core, v.i, v.lanes, to, sources.data(), 2, accumulation);
  v.i.work.cycles += bank_conflicts(v.lanes, sources.data(), 2) * v.lanes.repeats *
                     v.core.options.cost.bank_conflict;
  v.issue_pieces(std::array{to, a, b}, [f](uint8_t* ub, const auto& p, uint32_t n) {
    T* d = at<T>(ub, p[0]);
    const T *x = at<T>(ub, p[1]), *y = at<T>(ub, p[2]);
    for (uint32_t k = 0; k < n; ++k) {
      d[k] = static_cast<T>(f(static_cast<Wide<T>>(x[k]), static_cast<Wide<T>>(y[k])));
    }
  });
}

// dst += a * b
template <class T, class U>
void multiply_add(VectorInstruction v, const Operand& to, const Operand& a, const Operand& b) {
  const std::array<Operand, 3> sources = {a, b, to};
  for (const Operand& source : sources) v.reads(source);
  v.writes(to);
  check_overlap(v.core, v.i, v.lanes, to, sources.data(), 3, Accumulation::none);
  v.i.work.cycles += v.lanes.repeats * v.core.options.cost.three_address;
  v.issue_pieces(std::array{to, a, b}, [](uint8_t* ub, const auto& p, uint32_t n) {
    T* d = at<T>(ub, p[0]);
    const U *x = at<U>(ub, p[1]), *y = at<U>(ub, p[2]);
    for (uint32_t k = 0; k < n; ++k) {
      d[k] = static_cast<T>(static_cast<Wide<T>>(d[k]) +
                            static_cast<Wide<U>>(x[k]) * static_cast<Wide<U>>(y[k]));
    }
  });
}

// dst = f(a), or with `accumulates` f(a, dst)
template <bool accumulates, class T, class U, class F>
void unary(VectorInstruction v, const Operand& to, const Operand& a, F f) {
  const std::array<Operand, 2> sources = {a, to};
  v.reads(a);
  if (accumulates) v.reads(to);
  v.writes(to);
  check_overlap(v.core, v.i, v.lanes, to, sources.data(), accumulates ? 2 : 1, Accumulation::none);
  v.issue_pieces(std::array{to, a}, [f](uint8_t* ub, const auto& p, uint32_t n) {
    T* d = at<T>(ub, p[0]);
    const U* x = at<U>(ub, p[1]);
    for (uint32_t k = 0; k < n; ++k) {
      if constexpr (accumulates) {
        d[k] = static_cast<T>(f(static_cast<Wide<U>>(x[k]), static_cast<Wide<T>>(d[k])));
      } else {
        d[k] = static_cast<T>(f(static_cast<Wide<U>>(x[k])));
      }
    }
  });
}

// dst = value
template <class T>
void fill(VectorInstruction v, const Operand& to, T value) {
  v.writes(to);
  v.issue_pieces(std::array{to}, [value](uint8_t* ub, const auto& p, uint32_t n) {
    std::fill_n(at<T>(ub, p[0]), n, value);
  });
}

}  // namespace emulator
