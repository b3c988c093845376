"""Instances carried from frame to frame, as a state that goes in and comes out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jda.sparse4d import boxes
from jda.sparse4d.config import DecoderConfig
from jda.sparse4d.nn import rows
from jda.sparse4d.projection import EXACT

NO_ID = -1


class State(NamedTuple):
    """What one frame leaves to the next.

    Attributes:
        feature: [bs, num_temp_instances, embed_dims].
        anchor: [bs, num_temp_instances, 11], in the vehicle's frame of then.
        confidence: [bs, num_temp_instances].
        instance_id: int32 [bs, num_temp_instances], -1 for none.
        next_id: the first id that is free, int32 [].
        valid: which elements of the batch have a frame before, bool [bs].
    """

    feature: jax.Array
    anchor: jax.Array
    confidence: jax.Array
    instance_id: jax.Array
    next_id: jax.Array
    valid: jax.Array


class History(NamedTuple):
    """The cached instances, as they are now.

    Attributes:
        feature: [bs, num_temp_instances, embed_dims].
        anchor: moved into the vehicle's frame of now [bs, num_temp_instances, 11].
        time_interval: seconds for the refinement [bs].
        recent: elements whose instances are taken over, bool [bs].
        valid: elements that attend to them, bool [bs].
    """

    feature: jax.Array
    anchor: jax.Array
    time_interval: jax.Array
    recent: jax.Array
    valid: jax.Array


def init_state(
    config: DecoderConfig, batch_size: int, dtype: jnp.dtype | type = jnp.float32
) -> State:
    """The state before the first frame.

    Args:
        config: of the head.
        batch_size: bs, how many sequences go side by side.
        dtype: of features, anchors and confidences.

    Returns:
        :class:`State` without valid elements, whose ids begin at 0.
    """
    rows = batch_size, config.num_temp_instances
    return State(
        jnp.zeros((*rows, config.embed_dims), dtype),
        jnp.zeros((*rows, boxes.ANCHOR_DIMS), dtype),
        jnp.zeros(rows, dtype),
        jnp.full(rows, NO_ID, jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.zeros(batch_size, bool),
    )


def reset(state: State, elements: ArrayLike) -> State:
    """Starts the sequence of some elements of the batch afresh; ids go on.

    Args:
        state: of the frame before.
        elements: which elements, bool [bs].

    Returns:
        The state, in which those elements have no frame before.
    """
    kept = state.valid & ~jnp.asarray(elements, bool)
    ids = jnp.where(kept[:, None], state.instance_id, NO_ID)
    return state._replace(instance_id=ids, valid=kept)


def recall(
    state: State, config: DecoderConfig, time_interval: jax.Array, T_temp2cur: jax.Array
) -> tuple[State, History]:
    """The cached instances moved to now, by their velocity and that of the vehicle.

    Args:
        state: of the frame before.
        config: of the head.
        time_interval: seconds since then [bs], of any sign.
        T_temp2cur: from the vehicle's frame of then to that of now [bs, 4, 4].
    """
    recent = jnp.abs(time_interval) <= config.max_time_interval
    if config.reset_on_gap:
        state = reset(state, ~recent)
    recent = recent & state.valid
    anchor = move(state.anchor, T_temp2cur, time_interval, config.swap_yaw)
    usable = recent & (time_interval != 0)
    interval = jnp.where(usable, time_interval, config.default_time_interval)
    return state, History(state.feature, anchor, interval, recent, state.valid)


def move(
    anchor: jax.Array, T_src2dst: jax.Array, time_interval: jax.Array, swap_yaw: bool
) -> jax.Array:
    """Anchors [bs, n, 11] after some time [bs] in another frame [bs, 4, 4].

    With ``swap_yaw`` the cosine ends up in the place of the sine and the sine in that
    of the cosine, as upstream has it.
    """
    turn, shift = T_src2dst[:, :3, :3], T_src2dst[:, None, :3, 3]
    velocity = anchor[..., boxes.VELOCITY]
    centre = anchor[..., boxes.CENTRE] + velocity * time_interval[:, None, None]
    direction = anchor[..., [boxes.COS, boxes.SIN]]
    direction = _turned(turn[:, :2, :2], direction)
    yaw = direction if swap_yaw else direction[..., ::-1]
    moved = [_turned(turn, centre) + shift, anchor[..., boxes.SIZE], yaw]
    return jnp.concatenate([*moved, _turned(turn, velocity)], axis=-1)


def take_over(
    history: History,
    config: DecoderConfig,
    feature: jax.Array,
    anchor: jax.Array,
    classification: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Cached instances first, then the best of this frame; for recent elements alone.

    Args:
        history: the cached instances.
        config: of the head.
        feature: [bs, num_anchor, embed_dims].
        anchor: [bs, num_anchor, 11].
        classification: logits of this frame [bs, num_anchor, num_classes].

    Returns:
        The features and the anchors that the next decoder works on.
    """
    free = config.num_anchor - config.num_temp_instances
    _, best = jax.lax.top_k(classification.max(axis=-1), free)
    recent = history.recent[:, None, None]
    pairs = ((history.feature, feature), (history.anchor, anchor))
    found = [
        jnp.where(recent, jnp.concatenate([cached, rows(new, best)], axis=1), new)
        for cached, new in pairs
    ]
    return found[0], found[1]


