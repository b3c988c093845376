// The switches of all mutants. One library holds every mutant, and `chosen` says which one it is:
// nothing is compiled per mutant.
#pragma once

#include <type_traits>

namespace mutant {

extern int chosen;  // none where it is negative
// Every loop of the kernels asks a switch, so this counts how far a mutant ran.
extern long long steps, most_steps;
[[noreturn]] void give_up();

inline bool is(int id) {
  if (++steps > most_steps) give_up();
  return chosen == id;
}

// Whether a statement stays that these mutants delete.
template <class... Ids>
bool keeps(Ids... ids) {
  return !(is(ids) || ...);
}

template <class T>
T more(int id, T value) {
  return static_cast<T>(value + T(is(id)));
}

// The mutant after `id` takes one away.
template <class T>
T near(int id, T value) {
  return static_cast<T>(more(id, value) - T(is(id + 1)));
}

// `id` is true in any case, the mutant after it false.
inline bool forced(int id, bool value) { return (value || is(id)) && !is(id + 1); }

// A call of `function`, for which the first of its arguments is taken where the mutant is `id`; the
// second where it is the one after it, if there are that many `choices`.
template <class F>
struct Instead {
  int id;
  F function;
  int choices;
  template <class A, class B, class... Others>
  auto operator()(A a, B b, Others... others) const {
    using R = decltype(function(a, b, others...));
    if (is(id)) return static_cast<R>(a);
    return choices > 1 && is(id + 1) ? static_cast<R>(b) : function(a, b, others...);
  }
};
template <class F>
Instead(int, F, int) -> Instead<F>;

// `a < b` is written `a < Less{id} < b`: an operator between operators keeps the precedence, whatever
// the operands are.
#define MUTANT_OPERATOR(Name, op, other)               \
  struct Name {                                        \
    int id;                                            \
  };                                                   \
  template <class A>                                   \
  struct Left##Name {                                  \
    A a;                                               \
    int id;                                            \
  };                                                   \
  template <class A>                                   \
  Left##Name<A> operator op(A a, Name name) {          \
    return {a, name.id};                               \
  }                                                    \
  template <class A, class B>                          \
  auto operator op(Left##Name<A> left, B b) {          \
    return is(left.id) ? left.a other b : left.a op b; \
  }

MUTANT_OPERATOR(Less, <, <=)
MUTANT_OPERATOR(LessEqual, <=, <)
MUTANT_OPERATOR(Greater, >, >=)
MUTANT_OPERATOR(GreaterEqual, >=, >)
MUTANT_OPERATOR(Equal, ==, !=)
MUTANT_OPERATOR(Unequal, !=, ==)
MUTANT_OPERATOR(Plus, +, -)
MUTANT_OPERATOR(Minus, -, +)
MUTANT_OPERATOR(Times, *, +)
MUTANT_OPERATOR(Over, /, *)
MUTANT_OPERATOR(Modulo, %, /)

#undef MUTANT_OPERATOR

}  // namespace mutant
