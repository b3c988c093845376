"""The few building blocks that every part shares, on parameters as PyTorch has them."""

from typing import Any

import jax
import jax.numpy as jnp

Params = dict[str, Any]

EPSILON = 1e-5  # of the variance in a layer norm


def linear(params: Params, x: jax.Array) -> jax.Array:
    """Gives x · weightᵀ + bias, or no bias where there is none; weight is [out, in]."""
    y = jnp.einsum("...i,oi->...o", x, params["weight"])
    return y + _last(params["bias"], y) if "bias" in params else y


def layer_norm(params: Params, x: jax.Array) -> jax.Array:
    """Normalises the last axis with PyTorch's epsilon, then scales and shifts it."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(variance + EPSILON)
    return normal * _last(params["weight"], x) + _last(params["bias"], x)


def mlp_layers(in_loops: int, out_loops: int) -> list[str]:
    """The layers of Sparse4D's perceptron, in order; positions number parameters.

    ``out_loops`` times: ``in_loops`` times a linear layer and a ReLU, then a norm.
    """
    return (["linear", "relu"] * in_loops + ["norm"]) * out_loops


def mlp(params: Params, x: jax.Array, in_loops: int, out_loops: int) -> jax.Array:
    """Sparse4D's perceptron, see :func:`mlp_layers`."""
    for number, layer in enumerate(mlp_layers(in_loops, out_loops)):
        if layer == "relu":
            x = jax.nn.relu(x)
        else:
            apply = linear if layer == "linear" else layer_norm
            x = apply(params[str(number)], x)
    return x


def dropout(key: jax.Array | None, rate: float, x: jax.Array) -> jax.Array:
    """Zeroes a share of the values and scales the others; nothing without a key."""
    return x if key is None or not rate else x * kept(key, rate, x.shape, x.dtype)


def kept(
    key: jax.Array, rate: float, shape: tuple[int, ...], dtype: jnp.dtype
) -> jax.Array:
    """0 for a share ``rate`` of the elements, 1 / (1 - rate) for the others."""
    return jax.random.bernoulli(key, 1 - rate, shape).astype(dtype) / (1 - rate)


def split(key: jax.Array | None, number: int) -> list[jax.Array | None]:
    """That many keys; of no key, no keys."""
    return [None] * number if key is None else list(jax.random.split(key, number))


def rows(array: jax.Array, row: jax.Array) -> jax.Array:
    """Rows [bs, n] of an array [bs, rows, ...]."""
    index = row.reshape(*row.shape, *[1] * (array.ndim - 2))
    return jnp.take_along_axis(array, index, axis=1)


def _last(vector: jax.Array, like: jax.Array) -> jax.Array:
    """A vector with axes of one in front, as many as another array has."""
    return jnp.expand_dims(vector, tuple(range(like.ndim - 1)))
