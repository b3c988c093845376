"""Calls that are told by what moving their bytes costs, as peers."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

import jda
from benchmarks.problems import FLOATS, Inputs

LAYOUTS = ("bkhwc", "bkchw")


def moving_peer(inputs: Inputs) -> dict[str, Callable[[], object]]:
    """Zeros into fresh pages, as many as gradients have; a copy of the maps, in blocks.

    The copy goes from one array for each scale into fresh pages, as packing does.
    """
    sizes = [inputs[i].size for i in FLOATS]
    maps = pyramid(inputs, "bkhwc")
    bs, cam = maps[0].shape[:2]
    rows = [x.reshape(bs, cam, -1, x.shape[-1]) for x in maps]

    def zeros() -> None:
        for size in sizes:
            np.empty(size, np.float32).fill(0)

    return {"zeros": zeros, "copy": partial(np.concatenate, rows, axis=2)}


def packing_peer(inputs: Inputs) -> dict[str, Callable[[], object]]:
    """``jda.pack_feature_maps`` from each layout, eagerly and within ``jit``."""

    def pack(layout: str, maps: list[jax.Array]) -> jax.Array:
        return jda.pack_feature_maps(maps, layout=layout).feature_maps

    def done(how: str, layout: str, maps: list[jax.Array]) -> object:
        return jax.block_until_ready(packs[how](layout, maps))

    packs = {"eager": pack, "jit": jax.jit(pack, static_argnums=0)}
    maps = {x: [jax.numpy.asarray(m) for m in pyramid(inputs, x)] for x in LAYOUTS}
    return {
        f"{layout}, {how}": partial(done, how, layout, maps[layout])
        for layout in LAYOUTS
        for how in packs
    }


def pyramid(inputs: Inputs, layout: str) -> list[np.ndarray]:
    """The maps of all cameras, one array for each scale."""
    packed = jda.PackedFeatureMaps(*inputs[:3])
    return [np.asarray(x) for x in jda.unpack_feature_maps(packed, layout=layout)]
