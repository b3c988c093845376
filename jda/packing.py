"""Pyramids of per-scale arrays, to and from the arrays that the operator takes.

The maps are packed camera by camera and, within a camera, scale by scale, which is the
order of Sparse4D; each map is row-major over (h, w).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from jda import _check

LAYOUTS = ("bkchw", "bkhwc", "bchw", "bhwc")


class PackedFeatureMaps(NamedTuple):
    """The first three arguments of :func:`jda.deformable_aggregation`.

    Attributes:
        feature_maps: all maps, flattened and concatenated [bs, num_feat, c].
        spatial_shape: (H, W) of each map, int32 [cam, scale, 2].
        scale_start_index: first row of each map, int32 [cam, scale].
    """

    feature_maps: jax.Array
    spatial_shape: npt.NDArray[np.int32]
    scale_start_index: npt.NDArray[np.int32]


def pack_feature_maps(
    maps: Sequence[ArrayLike] | Sequence[Sequence[ArrayLike]], layout: str = "bkchw"
) -> PackedFeatureMaps:
    """Packs pyramids of feature maps into the first three arguments of the operator.

    Works under ``jax.jit`` and is differentiable. The index arrays are static numpy
    arrays.

    Args:
        maps: for cameras of equal sizes a sequence with one array for each scale; for
            cameras of different sizes a sequence with, for each camera, the sequence of
            its scales. All cameras have the same number of scales.
        layout: the axes of one array. ``"bkchw"`` [bs, cam, c, h, w] or ``"bkhwc"``
            [bs, cam, h, w, c] for cameras of equal sizes, ``"bchw"`` [bs, c, h, w] or
            ``"bhwc"`` [bs, h, w, c] for a sequence per camera. Layouts that end in c
            are packed without a transposition.

    Returns:
        A :class:`PackedFeatureMaps`.

    Raises:
        ValueError: if ``layout`` is unknown, there are no maps, or shapes do not fit.
        TypeError: if dtypes differ.

    Example:
        >>> import jax.numpy as jnp
        >>> import jda
        >>> scales = [jnp.ones((1, 6, 8, 16, 44)), jnp.ones((1, 6, 8, 8, 22))]
        >>> packed = jda.pack_feature_maps(scales, layout="bkchw")
        >>> packed.feature_maps.shape, packed.spatial_shape[0].tolist()
        ((1, 5280, 8), [[16, 44], [8, 22]])
    """
    _check.choice("layout", layout, LAYOUTS)
    cameras = [maps] if "k" in layout else maps
    pyramids = [
        [jnp.asarray(scale) for scale in camera]  # type: ignore[union-attr]
        for camera in cameras
    ]
    _check_pyramids(pyramids, layout)
    last = [[_channels_last(scale, layout) for scale in camera] for camera in pyramids]
    feature_maps = jnp.concatenate([_rows(camera) for camera in last], axis=1)
    sizes = [[scale.shape[-3:-1] for scale in camera] for camera in last]
    repeats = last[0][0].shape[1] if "k" in layout else 1
    spatial_shape = np.repeat(np.asarray(sizes, np.int32), repeats, axis=0)
    return PackedFeatureMaps(feature_maps, spatial_shape, _starts(spatial_shape))


def unpack_feature_maps(
    packed: PackedFeatureMaps | tuple[ArrayLike, ArrayLike, ArrayLike],
    layout: str = "bkchw",
) -> list[jax.Array] | list[list[jax.Array]]:
    """The inverse of :func:`pack_feature_maps`.

    Args:
        packed: feature maps [bs, num_feat, c] and the concrete index arrays of the
            operator; maps may lie in any order and share rows.
        layout: as in :func:`pack_feature_maps`.

    Returns:
        One array for each scale, or, in a layout without k, a list of these for each
        camera.

    Raises:
        ValueError: if ``layout`` is unknown, a map lies outside of the feature maps, or
            ``layout`` wants cameras of equal sizes and they are not.
        TypeError: if the index arrays are traced.
    """
    _check.choice("layout", layout, LAYOUTS)
    feature_maps, spatial_shape, scale_start_index = _check.packed(*packed)
    cameras = [
        [
            _map(feature_maps, size, start, layout)
            for size, start in zip(sizes, starts, strict=True)
        ]
        for sizes, starts in zip(
            spatial_shape.tolist(), scale_start_index.tolist(), strict=True
        )
    ]
    if "k" not in layout:
        return cameras
    if np.any(spatial_shape != spatial_shape[:1]):
        raise ValueError(
            f"layout={layout!r} needs cameras of equal sizes, but spatial_shape has "
            f"different ones; use {layout.replace('k', '')!r}"
        )
    return [jnp.stack(scale, axis=1) for scale in zip(*cameras, strict=True)]


def _check_pyramids(pyramids: list[list[jax.Array]], layout: str) -> None:
    if not pyramids or not pyramids[0]:
        raise ValueError("maps is empty, at least one feature map is needed")
    first = pyramids[0][0]
    for k, camera in enumerate(pyramids):
        if len(camera) != len(pyramids[0]):
            raise ValueError(
                f"maps[{k}] has {len(camera)} scales but maps[0] has "
                f"{len(pyramids[0])}, all cameras must have the same number"
            )
        for s, scale in enumerate(camera):
            name = f"maps[{s}]" if "k" in layout else f"maps[{k}][{s}]"
            _check_map(name, scale, first, layout)


def _check_map(name: str, scale: jax.Array, first: jax.Array, layout: str) -> None:
    labels = {"b": "bs", "k": "cam", "c": "c", "h": "h", "w": "w"}
    if scale.ndim != len(layout):
        expected = ", ".join(labels[axis] for axis in layout)
        raise ValueError(f"{name} has shape {scale.shape}, expected [{expected}]")
    for axis, size, known in zip(layout, scale.shape, first.shape, strict=True):
        if axis in "hw" and size == 0:
            raise ValueError(f"{name} has {axis}=0, maps must have pixels")
        if axis not in "hw" and size != known:
            raise ValueError(
                f"{name} has {labels[axis]}={size} but the first map has "
                f"{labels[axis]}={known}, they must be equal"
            )
    if scale.dtype != first.dtype:
        raise TypeError(
            f"{name} has dtype {scale.dtype} but the first map has dtype "
            f"{first.dtype}, they must be equal"
        )


def _channels_last(scale: jax.Array, layout: str) -> jax.Array:
    return jnp.moveaxis(scale, layout.index("c"), -1)


def _rows(camera: list[jax.Array]) -> jax.Array:
    """The maps of one camera, or of several of equal sizes, as rows [bs, rows, c]."""
    flat = [scale.reshape(*scale.shape[:-3], -1, scale.shape[-1]) for scale in camera]
    rows = jnp.concatenate(flat, axis=-2)
    return rows.reshape(rows.shape[0], -1, rows.shape[-1])


def _starts(spatial_shape: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    rows = spatial_shape.prod(axis=-1, dtype=np.int64)
    ends = rows.cumsum().reshape(rows.shape)
    starts: npt.NDArray[np.int32] = (ends - rows).astype(np.int32)
    return starts


def _map(
    feature_maps: jax.Array, size: list[int], start: int, layout: str
) -> jax.Array:
    height, width = size
    rows = feature_maps[:, start : start + height * width]
    scale = rows.reshape(rows.shape[0], height, width, rows.shape[-1])
    return jnp.moveaxis(scale, -1, layout.replace("k", "").index("c"))
