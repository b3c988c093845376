"""The operator in ``jax.numpy``: what it means, on every platform of XLA.

One of the implementations, beside the kernels of ``jda.ffi``: each has a forward, a
tangent and a backward. It takes the key points block by block, so that it needs little
memory, however many anchors and points there are.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jda._backend import ANY, Backend, Found
from jda._dimensions import FLOATING, given

# Elements of the feature maps that are gathered at a time: as many as a CPU's cache
# holds. An accelerator needs more work in a step than its start takes. XLA for CUDA
# fuses a gather with what is summed of it; elsewhere it may keep all in memory.
BLOCK = 2**18
BLOCK_ON_CUDA = 2**27
BLOCK_ON_ACCELERATORS = 10 * 2**20


def forward(
    *operands: jax.Array, coordinate_order: str, block_size: int = BLOCK
) -> list[jax.Array]:
    """The result, as a list of one array."""
    return [
        _aggregate(*operands, coordinate_order=coordinate_order, block_size=block_size)
    ]


def tangent(
    *operands: jax.Array,
    coordinate_order: str,
    which: tuple[str, ...],
    block_size: int = BLOCK,
) -> list[jax.Array]:
    """The tangent of the result for tangents of the operands `which`."""
    arrays, tangents = given(operands)

    def of_which(*values: jax.Array) -> jax.Array:
        moved = arrays.replaced(dict(zip(which, values, strict=True)))
        return _aggregate(
            *moved, coordinate_order=coordinate_order, block_size=block_size
        )

    primals = arrays.chosen(which)
    return [jax.jvp(of_which, primals, tangents)[1]]


def backward(
    *operands: jax.Array,
    coordinate_order: str,
    which: tuple[str, ...],
    block_size: int = BLOCK,
) -> list[jax.Array]:
    """The gradients of the operands `which` for a cotangent of the result.

    JAX's own transpose of the loop over blocks would make and add one array of the size
    of the feature maps for every block; this one scatters into a single array.
    """
    arrays, (cotangent,) = given(operands)
    feature_maps, spatial_shape, scale_start_index, locations, weight = arrays
    if 0 in (weight.size, feature_maps.size):
        return list(map(jnp.zeros_like, arrays.chosen(which)))
    feature_maps, weight, cotangent = map(_wide, (feature_maps, weight, cotangent))
    groups = weight.shape[-1]
    features, cotangent = (_grouped(x, groups) for x in (feature_maps, cotangent))
    of_features, of_samples = "feature_maps" in which, {*which} != {"feature_maps"}

    def add_block(grad_features: jax.Array, block: _Block) -> tuple[jax.Array, Any]:
        corners = partial(
            _corners,
            spatial_shape,
            scale_start_index,
            num_feat=feature_maps.shape[1],
            coordinate_order=coordinate_order,
        )
        coefficients, pull_back, rows = jax.vjp(
            corners, block.locations, block.weight, has_aux=True
        )
        element, grad_coefficients = block.element[:, None], []
        picked = cotangent.at[block.element, block.anchor].get(mode="clip")[:, None]
        for s in range(weight.shape[-2]):
            row, coefficient = rows[:, s], coefficients[:, s, :, :, None]
            if of_features:
                update = coefficient * picked
                grad_features = grad_features.at[element, row].add(update, mode="drop")
            if of_samples:
                # Choosing after the sum is cheaper than to fill what does not count.
                values = features.at[element, row].get(mode="clip")
                counts = (row < feature_maps.shape[1])[..., None]
                dots = (values * picked).sum(-1)
                grad_coefficients.append(jnp.where(counts, dots, 0))
        if not of_samples:
            return grad_features, None
        return grad_features, pull_back(jnp.stack(grad_coefficients, 1))

    blocks, restore = _blocks(locations, weight, feature_maps.shape[-1], block_size)
    none = jnp.zeros_like(features) if of_features else jnp.zeros(())
    grad_features, grad_samples = jax.lax.scan(_recomputed(add_block), none, blocks)
    found = {}
    if of_features:
        found["feature_maps"] = grad_features.reshape(feature_maps.shape)
    if of_samples:
        for name, grad in zip(FLOATING[1:], grad_samples, strict=True):
            found[name] = restore(grad, getattr(arrays, name))
    return [found[name].astype(getattr(arrays, name).dtype) for name in which]


def _aggregate(
    feature_maps: jax.Array,
    spatial_shape: jax.Array,
    scale_start_index: jax.Array,
    sample_locations: jax.Array,
    weight: jax.Array,
    *,
    coordinate_order: str,
    block_size: int,
) -> jax.Array:
    bs, num_feat, c = feature_maps.shape
    anchor, dtype = sample_locations.shape[1], feature_maps.dtype
    if 0 in (weight.size, feature_maps.size):
        return jnp.zeros((bs, anchor, c), dtype)
    feature_maps, weight = map(_wide, (feature_maps, weight))
    features = _grouped(feature_maps, weight.shape[-1])

    def add_block(result: jax.Array, block: _Block) -> tuple[jax.Array, None]:
        coefficients, rows = _corners(
            spatial_shape,
            scale_start_index,
            block.locations,
            block.weight,
            num_feat=num_feat,
            coordinate_order=coordinate_order,
        )
        element = block.element[:, None]
        total = jnp.zeros((len(element), *features.shape[2:]), features.dtype)
        for s in range(weight.shape[-2]):
            values = features.at[element, rows[:, s]].get(mode="fill", fill_value=0)
            total += (values * coefficients[:, s, :, :, None]).sum(axis=1)
        return result.at[block.element, block.anchor].add(total, mode="drop"), None

    blocks, _ = _blocks(sample_locations, weight, c, block_size)
    none = jnp.zeros((bs, anchor, *features.shape[2:]), features.dtype)
    result: jax.Array = jax.lax.scan(_recomputed(add_block), none, blocks)[0]
    return result.reshape(bs, anchor, c).astype(dtype)


def _wide(array: jax.Array) -> jax.Array:
    """Half precision as float32, in which all sums are taken."""
    return array.astype(jnp.float32) if array.dtype.itemsize < 4 else array


def _grouped(array: jax.Array, group: int) -> jax.Array:
    """Splits the channels, the last axis, into groups."""
    return jnp.reshape(array, (*array.shape[:-1], group, -1))


class _Block(NamedTuple):
    """Some of the points of some anchors, i of these pairs at a time."""

    element: jax.Array  # [i] position in the batch
    anchor: jax.Array  # [i]
    locations: jax.Array  # [i, p, k, 2]
    weight: jax.Array  # [i, p, k, s, g]


def _blocks(
    locations: jax.Array, weight: jax.Array, c: int, block_size: int
) -> tuple[_Block, Callable[[jax.Array, jax.Array], jax.Array]]:
    """Cuts the samples into blocks, and gives the function that undoes it.

    A block gathers about `block_size` elements of the feature maps for each scale.
    Where the cut does not come out even, it goes on with points that no camera sees.
    """
    bs, anchor, pts, cam = locations.shape[:4]
    of_point = 4 * cam * c
    # At least two rows in a block: of a single one XLA makes a far slower loop.
    pieces = -(-pts // max(1, block_size // (2 * of_point)))
    piece = -(-pts // pieces)
    if not isinstance(pts, int):  # a symbolic size of jax.export
        pieces, piece = pts, 1
    rows = bs * anchor * pieces
    most = block_size // (of_point * piece)
    length = max(2, min(rows, most) if isinstance(rows, int) else most)
    count = -(-rows // length)

    def cut(array: jax.Array, unseen: float) -> jax.Array:
        rest = array.shape[3:]
        array = _extend(array, 2, pieces * piece, unseen).reshape(rows, piece, *rest)
        array = _extend(array, 0, count * length, unseen)
        return array.reshape(count, length, piece, *rest)

    def restore(array: jax.Array, like: jax.Array) -> jax.Array:
        rest = like.shape[3:]
        array = array.reshape(count * length, piece, *rest)[:rows]
        return array.reshape(bs, anchor, pieces * piece, *rest)[:, :, :pts]

    row = jnp.arange(count * length, dtype=jnp.int32).reshape(count, length) // pieces
    block = _Block(row // anchor, row % anchor, cut(locations, -1), cut(weight, 0))
    return block, restore


def _extend(array: jax.Array, axis: int, size: int, value: float) -> jax.Array:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return jnp.pad(array, widths, constant_values=value)


def _recomputed(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of a scan of which differentiation keeps the arguments only."""
    recomputed: Callable[..., Any] = jax.checkpoint(step, prevent_cse=False)
    return recomputed


