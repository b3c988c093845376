"""Parameters at the start of training, as upstream's training draws them."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jda.sparse4d.boxes import ANCHOR_DIMS
from jda.sparse4d.config import LayerConfig
from jda.sparse4d.names import Shapes
from jda.sparse4d.nn import Params
from jda.sparse4d.weights import tree

ZERO = re.compile(  # weights_fc too, so that the softmax starts uniform
    r"instance_feature|anchor_handler\.fix_scale|weights_fc\.\w+|attn\.in_proj_bias"
    r"|(learnable_fc|output_proj|attn\.out_proj)\.bias"
)
CLASS_BIAS = re.compile(r"cls_layers\.6\.bias")
RARE = -math.log(99)  # one instance in a hundred is something
SPREAD = 50.0  # metres from the vehicle, of anchors that no data set has placed
CAR = (math.log(4.6), math.log(1.95), math.log(1.7))


def draw(
    key: jax.Array,
    shapes: Shapes,
    config: LayerConfig,
    is_xavier: Callable[[str], bool],
    dtype: Any,
) -> Params:
    """Draws every parameter by its name.

    One exception from upstream: ``fix_scale`` is the table of the configuration, which
    upstream's training overwrites with random numbers before it freezes it.

    Args:
        key: of the random numbers.
        shapes: shape by name.
        config: of the layers.
        is_xavier: by name, whether weights are Xavier's; the others are PyTorch's.
        dtype: of all parameters.
    """
    keys = jax.random.split(key, len(shapes))
    found = {}
    for (name, shape), own in zip(shapes.items(), keys, strict=True):
        if name.endswith("kps_generator.fix_scale"):
            found[name] = jnp.asarray(config.fix_scale, dtype).reshape(shape)
        elif name == "instance_bank.anchor":
            found[name] = _anchors(own, shape[0], dtype)
        else:
            found[name] = _draw(own, name, shapes, is_xavier(name), dtype)
    return tree(found)


def _draw(
    key: jax.Array, name: str, shapes: Shapes, is_xavier: bool, dtype: Any
) -> jax.Array:
    shape = shapes[name]
    owner, _, kind = name.rpartition(".")
    weight = shapes.get(f"{owner}.weight", shape)
    if ZERO.search(name):
        return jnp.zeros(shape, dtype)
    if CLASS_BIAS.search(name):
        return jnp.full(shape, RARE, dtype)
    if len(weight) == 1:  # of a layer norm, or the scale of a refinement
        return jnp.full(shape, kind != "bias", dtype)
    bound = 1 / math.sqrt(weight[-1])
    if is_xavier and len(shape) == 2:
        bound = math.sqrt(6 / sum(shape))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _anchors(key: jax.Array, number: int, dtype: Any) -> jax.Array:
    """Cars all around that stand still; clusters of a data set's boxes are better."""
    place = jax.random.uniform(key, (number, 2), dtype, -SPREAD, SPREAD)
    rest = jnp.asarray([-0.8, *CAR, 0, 1, 0, 0, 0], dtype)[None]
    rest = jnp.broadcast_to(rest, (number, ANCHOR_DIMS - 2))
    return jnp.concatenate([place, rest], axis=1)
