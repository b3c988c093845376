// The parts of a kernel, each with a face of its own. A part knows the parts that it is built on, and
// nothing of the others:
//
//   memory     UB areas, and copies of rows
//   locations  chunks of pairs, and which of them are visible       memory
//   shares     which pairs are whose                                locations
//   maps       the sizes of all maps, checked                       memory
//   blocks     visible pairs without gaps                           locations
//   geometry   where the corners of a block's samples are           maps, blocks
//   weights    the weights of a block's pairs                       blocks
//   corners    the corner rows of a packet of samples               geometry, blocks
//
// Schedule (schedule.h) decides when each of them loads and computes; the kernels on top of it say
// what becomes of a packet.

#ifndef JDA_ASCEND_PARTS_H_
#define JDA_ASCEND_PARTS_H_

#include "corners.h"
#include "shares.h"
#include "weights.h"

namespace jda_ascend {

struct Parts {
  __aicore__ inline Parts(const Tiling& tiling, TPipe& pipe, const Operands& operands)
      : memory(tiling, pipe),
        locations(tiling, memory, operands),
        shares(tiling, memory, locations, operands),
        maps(tiling, memory, operands),
        blocks(tiling, memory, locations),
        geometry(tiling, memory, maps, blocks),
        weights(tiling, memory, blocks, operands),
        corners(tiling, memory, blocks, geometry, operands) {}

  // Everything that needs no share; constants are filled while the first copies are under way.
  __aicore__ inline void Prepare(const Tiling& t) {
    const bool shared = t.deterministic == 0 && t.cores > 1;
    if (shared) shares.Prepare();
    maps.Load();
    blocks.SeedNumbers();
    blocks.ClearPairs();
    weights.Clear();
    blocks.FillNumbers();
    maps.Find();
    if (shared) shares.FindBits();
  }

  Memory memory;
  Locations locations;
  Shares shares;
  Maps maps;
  Blocks blocks;
  Geometry geometry;
  Weights weights;
  Corners corners;
};

}  // namespace jda_ascend

#endif  // JDA_ASCEND_PARTS_H_
