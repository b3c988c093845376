"""Aggregation in which every pixel knows at which depths it sees something.

Each of the four corners of a sample is weighted by how probable it is that its pixel
lies at the sample's depth. It is written on top of the operator: a corner is a key
point at the centre of its pixel, and its coefficient and probability are part of its
weight.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jda import _operator
from jda._dimensions import INDEX, Operands

UNSEEN = -1.0  # a coordinate that no map has


def aggregate(
    operands: Operands, depth_prob: jax.Array, depth: jax.Array, **options: Any
) -> jax.Array:
    """The sum over corners of bilinear coefficient * probability * weight * feature.

    Args:
        operands: the operator's.
        depth_prob: [bs, num_feat, bins].
        depth: in bins [bs, anchor, pts, cam].
        options: the operator's.

    Returns:
        [bs, anchor, c].
    """
    features, spatial_shape, scale_start_index, _, weight = operands
    bs, anchor, pts, cam, scale, group = weight.shape
    order = options["coordinate_order"]
    centres, coefficients = _corners(operands, depth_prob, depth, order)
    weight = coefficients[..., None] * weight[:, :, :, None]
    points = bs, anchor, pts * 4, cam * scale
    return _operator.deformable_aggregation(
        features,
        spatial_shape.reshape(cam * scale, 1, 2),  # every map has centres of its own
        scale_start_index.reshape(cam * scale, 1),
        centres.reshape(*points, 2),
        weight.reshape(*points, 1, group).astype(features.dtype),
        **options,
    )


def _corners(
    operands: Operands, depth_prob: jax.Array, depth: jax.Array, order: str
) -> tuple[jax.Array, jax.Array]:
    """The four corners of all samples.

    Returns:
        The centres of their pixels [bs, anchor, pts, 4, cam, scale, 2], and bilinear
        coefficient times probability [bs, anchor, pts, 4, cam, scale]. Where a sample
        or a corner does not count, there is no centre, and the coefficient is zero.
    """
    locations, bins = operands.sample_locations, depth_prob.shape[-1]
    size, start = (
        _operator.as_int32(jnp.asarray(index))[None, None, None]
        for index in operands.chosen(INDEX)
    )
    height, width = size[..., 0], size[..., 1]
    seen = jnp.all((locations > 0) & (locations < 1), axis=-1)
    seen = (seen & (depth > -1) & (depth < bins))[..., None]
    # Chosen before any arithmetic, or what is not a number would reach the gradients.
    locations = jnp.where(seen, locations, 0.5)[..., None, :]
    depth = jnp.where(seen, depth[..., None], 0)

    def pixel(axis: str, sides: jax.Array) -> tuple[jax.Array, jax.Array]:
        at = locations[..., order.index(axis)]
        return _whole_and_rest(at * sides.astype(at.dtype) - 0.5)

    def centre(pixel: jax.Array, sides: jax.Array) -> jax.Array:
        return (pixel.astype(depth.dtype) + 0.5) / sides.astype(depth.dtype)

    (top, below), (left, right) = pixel("y", height), pixel("x", width)
    centres, coefficients = [], []
    for i, vertical in enumerate((1 - below, below)):
        for j, horizontal in enumerate((1 - right, right)):
            h, w = top + i, left + j
            counts = (h >= 0) & (h < height) & (w >= 0) & (w < width) & seen
            row = jnp.where(counts, start + h * width + w, 0)
            coefficient = vertical * horizontal * _at_depth(depth_prob, row, depth)
            coefficients.append(jnp.where(counts, coefficient, 0))
            of_axis = {"y": centre(h, height), "x": centre(w, width)}
            place = jnp.stack([of_axis[axis] for axis in order], axis=-1)
            centres.append(jnp.where(counts[..., None], place, UNSEEN))
    return jnp.stack(centres, axis=3), jnp.stack(coefficients, axis=3)


def _whole_and_rest(value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A number's floor, and how far it lies above that."""
    computed_once: Any = jax.lax.optimization_barrier
    value = computed_once(value)
    whole = jax.lax.stop_gradient(jnp.floor(value))
    return whole.astype(jnp.int32), value - whole


def _at_depth(depth_prob: jax.Array, row: jax.Array, depth: jax.Array) -> jax.Array:
    """Probabilities of rows, interpolated between bins; outside of these it is zero."""
    first, rest = _whole_and_rest(depth)
    element = jnp.arange(len(row), dtype=jnp.int32).reshape(-1, *[1] * (row.ndim - 1))
    bins = depth_prob.shape[-1]

    def of_bin(at: jax.Array) -> jax.Array:
        at = jnp.where(at < 0, bins, at)  # a negative one would count from the end
        at, rows = jnp.broadcast_arrays(at, row)
        return depth_prob.at[element, rows, at].get(mode="fill", fill_value=0)

    return of_bin(first) * (1 - rest) + of_bin(first + 1) * rest
