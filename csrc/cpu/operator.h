// Deformable aggregation and its derivatives, on the threads of a team.
//
// Results do not depend on the size of the team: each has one owner, and sums are taken in an order
// that only the arguments set.
#pragma once

#include "arguments.h"
#include "team.h"

namespace jda {

// Writes problem.out.
template <typename F, typename W>
void forward(const Problem<F, W>& problem, Team& team);

// Writes the tangent of that, for the tangents that are not null, to problem.out.
template <typename F, typename W>
void tangent(const Problem<F, W>& problem, Team& team);

// Writes those of problem's gradients that are not null.
template <typename F, typename W>
void backward(const Problem<F, W>& problem, Team& team);

}  // namespace jda