def _within(
    spatial_shape: jax.Array, scale_start_index: jax.Array, num_feat: int
) -> jax.Array:
    """Which maps [cam, scale] lie within num_feat.

    Others can only come with values unknown while tracing, where nothing can fail.
    """
    height, width = spatial_shape[..., 0], spatial_shape[..., 1]
    rest = num_feat - jnp.clip(scale_start_index, 0, num_feat)
    positive = (height > 0) & (width > 0) & (scale_start_index >= 0)
    # Divided, since a product of two int32 may wrap.
    return positive & (height <= rest // jnp.maximum(width, 1))


def _corners(
    spatial_shape: jax.Array,
    scale_start_index: jax.Array,
    locations: jax.Array,
    weight: jax.Array,
    *,
    num_feat: int,
    coordinate_order: str,
) -> tuple[jax.Array, jax.Array]:
    """What the four corners of every sample add to the result, and where they are.

    Returns:
        By scale, the coefficients [i, s, r, g] and the rows [i, s, r] of all corners
        r = (p, k, 4). One that does not count has coefficient zero and row num_feat.
    """
    visible = jnp.all((locations > 0) & (locations < 1), axis=-1, keepdims=True)
    exists = _within(spatial_shape, scale_start_index, num_feat)[None, None]
    # Chosen before any arithmetic, or what is not a number would reach the gradients.
    safe = jnp.where(visible, locations, 0.5)
    weight = jnp.where(visible[..., None], weight, 0)
    y = safe[..., coordinate_order.index("y"), None]
    x = safe[..., coordinate_order.index("x"), None]
    height, width = (spatial_shape[None, None, ..., axis] for axis in (0, 1))
    start = scale_start_index[None, None]
    h = y * height.astype(y.dtype) - 0.5
    w = x * width.astype(x.dtype) - 0.5
    # XLA may compute them twice and round in two ways, for rows and for coefficients.
    computed_once: Any = jax.lax.optimization_barrier
    h, w = computed_once((h, w))
    top, left = jnp.floor(h), jnp.floor(w)
    below, right = h - top, w - left

    parts, rows = [], []
    for i, vertical in enumerate((1 - below, below)):
        for j, horizontal in enumerate((1 - right, right)):
            r, q = top.astype(jnp.int32) + i, left.astype(jnp.int32) + j
            row = start + r * width + q
            inside = (r >= 0) & (r < height) & (q >= 0) & (q < width)
            counts = visible & inside & exists
            parts.append(jnp.where(counts, vertical * horizontal, 0))
            rows.append(jnp.where(counts, row, num_feat))
    coefficients = jnp.stack(parts, -1)[..., None] * weight[..., None, :]
    length, scale, group = len(locations), *weight.shape[-2:]
    return (
        jnp.moveaxis(coefficients, 3, 1).reshape(length, scale, -1, group),
        jnp.moveaxis(jnp.stack(rows, -1), 3, 1).reshape(length, scale, -1),
    )


def _tuned(platform: str) -> dict[str, int]:
    known = {"cpu": BLOCK, "cuda": BLOCK_ON_CUDA}
    return {"block_size": known.get(platform, BLOCK_ON_ACCELERATORS)}


BACKEND = Backend(
    name="reference",
    platforms=(ANY,),
    operations={"forward": forward, "tangent": tangent, "backward": backward},
    tuned=_tuned,
    find=lambda: Found(True, "jax.numpy"),
)
