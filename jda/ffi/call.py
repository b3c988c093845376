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

from jda._dimensions import FLOATING, Operands, given


def forward(library: str, *operands: jax.Array, **attributes: Any) -> list[jax.Array]:
    """The result, as a list of one array."""
    results = [_result(Operands(*operands))]
    return call_target(f"{library}_forward", results, operands, **attributes)


def tangent(
    library: str, *operands: jax.Array, which: tuple[str, ...], **attributes: Any
) -> list[jax.Array]:
    """The tangent of the result for tangents of the operands `which`."""
    arrays, tangents = given(operands)
    moves = dict(zip(which, tangents, strict=True))
    for name in FLOATING:
        moves.setdefault(name, jnp.zeros(0, getattr(arrays, name).dtype))
    every = (*arrays, *(moves[name] for name in FLOATING))
    return call_target(f"{library}_tangent", [_result(arrays)], every, **attributes)


def backward(
    library: str, *operands: jax.Array, which: tuple[str, ...], **attributes: Any
) -> list[jax.Array]:
    """The gradients of the operands `which`."""
    arrays, _ = given(operands)
    floating = zip(FLOATING, arrays.chosen(FLOATING), strict=True)
    gradients = [
        jax.ShapeDtypeStruct(array.shape if name in which else (0,), array.dtype)
        for name, array in floating
    ]
    found = call_target(f"{library}_backward", gradients, operands, **attributes)
    return [found[FLOATING.index(name)] for name in which]


def _result(arrays: Operands) -> jax.ShapeDtypeStruct:
    bs, _num_feat, c = arrays.feature_maps.shape
    shape = (bs, arrays.sample_locations.shape[1], c)
    return jax.ShapeDtypeStruct(shape, arrays.feature_maps.dtype)


def call_target(
    target: str,
    results: Sequence[jax.ShapeDtypeStruct],
    operands: Sequence[jax.Array],
    coordinate_order: str,
    **attributes: np.int64,
) -> list[jax.Array]:
    """One custom call; which of two coordinates is y goes with it."""
    call: Any = jax.ffi.ffi_call(target, results)
    y_axis = np.int64(coordinate_order.index("y"))
    return list(call(*operands, y_axis=y_axis, **attributes))
