"""The operator in ``jax.numpy``: what it means, on every platform of XLA.

It works on blocks of sampled points, so that the rows it gathers at a time take a few
megabytes whatever the number of anchors and points is.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jda import _check
from jda._dimensions import INDEX
from jda._reverse import reverse_mode

BLOCK = 2**20  # elements of the feature maps that are gathered at a time


def deformable_aggregation(
    feature_maps: ArrayLike,
    spatial_shape: ArrayLike,
    scale_start_index: ArrayLike,
    sample_locations: ArrayLike,
    weight: ArrayLike,
    *,
    coordinate_order: str = "yx",
    differentiation: str = "reverse",
) -> jax.Array:
    """The readable definition of :func:`jda.deformable_aggregation`.

    Same arguments, result and errors, less ``implementation``. JAX differentiates it to
    any order. Rows outside of num_feat, which only maps with values unknown while
    tracing can have, count as zero.

    Args:
        feature_maps: [bs, num_feat, c].
        spatial_shape: [cam, scale, 2].
        scale_start_index: [cam, scale].
        sample_locations: [bs, anchor, pts, cam, 2].
        weight: [bs, anchor, pts, cam, scale, group].
        coordinate_order: ``"yx"`` or ``"xy"``, the last axis of ``sample_locations``.
        differentiation: ``"reverse"``, whose gradients are faster, or ``"both"`` to
            allow forward mode.

    Returns:
        The aggregated features [bs, anchor, c].

    Raises:
        ValueError: if a shape or value does not fit.
        TypeError: if a dtype is not supported.
    """
    _check.choice("coordinate_order", coordinate_order, _check.COORDINATE_ORDERS)
    _check.choice("differentiation", differentiation, _check.DIFFERENTIATIONS)
    operands = _check.arrays(
        feature_maps,
        spatial_shape,
        scale_start_index,
        sample_locations,
        weight,
        coordinate_order=coordinate_order,
    )
    arrays = [
        jnp.asarray(array, jnp.int32) if i in INDEX else array
        for i, array in enumerate(operands)
    ]
    define = partial(_aggregate, coordinate_order=coordinate_order)
    gradients = partial(cotangent, coordinate_order=coordinate_order)
    differentiable = (
        define if differentiation == "both" else reverse_mode(define, gradients)
    )
    return differentiable(*arrays)


def forward(*operands: jax.Array, coordinate_order: str) -> list[jax.Array]:
    """The result, as a list of one array."""
    return [_aggregate(*operands, coordinate_order=coordinate_order)]


def tangent(
    *operands: jax.Array, coordinate_order: str, which: tuple[int, ...]
) -> list[jax.Array]:
    """The tangent of the result for tangents of the operands `which`."""
    arrays, dots = operands[:5], operands[5:]
    define, values = _of(which, arrays, coordinate_order)
    return [jax.jvp(define, values, dots)[1]]


def cotangent(
    *operands: jax.Array, coordinate_order: str, which: tuple[int, ...]
) -> list[jax.Array]:
    """The gradients of the operands `which` for a cotangent of the result."""
    *arrays, bar = operands
    define, values = _of(which, arrays, coordinate_order)
    return list(jax.vjp(define, *values)[1](bar))


def _of(
    which: tuple[int, ...], arrays: Any, coordinate_order: str
) -> tuple[Callable[..., jax.Array], tuple[jax.Array, ...]]:
    """The operator as a function of the operands `which`, and their values."""

    def define(*values: jax.Array) -> jax.Array:
        given = dict(zip(which, values, strict=True))
        operands = [given.get(i, array) for i, array in enumerate(arrays)]
        return _aggregate(*operands, coordinate_order=coordinate_order)

    return define, tuple(arrays[i] for i in which)


def _aggregate(
    feature_maps: jax.Array,
    spatial_shape: jax.Array,
    scale_start_index: jax.Array,
    sample_locations: jax.Array,
    weight: jax.Array,
    *,
    coordinate_order: str,
) -> jax.Array:
    bs, num_feat, c = feature_maps.shape
    anchor, pts, cam = sample_locations.shape[1:4]
    group = weight.shape[-1]
    if 0 in (num_feat, weight.size, c):
        return jnp.zeros((bs, anchor, c), feature_maps.dtype)

    def aggregate(item: jax.Array, locations: jax.Array, weight: jax.Array) -> Any:
        """Points of one anchor: locations [p, k, 2] and weights [p, k, s, g]."""
        rows, part = _corners(
            spatial_shape, scale_start_index, locations, num_feat, coordinate_order
        )
        total = jnp.zeros((group, c // group), feature_maps.dtype)
        for s in range(weight.shape[-2]):
            corners = feature_maps.at[item, rows[:, :, s]].get(
                mode="fill", fill_value=0
            )
            values = corners.reshape(-1, group, c // group)
            factor = part[:, :, s, :, None] * weight[:, :, s, None, :]
            total += (values * factor.reshape(-1, group, 1)).sum(axis=0)
        return total.reshape(c)

    items = jnp.repeat(jnp.arange(bs), anchor)
    results: jax.Array = jax.lax.map(
        lambda xs: jax.checkpoint(aggregate)(*xs),
        (
            items,
            sample_locations.reshape(bs * anchor, pts, cam, 2),
            weight.reshape(bs * anchor, *weight.shape[2:]),
        ),
        batch_size=max(1, BLOCK // (pts * cam * 4 * c)),
    )
    return results.reshape(bs, anchor, c)


def _corners(
    spatial_shape: jax.Array,
    scale_start_index: jax.Array,
    locations: jax.Array,
    num_feat: int,
    coordinate_order: str,
) -> tuple[jax.Array, jax.Array]:
    """The four neighbours of samples [p, k, s, 4]: their rows and bilinear factors.

    A neighbour that does not count has row num_feat and factor zero.
    """
    visible = jnp.all((locations > 0) & (locations < 1), axis=-1, keepdims=True)
    # Chosen before any arithmetic: its derivative at infinity would not be a number.
    safe = jnp.where(visible, locations, 0.5)
    y = safe[..., coordinate_order.index("y"), None]
    x = safe[..., coordinate_order.index("x"), None]
    height, width = spatial_shape[None, ..., 0], spatial_shape[None, ..., 1]
    start = scale_start_index[None]
    h = y * height.astype(y.dtype) - 0.5
    w = x * width.astype(x.dtype) - 0.5
    top, left = jnp.floor(h), jnp.floor(w)
    below, right = h - top, w - left
    above, beside = 1 - below, 1 - right
    factors = (above * beside, above * right, below * beside, below * right)

    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    rows, counts = [], []
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        r, q = top + i, left + j
        row = start + r * width + q
        inside = (r >= 0) & (r < height) & (q >= 0) & (q < width)
        count = visible & inside & (row >= 0) & (row < num_feat)
        rows.append(jnp.where(count, row, num_feat))
        counts.append(count)
    factor = jnp.where(jnp.stack(counts, -1), jnp.stack(factors, -1), 0)
    return jnp.stack(rows, -1), factor
