"""Sparse4D's own functions, by their names: x first in all locations."""

from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jda._operator import deformable_aggregation
from jda.family import deformable_aggregation_func
from jda.packing import (
    PackedFeatureMaps,
    pack_feature_maps,
    reminds_to_unpack,
    unpack_feature_maps,
)


@reminds_to_unpack
def deformable_aggregation_function(
    feature_maps: ArrayLike,
    spatial_shape: ArrayLike,
    scale_start_index: ArrayLike,
    sampling_location: ArrayLike,
    weights: ArrayLike,
) -> jax.Array:
    """Sparse4D's operator: :func:`jda.deformable_aggregation` with x first.

    Dtypes are those of :func:`jda.deformable_aggregation`, and so are the errors.

    Args:
        feature_maps: [bs, num_feat, c]; rows may belong to no map.
        spatial_shape: (H, W) of each map [cam, scale, 2].
        scale_start_index: [cam, scale].
        sampling_location: (x, y) [bs, anchor, pts, cam, 2].
        weights: [bs, anchor, pts, cam, scale, group].

    Returns:
        [bs, anchor, c].
    """
    return deformable_aggregation(
        feature_maps,
        spatial_shape,
        scale_start_index,
        sampling_location,
        weights,
        coordinate_order="xy",
    )


# v1 and v2 have a camera axis, and one result per point.
deformable_aggregation_function_v2 = deformable_aggregation_func


def feature_maps_format(
    feature_maps: Any, inverse: bool = False
) -> PackedFeatureMaps | list[list[jax.Array]]:
    """Sparse4D's packing of a pyramid, and back.

    Args:
        feature_maps: an array [bs, cam, c, h, w] for each scale, or a list of such
            lists, one for each group of cameras with maps of one size. Inverse: the
            packed triple.
        inverse: whether to unpack.

    Returns:
        The packed triple. Where there are several groups, the maps of the later ones
        start behind those of the earlier ones; upstream starts each at zero. Inverse:
        a list of scales for each run of cameras with maps of one size.
    """
    if inverse:
        return _unpack(PackedFeatureMaps(*feature_maps))
    return pack_feature_maps(feature_maps, layout="bkchw")


def _unpack(packed: PackedFeatureMaps) -> list[list[jax.Array]]:
    maps, shapes = packed.feature_maps, np.asarray(packed.spatial_shape)
    starts = np.asarray(packed.scale_start_index)
    changes = (shapes[1:] != shapes[:-1]).any(axis=(1, 2)).nonzero()[0] + 1
    groups = zip(np.split(shapes, changes), np.split(starts, changes), strict=True)
    return [
        list(unpack_feature_maps((maps, shape, start), layout="bkchw"))  # type: ignore[arg-type]
        for shape, start in groups
    ]
