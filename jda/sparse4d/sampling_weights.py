"""The weight of every sample: a softmax over cameras, scales and key points."""

import jax
import jax.numpy as jnp
import numpy as np

from jda.sparse4d.config import LayerConfig
from jda.sparse4d.nn import Params, linear, mlp

CAMERA_LOOPS = (1, 2)


def sampling_weights(
    params: Params,
    config: LayerConfig,
    feature: jax.Array,
    projection_mat: jax.Array,
    visible: jax.Array | None = None,
) -> jax.Array:
    """Weights in the layout of the operator.

    For each instance and group they add up to one over all cameras, scales and key
    points, those outside of the images included.

    Args:
        params: ``weights_fc`` and, with a camera embedding, ``camera_encoder``.
        config: of the layer.
        feature: of the instances, embedding added [bs, anchor, embed_dims].
        projection_mat: [bs, cam, 4, 4]; its first three rows are embedded as they are.
        visible: pairs that take part in the softmax [bs, anchor, pts, cam]. Where an
            anchor has none, its weights are those of equal logits.

    Returns:
        [bs, anchor, pts, cam, scale, group].
    """
    if not config.use_camera_embed:
        logits = linear(params["weights_fc"], feature)
        logits = logits.reshape(*logits.shape[:-1], config.num_cams, -1)
        return _softmax(_split(config, logits), visible)
    matrices = projection_mat[..., :3, :].reshape(*projection_mat.shape[:-2], 12)
    camera = mlp(params["camera_encoder"], matrices, *CAMERA_LOOPS)
    # The last layer is linear, and so the logit of an instance in a camera is the sum
    # of what the two give alone: a sixth of the products.
    of_anchor = _split(config, linear(params["weights_fc"], feature)[:, :, None])
    weight = {"weight": params["weights_fc"]["weight"]}
    of_camera = _split(config, linear(weight, camera)[:, None])
    if visible is not None:
        return _softmax(of_anchor + of_camera, visible)
    return _softmax_of_sum(of_anchor, of_camera)


def _split(config: LayerConfig, logits: jax.Array) -> jax.Array:
    """[bs, anchor, cam, scale * pts * group] as the operator has them."""
    sizes = config.num_levels, config.num_pts, config.num_groups
    return logits.reshape(*logits.shape[:3], *sizes).transpose(0, 1, 4, 2, 3, 5)


def _softmax(logits: jax.Array, visible: jax.Array | None) -> jax.Array:
    if visible is not None:
        # Finite, so that there is no NaN where nothing is visible.
        lowest = float(np.finfo(logits.dtype).min)
        logits = jnp.where(visible[..., None, None], logits, lowest)
    return jax.nn.softmax(logits, axis=(2, 3, 4))


def _softmax_of_sum(of_anchor: jax.Array, of_camera: jax.Array) -> jax.Array:
    """The softmax of ``of_anchor + of_camera``, with exponentials of the two alone.

    The exponential of a sum is a product. The highest logit of a camera goes over to
    the anchor first; then every factor is at most 1, and the largest product is 1.

    Args:
        of_anchor: [bs, anchor, pts, 1, scale, group].
        of_camera: [bs, 1, pts, cam, scale, group].
    """
    highest = jax.lax.stop_gradient(of_camera.max(axis=3, keepdims=True))
    camera = jnp.exp(of_camera - highest)
    of_anchor = of_anchor + highest
    highest = jax.lax.stop_gradient(of_anchor.max(axis=(2, 4), keepdims=True))
    anchor = jnp.exp(of_anchor - highest)
    total = anchor * camera.sum(axis=3, keepdims=True)
    anchor = anchor / total.sum(axis=(2, 4), keepdims=True)
    # Camera by camera: XLA on the CPU takes fifty times as long for the gradient of a
    # product that is broadcast along both.
    cameras = jnp.split(camera, camera.shape[3], axis=3)
    return jnp.concatenate([anchor * one for one in cameras], axis=3)
