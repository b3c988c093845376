// Threads for callers that bring none.
#pragma once

#include <cstdint>

#include "team.h"

namespace jda {

// The caller and helpers from a pool that the process keeps: so many in all, where the system lets
// it have them. A child that was forked has a pool of its own.
Team pool_team(int64_t threads);

}  // namespace jda
