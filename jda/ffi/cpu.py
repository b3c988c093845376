"""The kernels for the CPU, a shared library that is loaded when it is first needed."""

# mypy: allow-untyped-calls

import ctypes
import functools
import importlib.resources
import threading
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jda._dimensions import FLOATING
from jda.ffi.library import Library

LIBRARY = "libjda_cpu.so"
TARGETS = ("jda_cpu_forward", "jda_cpu_cotangent")


_loading = threading.Lock()


def library() -> Library:
    """Loads the library and registers its kernels, once for the whole process."""
    with _loading:
        return _load()


@functools.cache
def _load() -> Library:
    path = str(importlib.resources.files("jda.ffi") / LIBRARY)
    try:
        handle = ctypes.CDLL(path)
        handlers = {name: getattr(handle, name) for name in TARGETS}
        isa = handle.jda_cpu_isa
    except (OSError, AttributeError) as error:
        return Library(False, f"the native library did not load: {error}")
    for name, handler in handlers.items():
        capsule = jax.ffi.pycapsule(handler)
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    isa.restype = ctypes.c_char_p
    return Library(True, f"{path}, {isa().decode()} instructions")


def forward(*operands: jax.Array, coordinate_order: str) -> list[jax.Array]:
    """The result, as a list of one array."""
    feature_maps, sample_locations = operands[0], operands[3]
    bs, _num_feat, c = feature_maps.shape
    shapes = [(bs, sample_locations.shape[1], c)]
    return _call("jda_cpu_forward", shapes, operands, coordinate_order)


def cotangent(
    *operands: jax.Array, coordinate_order: str, which: tuple[int, ...]
) -> list[jax.Array]:
    """The gradients of the operands at the positions `which`."""
    # The kernel skips a result without elements.
    shapes = [operands[i].shape if i in which else (0,) for i in FLOATING]
    found = _call("jda_cpu_cotangent", shapes, operands, coordinate_order)
    return [found[FLOATING.index(i)] for i in which]


def _call(
    target: str,
    shapes: Sequence[tuple[int, ...]],
    operands: tuple[jax.Array, ...],
    coordinate_order: str,
) -> list[jax.Array]:
    dtype = operands[0].dtype
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    call: Any = jax.ffi.ffi_call(target, results)
    return list(call(*operands, y_axis=np.int64(coordinate_order.index("y"))))
