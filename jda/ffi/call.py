"""Calls of the targets that every library of kernels has, by the same conventions.

A target is named after its library and operation. What is not wanted or known to be
zero has shape (0,): the kernels neither compute nor read it.
"""

# mypy: allow-untyped-calls

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jda._dimensions import FLOATING


def forward(
    library: str, *operands: jax.Array, coordinate_order: str, **attributes: np.int64
) -> list[jax.Array]:
    """The result, as a list of one array."""
    results = [_result(*operands)]
    target = f"{library}_forward"
    return _call(target, results, operands, coordinate_order, **attributes)


def tangent(
    library: str,
    *operands: jax.Array,
    coordinate_order: str,
    which: tuple[int, ...],
    **attributes: np.int64,
) -> list[jax.Array]:
    """The tangent of the result for tangents of the operands at `which`."""
    arrays, dots = operands[:5], dict(zip(which, operands[5:], strict=True))
    tangents = [dots.get(i, jnp.zeros(0, arrays[i].dtype)) for i in FLOATING]
    results, given = [_result(*arrays)], (*arrays, *tangents)
    target = f"{library}_tangent"
    return _call(target, results, given, coordinate_order, **attributes)


def backward(
    library: str,
    *operands: jax.Array,
    coordinate_order: str,
    which: tuple[int, ...],
    **attributes: np.int64,
) -> list[jax.Array]:
    """The gradients of the operands at the positions `which`."""
    gradients = [
        jax.ShapeDtypeStruct(
            operands[i].shape if i in which else (0,), operands[i].dtype
        )
        for i in FLOATING
    ]
    target = f"{library}_backward"
    found = _call(target, gradients, operands, coordinate_order, **attributes)
    return [found[FLOATING.index(i)] for i in which]


def _result(*operands: jax.Array) -> jax.ShapeDtypeStruct:
    feature_maps, sample_locations = operands[0], operands[3]
    bs, _num_feat, c = feature_maps.shape
    shape = (bs, sample_locations.shape[1], c)
    return jax.ShapeDtypeStruct(shape, feature_maps.dtype)


def _call(
    target: str,
    results: Sequence[jax.ShapeDtypeStruct],
    operands: Sequence[jax.Array],
    coordinate_order: str,
    **attributes: np.int64,
) -> list[jax.Array]:
    call: Any = jax.ffi.ffi_call(target, results)
    y_axis = np.int64(coordinate_order.index("y"))
    return list(call(*operands, y_axis=y_axis, **attributes))
