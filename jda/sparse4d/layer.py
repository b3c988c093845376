"""Deformable feature aggregation: instances look at the feature maps."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jda import _check
from jda._operator import deformable_aggregation
from jda.diagnosis import visible
from jda.sparse4d import initial, names
from jda.sparse4d.config import LayerConfig
from jda.sparse4d.keypoints import key_points
from jda.sparse4d.nn import Params, dropout, kept, linear, split
from jda.sparse4d.projection import project_points
from jda.sparse4d.sampling_weights import sampling_weights
from jda.sparse4d.weights import frozen


def init(key: jax.Array, config: LayerConfig, dtype: Any = jnp.float32) -> Params:
    """Parameters as upstream's training starts: softmax uniform, offsets Xavier.

    The tree has the names, shapes and layouts of the PyTorch module's state dict.

    Args:
        key: of the draw.
        config: sizes.
        dtype: of the parameters, a floating one.

    Returns:
        A nested dict of arrays.
    """
    return initial.draw(key, names.of_layer(config), config, lambda _: True, dtype)


def apply(
    params: Params,
    config: LayerConfig,
    instance_feature: jax.Array,
    anchor: jax.Array,
    anchor_embed: jax.Array,
    feature_maps: Iterable[Any],
    projection_mat: jax.Array,
    image_wh: jax.Array,
    *,
    key: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Samples the feature maps at the key points of every anchor.

    Args:
        params: from :func:`init` or a state dict.
        config: static under ``jax.jit``.
        instance_feature: [bs, anchor, embed_dims].
        anchor: [bs, anchor, 11].
        anchor_embed: [bs, anchor, embed_dims].
        feature_maps: the packed triple of :func:`jda.pack_feature_maps`.
        projection_mat: from the LiDAR's frame to pixels times depth [bs, cam, 4, 4].
        image_wh: (width, height) of the images that ``projection_mat`` knows, in
            pixels [bs, cam, 2].
        key: of the drop-outs in training; None in evaluation.
        implementation: of the operator, see :func:`jda.deformable_aggregation`.

    Returns:
        [bs, anchor, config.output_dims]; with ``residual_mode="cat"`` the result first,
        then ``instance_feature``.
    """
    maps, spatial_shape, scale_start_index = feature_maps
    locations, weight = samples(
        params,
        config,
        instance_feature,
        anchor,
        anchor_embed,
        projection_mat,
        image_wh,
    )
    drop_pairs, drop_output = split(key, 2)
    if drop_pairs is not None and config.attn_drop:
        pairs = (*weight.shape[:4], 1, 1)
        weight = weight * kept(drop_pairs, config.attn_drop, pairs, weight.dtype)
    if weight.dtype not in _check.WEIGHTS.get(maps.dtype, ()):
        weight = weight.astype(maps.dtype)
    sampled = deformable_aggregation(
        maps,
        spatial_shape,
        scale_start_index,
        locations.astype(_check.LOCATIONS.get(maps.dtype, locations.dtype)),
        weight,
        coordinate_order="xy",
        implementation=implementation,
    )
    result = linear(params["output_proj"], sampled.astype(instance_feature.dtype))
    result = dropout(drop_output, config.proj_drop, result)
    if config.residual_mode == "cat":
        return jnp.concatenate([result, instance_feature], axis=-1)
    return result + instance_feature if config.residual_mode == "add" else result


def samples(
    params: Params,
    config: LayerConfig,
    instance_feature: jax.Array,
    anchor: jax.Array,
    anchor_embed: jax.Array,
    projection_mat: jax.Array,
    image_wh: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Where a layer looks, and what each sample weighs, before any drop-out.

    For pictures of it (:mod:`jda.plot`) and for :func:`jda.diagnose`.

    Args:
        params: as of :func:`apply`.
        config: likewise.
        instance_feature: likewise.
        anchor: likewise.
        anchor_embed: likewise.
        projection_mat: likewise.
        image_wh: likewise.

    Returns:
        Locations (x, y) [bs, anchor, pts, cam, 2], which the operator takes with
        ``coordinate_order="xy"``, and weights [bs, anchor, pts, cam, scale, group].
    """
    if config.freeze:
        params = frozen(params)
    points = key_points(params["kps_generator"], config, anchor, instance_feature)
    locations = project_points(points, projection_mat, image_wh)
    seen = visible(locations) if config.mask_invisible else None
    weight = sampling_weights(
        params, config, instance_feature + anchor_embed, projection_mat, seen
    )
    return locations, weight
