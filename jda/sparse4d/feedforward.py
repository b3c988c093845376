"""The feed-forward network between aggregation and refinement."""

import jax

from jda.sparse4d.nn import Params, dropout, layer_norm, linear, split


def feed_forward(
    params: Params, x: jax.Array, rate: float = 0.0, key: jax.Array | None = None
) -> jax.Array:
    """Two linear layers with a ReLU between, and a linear residual.

    Layers and residual both start from the normalised input.

    Args:
        params: ``pre_norm``, ``layers`` and ``identity_fc``.
        x: [bs, anchor, channels in].
        rate: of the drop-out after each of the two.
        key: of the drop-out; None in evaluation.

    Returns:
        [bs, anchor, channels out].
    """
    on_hidden, on_output = split(key, 2)
    x = layer_norm(params["pre_norm"], x)
    hidden = jax.nn.relu(linear(params["layers"]["0"]["0"], x))
    output = linear(params["layers"]["1"], dropout(on_hidden, rate, hidden))
    return linear(params["identity_fc"], x) + dropout(on_output, rate, output)
