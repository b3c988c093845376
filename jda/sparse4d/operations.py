"""The operations of the head one by one: from instances to their new feature."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jda.sparse4d import layer
from jda.sparse4d.attention import decoupled_attention
from jda.sparse4d.config import DecoderConfig
from jda.sparse4d.feedforward import feed_forward
from jda.sparse4d.instance_bank import History
from jda.sparse4d.nn import Params, layer_norm, linear


class Metas(NamedTuple):
    """What belongs to the images of a frame.

    Attributes:
        projection_mat: from the vehicle's frame to pixels times depth [bs, cam, 4, 4].
        image_wh: (width, height) in pixels [bs, cam, 2].
        time_interval: seconds since the frame before [bs]; with a state only. See
            :func:`jda.sparse4d.ego_motion` for it and the next.
        T_temp2cur: from the vehicle's frame of then to that of now [bs, 4, 4].
    """

    projection_mat: jax.Array
    image_wh: jax.Array
    time_interval: jax.Array | None = None
    T_temp2cur: jax.Array | None = None


class Frame(NamedTuple):
    """What stays the same during a frame.

    Attributes:
        params: of the head.
        config: of the head.
        feature_maps: the packed triple.
        metas: what belongs to the images.
        history: the cached instances; None on a first frame.
        implementation: of the operator.
    """

    params: Params
    config: DecoderConfig
    feature_maps: tuple[Any, ...]
    metas: Metas
    history: History | None
    implementation: str | None


class Instances(NamedTuple):
    """What the operations work on.

    Attributes:
        feature: [bs, num_anchor, embed_dims].
        anchor: [bs, num_anchor, 11].
        embed: embedding of the anchors [bs, num_anchor, embed_dims].
        temp_embed: that of the cached anchors [bs, num_temp_instances, embed_dims];
            None on a first frame.
    """

    feature: jax.Array
    anchor: jax.Array
    embed: jax.Array
    temp_embed: jax.Array | None


Operation = Callable[[Frame, Params, Instances, jax.Array | None], jax.Array]


def _norm(_: Frame, own: Params, now: Instances, __: jax.Array | None) -> jax.Array:
    return layer_norm(own, now.feature)


def _ffn(frame: Frame, own: Params, now: Instances, key: jax.Array | None) -> jax.Array:
    return feed_forward(own, now.feature, frame.config.dropout, key)


def _deformable(
    frame: Frame, own: Params, now: Instances, key: jax.Array | None
) -> jax.Array:
    return layer.apply(
        own,
        frame.config.layer,
        now.feature,
        now.anchor,
        now.embed,
        frame.feature_maps,
        frame.metas.projection_mat,
        frame.metas.image_wh,
        key=key,
        implementation=frame.implementation,
    )


def _gnn(frame: Frame, own: Params, now: Instances, key: jax.Array | None) -> jax.Array:
    value = linear(frame.params["fc_before"], now.feature)
    return _attend(frame, own, now, key, _joined(now), value)


def _temp_gnn(
    frame: Frame, own: Params, now: Instances, key: jax.Array | None
) -> jax.Array:
    return _attend(frame, own, now, key, *_of_the_past(frame, now))


OPERATIONS: dict[str, Operation] = {
    "norm": _norm,
    "ffn": _ffn,
    "deformable": _deformable,
    "gnn": _gnn,
    "temp_gnn": _temp_gnn,
}


def _attend(
    frame: Frame, own: Params, now: Instances, key: jax.Array | None, *to: Any
) -> jax.Array:
    return decoupled_attention(
        own,
        frame.params["fc_after"],
        frame.config.num_heads,
        _joined(now),
        *to,
        rate=frame.config.dropout,
        random_key=key,
    )


def _of_the_past(
    frame: Frame, now: Instances
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Keys, values and mask of the attention to cached instances.

    An element without a frame before attends to itself instead, with the keys for
    values too: upstream leaves out ``fc_before`` there. Where only run time tells, the
    cached instances are padded to the number of the others.
    """
    instances, history = _joined(now), frame.history
    if history is None or now.temp_embed is None:
        return instances, instances, None
    past = jnp.concatenate([history.feature, now.temp_embed], axis=-1)
    missing = ((0, 0), (0, instances.shape[1] - past.shape[1]), (0, 0))
    valid = history.valid[:, None, None]
    key, value = (
        jnp.where(valid, jnp.pad(x, missing), instances)
        for x in (past, linear(frame.params["fc_before"], history.feature))
    )
    cached = jnp.arange(instances.shape[1]) < past.shape[1]
    return key, value, cached[None] | ~history.valid[:, None]


def _joined(now: Instances) -> jax.Array:
    return jnp.concatenate([now.feature, now.embed], axis=-1)
