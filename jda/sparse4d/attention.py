"""Attention between instances, with the embeddings beside the features."""

import math

import jax
import jax.numpy as jnp

from jda.sparse4d.nn import Params, dropout, linear, split


def decoupled_attention(
    params: Params,
    fc_after: Params,
    num_heads: int,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    rate: float = 0.0,
    random_key: jax.Array | None = None,
) -> jax.Array:
    """Sparse4D's graph attention, on features and embeddings in concatenation.

    The only residual is inside.

    Args:
        params: ``attn``, multi-head attention as PyTorch has it.
        fc_after: linear layer behind the residual; all attentions share it.
        num_heads: heads.
        query: (feature, embedding) [bs, anchor, 2 * embed_dims].
        key: (feature, embedding) [bs, keys, 2 * embed_dims].
        value: [bs, keys, 2 * embed_dims].
        mask: which keys there are [bs, keys]; None for all.
        rate: of the drop-out, on the probabilities and on the output.
        random_key: of the drop-out; None in evaluation.

    Returns:
        [bs, anchor, embed_dims].
    """
    on_probability, on_output = split(random_key, 2)
    parts = zip(
        jnp.split(params["attn"]["in_proj_weight"], 3),
        jnp.split(params["attn"]["in_proj_bias"], 3),
        (query, key, value),
        strict=True,
    )
    q, k, v = (
        _heads(linear({"weight": weight, "bias": bias}, x), num_heads)
        for weight, bias, x in parts
    )
    logits = jnp.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, -jnp.inf)
    probability = dropout(on_probability, rate, jax.nn.softmax(logits, axis=-1))
    attended = jnp.einsum("bhqk,bkhc->bqhc", probability, v).reshape(query.shape)
    output = linear(params["attn"]["out_proj"], attended)
    return linear(fc_after, query + dropout(on_output, rate, output))


def _heads(x: jax.Array, num_heads: int) -> jax.Array:
    return x.reshape(*x.shape[:-1], num_heads, -1)
