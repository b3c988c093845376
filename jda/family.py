"""Relatives of the operator, under the names and with the signatures that models use.

All of them put x first, as the models do. The first two follow the operator's rule at
the border: a sample counts only where 0 < x < 1 and 0 < y < 1. The last one follows
that of ``grid_sample``: up to half a pixel outside of a map it fades to zero.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from jda import _check, _compat, _depth, _operator
from jda._dimensions import Operands
from jda.packing import reminds_to_unpack


def deformable_aggregation_func(
    mc_ms_feat: ArrayLike,
    spatial_shape: ArrayLike,
    scale_start_index: ArrayLike,
    sampling_location: ArrayLike,
    weights: ArrayLike,
    depth_prob: ArrayLike | None = None,
    depth: ArrayLike | None = None,
    *,
    implementation: str | None = None,
) -> jax.Array:
    """Aggregation with a result for each point, and with depth where it is given.

    The operator of GaussianFormer, BIP3D, RoboOrchardLab, SparseDriveV2 and of the code
    of Sparse4D v1 and v2. All cameras have maps of equal sizes. Where the points are
    summed afterwards, :func:`jda.deformable_aggregation` sums them itself, and is
    faster.

    Dtypes are those of :func:`jda.deformable_aggregation`; depths and their
    probabilities may be any floats or integers.

    Args:
        mc_ms_feat: the maps of each camera [bs, cam, rows, c].
        spatial_shape: (H, W) of each scale [scale, 2].
        scale_start_index: first row of each scale within a camera [scale].
        sampling_location: (x, y), x first [bs, pts, cam, 2].
        weights: [bs, pts, cam, scale, group].
        depth_prob: of each pixel, how probable each depth bin is [bs, cam, rows, bins].
        depth: of each point in each camera, in bins [bs, pts, cam, 1]; see
            :func:`~jda.family.deformable_aggregation_with_depth`.
        implementation: as of :func:`jda.deformable_aggregation`.

    Returns:
        [bs, pts, c].

    Raises:
        ValueError: if a shape or value does not fit, or only one of ``depth_prob`` and
            ``depth`` is given.
        TypeError: if a dtype is not supported.
    """
    if (depth_prob is None) != (depth is None):
        missing = "depth" if depth is None else "depth_prob"
        raise ValueError(
            f"{missing} is missing: give both depth_prob and depth, or none"
        )
    terms: dict[str, tuple[Any, str]] = {
        "mc_ms_feat": (mc_ms_feat, "bs cam rows c"),
        "sampling_location": (sampling_location, "bs pts cam 2"),
        "weights": (weights, "bs pts cam scale group"),
    }
    if depth is not None:
        terms["depth_prob"] = (depth_prob, "bs cam rows bins")
        terms["depth"] = (depth, "bs pts cam 1")
    floats = _arrays(terms)
    operator = list(terms)[:3]
    _check.floating_dtypes(*((name, floats[name]) for name in operator))
    features, locations, weight = (floats[name] for name in operator)
    bs, cam, rows, c = features.shape
    _check.groups("weights", weight.shape[-1], c)
    arguments = Operands(
        features.reshape(bs, cam * rows, c),
        *_for_each_camera(spatial_shape, scale_start_index, cam, rows),
        locations[:, :, None],
        weight[:, :, None],
    )
    options: Any = {"coordinate_order": "xy", "implementation": implementation}
    if depth is None:
        return _operator.deformable_aggregation(*arguments, **options)
    return deformable_aggregation_with_depth(
        *arguments,
        floats["depth_prob"].reshape(bs, cam * rows, floats["depth_prob"].shape[-1]),
        floats["depth"][:, :, None, :, 0],
        **options,
    )


@reminds_to_unpack
def deformable_aggregation_with_depth(
    feature_maps: ArrayLike,
    spatial_shape: ArrayLike,
    scale_start_index: ArrayLike,
    sample_locations: ArrayLike,
    weight: ArrayLike,
    depth_prob: ArrayLike,
    depth: ArrayLike,
    *,
    coordinate_order: str = "xy",
    implementation: str | None = None,
) -> jax.Array:
    """:func:`jda.deformable_aggregation` where each pixel has probabilities of depth.

    A sample counts if it is visible and -1 < d < bins. Each of its four corners is
    weighted by the probability of that pixel, linearly interpolated between the bins
    floor(d) and floor(d) + 1; bins that do not exist count as zero. All arguments but
    the index arrays have gradients, ``depth_prob`` and ``depth`` included. It is
    written on top of the operator, so that it runs wherever that does; on the CPU at
    about four times its cost (Sparse4D v3's shape, 64 bins).

    Dtypes are those of :func:`jda.deformable_aggregation`; depths and their
    probabilities may be any floats or integers.

    Args:
        feature_maps: [bs, num_feat, c].
        spatial_shape: [cam, scale, 2].
        scale_start_index: [cam, scale].
        sample_locations: [bs, anchor, pts, cam, 2], x first by default.
        weight: [bs, anchor, pts, cam, scale, group].
        depth_prob: [bs, num_feat, bins].
        depth: d, in bins [bs, anchor, pts, cam].
        coordinate_order: ``"xy"`` or ``"yx"``.
        implementation: as of :func:`jda.deformable_aggregation`.

    Returns:
        [bs, anchor, c].

    Raises:
        ValueError: if a shape or value does not fit.
        TypeError: if a dtype is not supported.
    """
    given = Operands(
        feature_maps, spatial_shape, scale_start_index, sample_locations, weight
    )
    _check.choice("coordinate_order", coordinate_order, _check.COORDINATE_ORDERS)
    operands = _check.arrays(given, coordinate_order)
    found = _arrays(
        {
            "feature_maps": (operands.feature_maps, "bs num_feat c"),
            "sample_locations": (operands.sample_locations, "bs anchor pts cam 2"),
            "depth_prob": (depth_prob, "bs num_feat bins"),
            "depth": (depth, "bs anchor pts cam"),
        }
    )
    for name in ("depth_prob", "depth"):
        _check.real(name, found[name])
    return _depth.aggregate(
        operands,
        found["depth_prob"].astype(operands.sample_locations.dtype),
        found["depth"].astype(operands.sample_locations.dtype),
        coordinate_order=coordinate_order,
        implementation=implementation,
    )


def multi_scale_deformable_attn(
    value: ArrayLike,
    value_spatial_shapes: ArrayLike,
    value_level_start_index: ArrayLike,
    sampling_locations: ArrayLike,
    attention_weights: ArrayLike,
    *,
    implementation: str | None = None,
) -> jax.Array:
    """Multi-scale deformable attention, with the signature of mmcv.

    The core of Deformable DETR, DINO, BEVFormer and Mask2Former. Samples are those of
    ``grid_sample`` (bilinear, zeros outside, ``align_corners=False``): up to half a
    pixel outside of a map they are interpolated between it and zero. For that, the maps
    are copied with a ring of zeros around them.

    Dtypes are those of :func:`jda.deformable_aggregation`.

    Args:
        value: [bs, num_keys, num_heads, dim].
        value_spatial_shapes: (H, W) of each level [num_levels, 2]; values are known.
        value_level_start_index: first key of each level [num_levels]; values are known.
        sampling_locations: (x, y), x first, in (0, 1) within a map
            [bs, num_queries, num_heads, num_levels, num_points, 2].
        attention_weights: [bs, num_queries, num_heads, num_levels, num_points].
        implementation: as of :func:`jda.deformable_aggregation`.

    Returns:
        [bs, num_queries, num_heads * dim].

    Raises:
        ValueError: if a shape or value does not fit.
        TypeError: if a dtype is not supported, or an index array is traced.
    """
    levels = "bs num_queries num_heads num_levels num_points"
    found = _arrays(
        {
            "value": (value, "bs num_keys num_heads dim"),
            "value_spatial_shapes": (
                _check.static("value_spatial_shapes", value_spatial_shapes),
                "num_levels 2",
            ),
            "value_level_start_index": (
                _check.static("value_level_start_index", value_level_start_index),
                "num_levels",
            ),
            "sampling_locations": (sampling_locations, f"{levels} 2"),
            "attention_weights": (attention_weights, levels),
        }
    )
    floats = "value", "sampling_locations", "attention_weights"
    _check.floating_dtypes(*((name, found[name]) for name in floats))
    features, shapes, starts, locations, weight = found.values()
    bs, _, heads, dim = features.shape
    queries, points = weight.shape[1], weight.shape[4]
    padded, ringed = _with_rings(features, shapes, starts)
    size = shapes[None, None, None, :, None, ::-1].astype(locations.dtype)  # (W, H)
    locations = (locations * size + 1) / (size + 2)
    # Heads have locations of their own: they go with the batch. Levels are cameras.
    locations = locations.transpose(0, 2, 1, 4, 3, 5)
    weight = weight.transpose(0, 2, 1, 4, 3)
    sizes = bs * heads, queries, points, len(shapes)
    areas = ringed.prod(axis=-1)
    out = _operator.deformable_aggregation(
        padded,
        ringed[:, None],
        (areas.cumsum() - areas)[:, None],
        locations.reshape(*sizes, 2),
        weight.reshape(*sizes, 1, 1),
        coordinate_order="xy",
        implementation=implementation,
    )
    out = out.reshape(bs, heads, queries, dim).swapaxes(1, 2)
    return out.reshape(bs, queries, heads * dim)


def _with_rings(
    value: jax.Array, shapes: npt.NDArray[Any], starts: npt.NDArray[Any]
) -> tuple[jax.Array, npt.NDArray[Any]]:
    """Each head's maps [bs * heads, keys, dim], in rings of zeros, and their sizes."""
    bs, num_keys, heads, dim = value.shape
    by_head = value.swapaxes(1, 2).reshape(bs * heads, num_keys, dim)
    maps = []
    sizes = zip(shapes.tolist(), starts.tolist(), strict=True)
    for level, ((height, width), start) in enumerate(sizes):
        if height <= 0 or width <= 0:
            raise ValueError(
                f"value_spatial_shapes[{level}] is ({height}, {width}), both sizes "
                "must be positive"
            )
        if start < 0 or start + height * width > num_keys:
            raise ValueError(
                f"value_level_start_index has {start} and value_spatial_shapes "
                f"({height}, {width}), but value has num_keys={num_keys}"
            )
        rows = by_head[:, start : start + height * width]
        inner = rows.reshape(bs * heads, height, width, dim)
        ringed = jnp.pad(inner, ((0, 0), (1, 1), (1, 1), (0, 0)))
        maps.append(ringed.reshape(bs * heads, (height + 2) * (width + 2), dim))
    if not maps:
        raise ValueError(
            "value_spatial_shapes has num_levels=0, one is needed at least"
        )
    return jnp.concatenate(maps, axis=1), shapes + 2


def _for_each_camera(
    spatial_shape: ArrayLike, scale_start_index: ArrayLike, cam: int, rows: int
) -> tuple[Any, Any]:
    """Index arrays of one camera, for cameras that lie one after the other."""
    shape = _index("spatial_shape", spatial_shape)
    start = _index("scale_start_index", scale_start_index)
    _arrays(
        {
            "spatial_shape": (shape, "scale 2"),
            "scale_start_index": (start, "scale"),
        }
    )
    # Where a row lies beyond int32, num_feat is refused: the sums may wrap if traced.
    first = np.arange(cam, dtype=np.int64)[:, None] * rows
    if _compat.is_traced(start):
        first = first.astype(np.int32)
    library: Any = jnp if _compat.is_traced(shape) else np
    return library.broadcast_to(shape, (cam, *shape.shape)), start[None] + first


def _index(name: str, value: ArrayLike) -> Any:
    """An index array in int32, in numpy where its values are known."""
    if not _compat.is_traced(value):
        return _check.static(name, value)
    array = _check.array(name, value)
    _check.integers(name, array)
    return _operator.as_int32(array)


def _arrays(terms: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """The arrays, if they have the shapes that their terms name."""
    found: dict[str, Any] = {}
    sizes: dict[str, tuple[str, Any]] = {}
    for name, (value, axes) in terms.items():
        is_index = isinstance(value, np.ndarray) and value.dtype.kind in "iu"
        array = value if is_index else _check.array(name, value)  # indices stay numpy
        dims = axes.split()
        fits = array.ndim == len(dims) and all(
            not dim.isdigit() or size == int(dim)
            for dim, size in zip(dims, array.shape, strict=True)
        )
        if not fits:
            expected = ", ".join(dims)
            raise ValueError(f"{name} has shape {array.shape}, expected [{expected}]")
        for dim, size in zip(dims, array.shape, strict=True):
            first, known = sizes.setdefault(dim, (name, size))
            if size != known:
                raise ValueError(
                    f"{name} has {dim}={size} but {first} has {dim}={known}, they must "
                    "be equal"
                )
        found[name] = array
    return found
