"""The kernels for the CPU, a shared library that is loaded when it is first needed."""

# mypy: allow-untyped-calls

import ctypes
import functools
import importlib.resources
import os
import threading
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jda._dimensions import FLOATING
from jda.ffi.library import Library

LIBRARY = "libjda_cpu.so"
TARGETS = ("jda_cpu_forward", "jda_cpu_tangent", "jda_cpu_cotangent")


_loading = threading.Lock()


def library() -> Library:
    """Loads the library and registers its kernels, once for the whole process.

    Raises:
        ValueError: if JDA_CPU_ISA names no instruction set.
    """
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
    isa.restype = ctypes.c_char_p
    name = isa()
    if name is None:
        raise ValueError(
            f"JDA_CPU_ISA={os.environ.get('JDA_CPU_ISA')!r} is unknown, allowed are "
            "'baseline', 'avx2', 'avx512'"
        )
    for target, handler in handlers.items():
        capsule = jax.ffi.pycapsule(handler)
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")
    return Library(True, f"{path}, {name.decode()} instructions")


def forward(*operands: jax.Array, coordinate_order: str) -> list[jax.Array]:
    """The result, as a list of one array."""
    results = [_result(*operands)]
    return _call("jda_cpu_forward", results, operands, coordinate_order)


def tangent(
    *operands: jax.Array, coordinate_order: str, which: tuple[int, ...]
) -> list[jax.Array]:
    """The tangent of the result for tangents of the operands at `which`."""
    arrays, dots = operands[:5], dict(zip(which, operands[5:], strict=True))
    # The kernel takes a tangent without elements as zero.
    tangents = [dots.get(i, jnp.zeros(0, arrays[i].dtype)) for i in FLOATING]
    results = [_result(*arrays)]
    return _call("jda_cpu_tangent", results, (*arrays, *tangents), coordinate_order)


def cotangent(
    *operands: jax.Array, coordinate_order: str, which: tuple[int, ...]
) -> list[jax.Array]:
    """The gradients of the operands at the positions `which`."""
    # The kernel skips a result without elements.
    gradients = [
        jax.ShapeDtypeStruct(
            operands[i].shape if i in which else (0,), operands[i].dtype
        )
        for i in FLOATING
    ]
    found = _call("jda_cpu_cotangent", gradients, operands, coordinate_order)
    return [found[FLOATING.index(i)] for i in which]


def _result(*operands: jax.Array) -> jax.ShapeDtypeStruct:
    feature_maps, sample_locations = operands[0], operands[3]
    bs, _num_feat, c = feature_maps.shape
    shape = (bs, sample_locations.shape[1], c)
    return jax.ShapeDtypeStruct(shape, feature_maps.dtype)


def _call(
    target: str,
    results: Sequence[jax.ShapeDtypeStruct],
    operands: tuple[jax.Array, ...],
    coordinate_order: str,
) -> list[jax.Array]:
    call: Any = jax.ffi.ffi_call(target, results)
    return list(call(*operands, y_axis=np.int64(coordinate_order.index("y"))))
