"""The head of Sparse4D v3: from feature maps to boxes, frame by frame."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jda.sparse4d import boxes, initial, instance_bank, names
from jda.sparse4d.config import DecoderConfig
from jda.sparse4d.instance_bank import History, State
from jda.sparse4d.nn import Params, split
from jda.sparse4d.operations import OPERATIONS, Frame, Instances, Metas
from jda.sparse4d.refinement import classify, estimate_quality, refine
from jda.sparse4d.weights import frozen


class Outputs(NamedTuple):
    """What every decoder says, the last one last.

    Attributes:
        prediction: anchors [bs, num_anchor, 11].
        classification: logits [bs, num_anchor, num_classes]; in evaluation None but of
            the last decoder and of the one after which cached instances come in.
        quality: logits of centerness and yawness [bs, num_anchor, 2]; None likewise.
        instance_id: of the last decoder's instances, int32 [bs, num_anchor]; None in
            training and without cached instances.
    """

    prediction: tuple[jax.Array, ...]
    classification: tuple[jax.Array | None, ...]
    quality: tuple[jax.Array | None, ...]
    instance_id: jax.Array | None


_Refined = tuple[jax.Array, jax.Array | None, jax.Array | None]


def init(key: jax.Array, config: DecoderConfig, dtype: Any = jnp.float32) -> Params:
    """Parameters as upstream's training starts.

    The tree has the names, shapes and layouts of the PyTorch module's state dict. The
    anchors, ``params["instance_bank"]["anchor"]``, stand all around at random: clusters
    of a data set's boxes are better.

    Args:
        key: of the draw.
        config: sizes.
        dtype: of the parameters, a floating one.

    Returns:
        A nested dict of arrays.
    """

    def is_xavier(name: str) -> bool:
        first, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        return first == "layers" and config.operations[int(number)] != "refine"

    shapes = names.of_decoder(config)
    return initial.draw(key, shapes, config.layer, is_xavier, dtype)


def apply(
    params: Params,
    config: DecoderConfig,
    feature_maps: Iterable[Any],
    metas: Metas,
    state: State | None = None,
    *,
    training: bool = False,
    key: jax.Array | None = None,
    implementation: str | None = None,
) -> tuple[Outputs, State | None]:
    """One frame.

    Args:
        params: from :func:`init` or a state dict.
        config: static under ``jax.jit``.
        feature_maps: the packed triple of :func:`jda.pack_feature_maps`.
        metas: matrices, image sizes, and the motion since the frame before.
        state: what the frame before left, or :func:`jda.sparse4d.init_state`. Without
            one this is a first frame, known when it is traced: the result is that of
            ``init_state``, with less to compute.
        training: whether all decoders classify, and instances get no ids.
        key: of the drop-outs; None for none.
        implementation: of the operator, see :func:`jda.deformable_aggregation`.

    Returns:
        :class:`Outputs` and the state for the next frame: ``jax.lax.scan`` over frames
        carries it. None where the configuration caches no instances.

    Raises:
        ValueError: if there is a state, but ``metas`` has no motion.
    """
    if config.layer.freeze:
        params = frozen(params)
    state, history = _recall(config, metas, state)
    maps = tuple(feature_maps)
    frame = Frame(params, config, maps, metas, history, implementation)
    now = _start(frame)
    keys = split(key, len(config.operations))
    found: list[_Refined] = []
    for number, operation in enumerate(config.operations):
        own = params["layers"][str(number)]
        if operation == "refine":
            found.append(_refine(frame, own, now, len(found) + 1, training))
            now = _next(frame, now, found)
        else:
            feature = OPERATIONS[operation](frame, own, now, keys[number])
            now = now._replace(feature=feature)
    state, instance_id = _leave(frame, state, now, found[-1], training)
    prediction, classification, quality = zip(*found, strict=True)
    return Outputs(prediction, classification, quality, instance_id), state


def _recall(
    config: DecoderConfig, metas: Metas, state: State | None
) -> tuple[State | None, History | None]:
    """The cached instances as they are now; none on a first frame."""
    if state is None or not config.num_temp_instances:
        return None, None
    if metas.time_interval is None or metas.T_temp2cur is None:
        raise ValueError(
            "metas has no time_interval or no T_temp2cur, but there is a state: the "
            "motion since its frame is needed"
        )
    return instance_bank.recall(state, config, metas.time_interval, metas.T_temp2cur)


def _start(frame: Frame) -> Instances:
    """The instances of the parameters, for each element of the batch."""
    bank, encoder = frame.params["instance_bank"], frame.params["anchor_encoder"]
    feature, anchor = (
        jnp.broadcast_to(rows[None], (len(frame.metas.projection_mat), *rows.shape))
        for rows in (bank["instance_feature"], bank["anchor"])
    )
    history = frame.history
    past = None if history is None else boxes.encode(encoder, history.anchor)
    return Instances(feature, anchor, boxes.encode(encoder, anchor), past)


def _refine(
    frame: Frame, own: Params, now: Instances, number: int, training: bool
) -> _Refined:
    """What decoder ``number``, counted from one, says of the instances."""
    config, history = frame.config, frame.history
    interval = jnp.full_like(now.anchor[:, 0, 0], config.default_time_interval)
    if history is not None:
        interval = history.time_interval
    anchor = refine(own, now.feature, now.anchor, now.embed, interval)
    if training or number in (config.num_single_frame_decoder, config.num_decoder):
        quality = estimate_quality(own, now.feature, now.embed)
        return anchor, classify(own, now.feature), quality
    return anchor, None, None


def _next(frame: Frame, now: Instances, found: list[_Refined]) -> Instances:
    """The instances that the next decoder works on."""
    config, history = frame.config, frame.history
    anchor, classification, _ = found[-1]
    feature, past = now.feature, now.temp_embed
    number = len(found)
    if number == config.num_decoder:
        return now._replace(anchor=anchor)
    if history is not None and number == config.num_single_frame_decoder:
        assert classification is not None  # _refine has seen to it
        feature, anchor = instance_bank.take_over(
            history, config, feature, anchor, classification
        )
    embed = boxes.encode(frame.params["anchor_encoder"], anchor)
    if history is not None and number > 1:
        past = embed[:, : config.num_temp_instances]
    return Instances(feature, anchor, embed, past)


def _leave(
    frame: Frame,
    state: State | None,
    now: Instances,
    last: _Refined,
    training: bool,
) -> tuple[State | None, jax.Array | None]:
    """The state for the next frame, and the ids of this one."""
    config, (_, classification, _) = frame.config, last
    if not config.num_temp_instances:
        return None, None
    if state is None:
        state = instance_bank.init_state(config, len(now.feature), now.feature.dtype)
    ids, next_id = None, state.next_id
    if not training:
        ids, next_id = instance_bank.identify(state, frame.history, config.num_anchor)
    assert classification is not None  # the last decoder always classifies
    state = instance_bank.store(
        state, config, now.feature, now.anchor, classification, ids, next_id
    )
    return state, ids
