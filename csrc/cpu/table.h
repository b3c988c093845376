// The operator where an anchor samples so much that it touches most rows.
//
// Merging is for samples that touch few of many rows. Where they outnumber the rows, a table of the
// coefficients of every row is smaller than any list of entries, and is filled by plain additions:
//
//   table      [anchors, 1 + rows, groups]; place 0 takes the corners outside of their maps
//   forward    rows times coefficients, for several anchors at once: each row is loaded once for all
//   backward   row by row, with every anchor; the dots replace the coefficients
#pragma once

#include "arguments.h"
#include "team.h"

namespace jda {

// Whether a problem should be done that way. It depends on the arguments alone, not on the team.
template <typename F, typename W>
bool table_pays(const Problem<F, W>& problem, Team& team);

// Bytes that it needs.
template <typename F, typename W>
int64_t table_bytes(const Problem<F, W>& problem);

// Writes problem.out, and returns whether it holds: it does not where values are not finite, because rows
// that no sample touches are multiplied here too, by zero.
template <typename F, typename W>
bool forward_by_table(const Problem<F, W>& problem, Team& team);

// Writes all gradients that are not null, that of the feature maps among them, or adds that one to `sums`
// unless it is null. Returns false, and writes nothing, where cotangents are not finite or the table takes
// more than `most` bytes.
template <typename F, typename W>
bool backward_by_table(const Problem<F, W>& problem, Real<F>* sums, int64_t most, bool past_caches,
                       Team& team);

}  // namespace jda
