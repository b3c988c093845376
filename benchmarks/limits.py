"""The rows that a problem reads, in several orders, and the time to just touch them."""

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.problems import Inputs, is_visible


def compiled(source: str, *flags: str) -> ctypes.CDLL:
    """A C++ file of this folder as a library."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library.so"
        path = Path(__file__).with_name(source)
        options = ["-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread"]
        command = ["c++", *options, "-Wno-psabi", *flags, str(path), "-o", str(library)]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(library))


def corner_rows(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all neighbours of all visible samples, anchor by anchor.

    Returns:
        rows [n, scales, 4], -1 where a neighbour is outside of its map, counted over
        the batch; and the indices [n, 4] (b, a, p, k) of the samples.
    """
    index = np.argwhere(is_visible(inputs))
    b, k = index[:, 0], index[:, 3]
    at = inputs.sample_locations[tuple(index.T)].astype(np.float64)
    size = inputs.spatial_shape[k]  # [n, s, 2]
    first = np.floor(at[:, None] * size - 0.5).astype(np.int64)
    offsets = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    corner = first[:, :, None] + offsets  # [n, s, 4, 2]
    inside = ((corner >= 0) & (corner < size[:, :, None])).all(axis=-1)
    row = inputs.scale_start_index[k][..., None] + (
        corner[..., 0] * size[..., 1, None] + corner[..., 1]
    )
    row += (b * inputs.feature_maps.shape[1])[:, None, None]
    return np.where(inside, row, -1), index


def curve(at: np.ndarray) -> np.ndarray:
    """Place of (y, x) on a Z-order curve through 256 x 256 tiles."""
    tile = (at * 256).astype(np.int64)
    bits = sum(((tile >> i) & 1) << (2 * i) for i in range(8))
    return bits[..., 0] * 2 + bits[..., 1]


def orders(inputs: Inputs) -> dict[str, np.ndarray]:
    """Lists of rows: by anchor, by (camera, place) of items, and each row once."""
    rows, index = corner_rows(inputs)
    b, a, _, k = index.T
    item = (b * inputs.weight.shape[1] + a) * inputs.weight.shape[3] + k
    _, first, of_item = np.unique(item, return_index=True, return_inverse=True)
    place = curve(inputs.sample_locations[tuple(index.T)])
    by_item = np.lexsort((item, place[first][of_item], k, b))

    def listed(rows: np.ndarray) -> np.ndarray:
        flat = rows.ravel()
        return np.ascontiguousarray(flat[flat >= 0])

    return {
        "anchor order": listed(rows),
        "item order": listed(rows[by_item]),
        "each row once": np.unique(listed(rows)),
    }


@functools.cache
def library() -> ctypes.CDLL:
    found = compiled("limits.cc")
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    for name in ("gather_rows", "scatter_rows"):
        getattr(found, name).argtypes = (pointer, size, pointer, size, ctypes.c_int)
    return found


def peer(inputs: Inputs) -> dict[str, Callable[[], object]]:
    """Functions "gather <order>, <threads>" and "scatter anchor order, <threads>"."""
    features = inputs.feature_maps.reshape(-1, inputs.feature_maps.shape[-1]).copy()
    lists = orders(inputs)

    def touch(function: str, order: str, threads: int) -> tuple[()]:
        rows = lists[order]
        call = getattr(library(), function)
        if not call(
            features.ctypes.data,
            features.shape[1],
            rows.ctypes.data,
            rows.size,
            threads,
        ):
            raise ValueError(f"no limits for {features.shape[1]} channels")
        return ()

    tasks = {
        f"gather {order}, {threads}": partial(touch, "gather_rows", order, threads)
        for order in lists
        for threads in (1, 2)
    }
    return tasks | {
        f"scatter anchor order, {n}": partial(touch, "scatter_rows", "anchor order", n)
        for n in (1, 2)
    }


def identity_peer() -> dict[str, Callable[[], object]]:
    """A jitted identity through a custom call."""
    import jax
    import jax.numpy as jnp

    handler = compiled("identity.cc", "-isystem", jax.ffi.include_dir())
    jax.ffi.register_ffi_target("identity", jax.ffi.pycapsule(handler.identity))
    x = jnp.ones((1, 16, 8))
    call = jax.jit(jax.ffi.ffi_call("identity", jax.ShapeDtypeStruct(x.shape, x.dtype)))
    return {"forward": lambda: jax.block_until_ready(call(x))}
