"""Aggregation in which every pixel knows at which depths it sees something.

Each of the four corners of a sample is weighted by how probable it is that its pixel
lies at the sample's depth. It is written on top of the operator: a corner is a key
point at the centre of its pixel, and its coefficient and probability are part of its
weight.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jda import _operator
from jda._dimensions import INDEX, Operands

UNSEEN = -1.0  # a coordinate that no map has
NOWHERE = np.int32(2**31 - 1)  # a row that there is not: it is neither read nor written


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
    weight = _weighted(coefficients, weight)
    points = bs, anchor, pts * 4, cam * scale
    return _operator.deformable_aggregation(
        features,
        spatial_shape.reshape(cam * scale, 1, 2),  # every map has centres of its own
        scale_start_index.reshape(cam * scale, 1),
        centres.reshape(*points, 2),
        weight.reshape(*points, 1, group),
        **options,
    )


def _weighted(coefficients: jax.Array, weight: jax.Array) -> jax.Array:
    """Each corner's coefficient times the weights [bs, anchor, pts, 4, cam, scale, g].

    Written so that its transpose is sums of whole arrays and a product of matrices:
    XLA's sums over short axes are ten times slower on the CPU.
    """
    to_groups = jnp.ones((1, weight.shape[-1]), coefficients.dtype)
    of_corners = [
        jnp.dot(part.reshape(-1, 1), to_groups, precision="highest")
        for part in jnp.unstack(coefficients, axis=3)
    ]
    wide = weight.astype(coefficients.dtype)
    return jnp.stack([part.reshape(weight.shape) * wide for part in of_corners], axis=3)


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
    centres, coefficients, rows = [], [], []
    for i, vertical in enumerate((1 - below, below)):
        for j, horizontal in enumerate((1 - right, right)):
            h, w = top + i, left + j
            counts = (h >= 0) & (h < height) & (w >= 0) & (w < width) & seen
            coefficients.append(jnp.where(counts, vertical * horizontal, 0))
            rows.append(jnp.where(counts, start + h * width + w, NOWHERE))
            of_axis = {"y": centre(h, height), "x": centre(w, width)}
            place = jnp.stack([of_axis[axis] for axis in order], axis=-1)
            centres.append(jnp.where(counts[..., None], place, UNSEEN))
    probabilities = _at_depth(depth_prob, jnp.stack(rows, axis=3), depth[:, :, :, None])
    return jnp.stack(centres, axis=3), jnp.stack(coefficients, axis=3) * probabilities


def _whole_and_rest(value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A number's floor, and how far it lies above that."""
    computed_once: Any = jax.lax.optimization_barrier
    value = computed_once(value)
    whole = jax.lax.stop_gradient(jnp.floor(value))
    return whole.astype(jnp.int32), value - whole


def _at_depth(depth_prob: jax.Array, row: jax.Array, depth: jax.Array) -> jax.Array:
    """Probabilities of rows, interpolated between bins; zero where there is none."""
    first, rest = _whole_and_rest(depth)
    bs = depth_prob.shape[0]
    # Bins of zero on both sides, so that the two of a depth can be taken at once.
    bins = jnp.pad(depth_prob, ((0, 0), (0, 0), (1, 1)))
    place = jnp.stack(jnp.broadcast_arrays(row, first + 1), axis=-1)
    pairs = jax.lax.gather(
        bins,
        place.reshape(bs, math.prod(row.shape[1:]), 2),
        jax.lax.GatherDimensionNumbers(
            offset_dims=(2,),
            collapsed_slice_dims=(1,),
            start_index_map=(1, 2),
            operand_batching_dims=(0,),
            start_indices_batching_dims=(0,),
        ),
        slice_sizes=(1, 1, 2),
        mode=jax.lax.GatherScatterMode.FILL_OR_DROP,
        fill_value=0,
    )
    pairs = pairs.reshape(*row.shape, 2)
    return pairs[..., 0] * (1 - rest) + pairs[..., 1] * rest