def store(
    state: State,
    config: DecoderConfig,
    feature: jax.Array,
    anchor: jax.Array,
    classification: jax.Array,
    instance_id: jax.Array | None,
    next_id: jax.Array,
) -> State:
    """The state after a frame: its most confident instances, without gradients.

    An instance that was cached keeps at least ``confidence_decay`` of its confidence.

    Args:
        state: of the frame before.
        config: of the head.
        feature: [bs, num_anchor, embed_dims].
        anchor: [bs, num_anchor, 11].
        classification: logits of the last decoder [bs, num_anchor, num_classes].
        instance_id: [bs, num_anchor], or None in training.
        next_id: the first id that is free.
    """
    number = config.num_temp_instances
    confidence = jax.nn.sigmoid(classification.max(axis=-1))
    old = jnp.where(state.valid[:, None], state.confidence * config.confidence_decay, 0)
    first = jnp.maximum(old, confidence[:, :number])
    confidence = jnp.concatenate([first, confidence[:, number:]], axis=1)
    confidence, best = jax.lax.top_k(confidence, number)
    ids = state.instance_id if instance_id is None else rows(instance_id, best)
    valid = jnp.ones_like(state.valid)
    found = State(
        rows(feature, best), rows(anchor, best), confidence, ids, next_id, valid
    )
    return State(*map(jax.lax.stop_gradient, found))


def identify(
    state: State, history: History | None, num_anchor: int
) -> tuple[jax.Array, jax.Array]:
    """Ids of all instances of a frame [bs, num_anchor], and the next that is free.

    Cached instances keep theirs; all others get new ones, counted over the batch.
    """
    ids = state.instance_id
    if history is not None:
        ids = jnp.where(history.recent[:, None], ids, NO_ID)
    rest = (ids.shape[0], num_anchor - ids.shape[1])
    ids = jnp.concatenate([ids, jnp.full(rest, NO_ID, ids.dtype)], axis=1)
    new = (ids == NO_ID).astype(ids.dtype)
    count = jnp.cumsum(new.reshape(-1), dtype=ids.dtype)
    found = jnp.where(new > 0, state.next_id + count.reshape(new.shape) - 1, ids)
    return found, state.next_id + new.sum(dtype=ids.dtype)


def _turned(turn: jax.Array, vectors: jax.Array) -> jax.Array:
    return jnp.einsum("bij,bnj->bni", turn, vectors, precision=EXACT)
