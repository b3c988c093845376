// Ascend C for vector cores of Atlas A2, emulated on the host: kernels include this file as they
// include the vendor's, and compile unchanged. See the README of the emulator.
#pragma once

#include "advanced.h"
#include "cast.h"
#include "compare.h"
#include "copy.h"
#include "gather.h"
#include "helpers.h"
#include "mask.h"
#include "reduce.h"
#include "scalar.h"
#include "sync.h"
#include "tensor.h"
#include "tpipe.h"
#include "types.h"
#include "vector.h"
