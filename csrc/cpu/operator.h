// Deformable aggregation and its derivatives, on the threads of a team.
//
// Results do not depend on the size of the team: each has one owner, and sums are taken in an order
// that only the arguments set.
#pragma once

#include "arguments.h"
#include "team.h"

namespace jda {

// Bytes that a call may need while it runs, apart from a share of what its arguments take. A problem
// that would need more is done in several passes.
constexpr int64_t kPassBytes = int64_t{48} << 20;

// Writes problem.out.
template <typename F, typename W>
void forward(const Problem<F, W>& problem, Team& team, int64_t pass_bytes = kPassBytes);

// Writes the tangent of that, for the tangents that are not null, to problem.out.
template <typename F, typename W>
void tangent(const Problem<F, W>& problem, Team& team, int64_t pass_bytes = kPassBytes);

// Writes those of problem's gradients that are not null.
template <typename F, typename W>
void backward(const Problem<F, W>& problem, Team& team, int64_t pass_bytes = kPassBytes);

}  // namespace jda
