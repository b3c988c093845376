"""The readable definition of the operator, asked for by name."""

import jax
from jax.typing import ArrayLike

from jda import _operator
from jda.packing import reminds_to_unpack


@reminds_to_unpack
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
    """:func:`jda.deformable_aggregation` with ``implementation="reference"``.

    It is computed in ``jax.numpy``, on every platform of XLA, and JAX differentiates it
    to any order; ``jda/_reference.py`` is the definition to read.

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
    return _operator.deformable_aggregation(
        feature_maps,
        spatial_shape,
        scale_start_index,
        sample_locations,
        weight,
        coordinate_order=coordinate_order,
        implementation="reference",
        differentiation=differentiation,
    )
