// All gradients without entries.
//
// An entry pays where several corners share it, and where it is smaller than a row. A key point or a few
// of an anchor share no rows, and with one coefficient for one to three channels an entry is no smaller.
// There, the visible samples themselves are sorted, by the lines of the maps that they lie below, and
// maps are swept line by line: two lines of sums, on their way, are enough for the gradient of the feature
// maps, and the features of two lines for those of the samples.
#pragma once

#include "arguments.h"
#include "team.h"

namespace jda {

// Whether that is faster, and the maps are such that it can be done.
template <typename F, typename W>
bool sweep_pays(const Problem<F, W>& problem);

// Writes those of problem's gradients that are not null, that of the feature maps among them, but for
// those of invisible samples. A pass takes at most `most` bytes.
template <typename F, typename W>
void backward_by_sweep(const Problem<F, W>& problem, int64_t most, Team& team);

}  // namespace jda
