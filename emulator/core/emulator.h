// The host's side of the emulator: allocate GM, run a kernel, read the report.
#pragma once

#include "machine/gm.h"
#include "machine/launch.h"
#include "machine/report.h"
