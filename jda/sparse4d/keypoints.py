"""Key points of a box: fixed and learned offsets in its own frame."""

import jax
import jax.numpy as jnp

from jda.sparse4d import boxes
from jda.sparse4d.config import LayerConfig
from jda.sparse4d.nn import Params, linear


def key_points(
    params: Params, config: LayerConfig, anchor: jax.Array, feature: jax.Array
) -> jax.Array:
    """The key points of anchors.

    Args:
        params: ``fix_scale`` [fixed points, 3] and ``learnable_fc``.
        config: of the layer.
        anchor: [bs, anchor, 11].
        feature: of the instances, without embedding [bs, anchor, embed_dims].

    Returns:
        [bs, anchor, pts, 3]: first the fixed points, then the learned ones. Sine and
        cosine of the anchor rotate them as they are: one that is longer than 1 also
        scales.
    """
    size = jnp.exp(anchor[..., None, boxes.SIZE])
    offsets = params["fix_scale"][None, None] * size
    if config.num_learnable_pts:
        moves = jax.nn.sigmoid(linear(params["learnable_fc"], feature)) - 0.5
        moves = moves.reshape(*feature.shape[:-1], config.num_learnable_pts, 3)
        offsets = jnp.concatenate([offsets, moves * size], axis=-2)
    return _rotate(offsets, anchor) + anchor[..., None, boxes.CENTRE]


def _rotate(points: jax.Array, anchor: jax.Array) -> jax.Array:
    """Points [..., pts, 3] about the z axis, by the yaw of their anchor [..., 11]."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    sin, cos = anchor[..., boxes.SIN, None], anchor[..., boxes.COS, None]
    return jnp.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1)
