// Deformable aggregation and its gradients, on the threads of a team.
//
// Results do not depend on the size of the team: each has one owner, and sums are taken in an order
// that only the arguments set.
#pragma once

#include "problem.h"
#include "team.h"

namespace jda {

// Writes problem.out.
template <typename T>
void forward(const Problem<T>& problem, Team& team);

// Writes those of problem's gradients that are not null.
template <typename T>
void backward(const Problem<T>& problem, Team& team);

}  // namespace jda
