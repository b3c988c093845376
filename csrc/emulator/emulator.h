// The host's side of the emulator: allocate GM, run a kernel, read the report.
#pragma once

#include "gm.h"
#include "launch.h"
#include "report.h"
