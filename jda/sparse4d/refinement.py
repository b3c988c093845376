"""What ends a decoder: a better anchor, and what it is."""

import jax
import jax.numpy as jnp

from jda.sparse4d import boxes
from jda.sparse4d.names import BRANCH_LOOPS, REGRESSION_LOOPS
from jda.sparse4d.nn import Params, linear, mlp


def refine(
    params: Params,
    feature: jax.Array,
    anchor: jax.Array,
    anchor_embed: jax.Array,
    time_interval: jax.Array,
) -> jax.Array:
    """The refined anchors [bs, anchor, 11].

    All numbers are moved by the output. That of the velocity is a displacement during
    ``time_interval``.

    Args:
        params: ``layers``, of which the last is a scale for each output.
        feature: [bs, anchor, embed_dims].
        anchor: [bs, anchor, 11].
        anchor_embed: [bs, anchor, embed_dims].
        time_interval: seconds [bs].
    """
    layers = params["layers"]
    output = mlp(layers, feature + anchor_embed, *REGRESSION_LOOPS)
    output = linear(layers["10"], output) * layers["11"]["scale"][None, None]
    still, moved = output[..., : boxes.VELOCITY.start], output[..., boxes.VELOCITY]
    change = [still, moved / time_interval[:, None, None]]
    return anchor + jnp.concatenate(change, axis=-1)


def classify(params: Params, feature: jax.Array) -> jax.Array:
    """Logits of the classes, of the feature without embedding."""
    return _branch(params["cls_layers"], feature)


def estimate_quality(
    params: Params, feature: jax.Array, anchor_embed: jax.Array
) -> jax.Array:
    """Logits of centerness and yawness, of the feature with embedding."""
    return _branch(params["quality_layers"], feature + anchor_embed)


def _branch(params: Params, x: jax.Array) -> jax.Array:
    return linear(params["6"], mlp(params, x, *BRANCH_LOOPS))
