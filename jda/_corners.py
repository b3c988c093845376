"""The corners of samples as key points of the operator, in ``jax.numpy``.

The six operands are ``depth_prob`` [bs, num_feat, bins], the operator's index arrays,
locations and weights, and ``depth`` [bs, anchor, pts, cam], in bins.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

UNSEEN = -1.0  # a coordinate that no map has
NOWHERE = np.int32(2**31 - 1)  # a row that there is not: it is neither read nor written


class Operands(NamedTuple):
    """The six arrays, or one thing for each of them."""

    depth_prob: Any
    spatial_shape: Any
    scale_start_index: Any
    sample_locations: Any
    weight: Any
    depth: Any


FLOATING = ("depth_prob", "sample_locations", "weight", "depth")  # the differentiable


def given(operands: Sequence[Any]) -> tuple[Operands, list[Any]]:
    """Of all operands of an operation, the six arrays, and the others."""
    count = len(Operands._fields)
    return Operands(*operands[:count]), list(operands[count:])


def forward(*operands: jax.Array, coordinate_order: str) -> list[jax.Array]:
    """The corners as key points.

    Returns:
        The centres of their pixels [bs, anchor, pts, 4, cam, scale, 2], and bilinear
        coefficient * probability * weight [bs, anchor, pts, 4, cam, scale, group].
        Where a sample or a corner does not count, no map has the centre, and the
        weights are zero.
    """
    arrays = Operands(*operands)
    centres, coefficients = _corners(arrays, coordinate_order)
    return [centres, _weighted(coefficients, arrays.weight)]


def tangent(
    *operands: jax.Array, coordinate_order: str, which: tuple[str, ...]
) -> list[jax.Array]:
    """The tangent of the weights for tangents of the operands `which`."""
    arrays, tangents = given(operands)
    of_which = _weights_of(arrays, coordinate_order, which)
    primals = [getattr(arrays, name) for name in which]
    return [jax.jvp(of_which, primals, tangents)[1]]


def backward(
    *operands: jax.Array, coordinate_order: str, which: tuple[str, ...]
) -> list[jax.Array]:
    """The gradients of the operands `which` for a cotangent of the weights."""
    arrays, (cotangent,) = given(operands)
    of_which = _weights_of(arrays, coordinate_order, which)
    pull_back = jax.vjp(of_which, *[getattr(arrays, name) for name in which])[1]
    return list(pull_back(cotangent))


def _weights_of(arrays: Operands, order: str, which: Sequence[str]) -> Any:
    def of_which(*values: jax.Array) -> jax.Array:
        moved = arrays._replace(**dict(zip(which, values, strict=True)))
        return forward(*moved, coordinate_order=order)[1]

    return of_which


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
    weights = [part.reshape(weight.shape) * weight for part in of_corners]
    return jnp.stack(weights, axis=3)


def _corners(operands: Operands, order: str) -> tuple[jax.Array, jax.Array]:
    """Centres, and coefficient times probability [bs, anchor, pts, 4, cam, scale]."""
    locations, depth = operands.sample_locations, operands.depth
    bins = operands.depth_prob.shape[-1]
    size = operands.spatial_shape[None, None, None]
    start = operands.scale_start_index[None, None, None]
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
    probabilities = _at_depth(
        operands.depth_prob, jnp.stack(rows, axis=3), depth[:, :, :, None]
    )
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
