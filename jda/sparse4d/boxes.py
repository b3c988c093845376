"""Anchors: the eleven numbers of a box, their embedding, and boxes out of logits.

An anchor is x, y, z | logarithms of length, width, height | sin yaw, cos yaw | vx, vy,
vz, in the frame of the LiDAR (metres, seconds). Yaw 0 points along +x; sine and cosine
are not normalised. Sparse4D calls the length ``W`` and the width ``L``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jda.sparse4d.nn import Params, mlp, rows

CENTRE = slice(0, 3)
SIZE = slice(3, 6)
YAW = slice(6, 8)  # sine, cosine
SIN, COS = 6, 7
VELOCITY = slice(8, 11)
ANCHOR_DIMS = 11

# The parts of an anchor in the order of their embeddings, by name of the parameters.
PARTS = {"pos_fc": CENTRE, "size_fc": SIZE, "yaw_fc": YAW, "vel_fc": VELOCITY}
ENCODER_LOOPS = (1, 4)


class Detections(NamedTuple):
    """The boxes of a frame, the best first.

    Attributes:
        boxes_3d: x, y, z, length, width, height, yaw, vx, vy, vz [bs, num_output, 10].
        scores_3d: probability of the class times centerness [bs, num_output].
        labels_3d: index of the class [bs, num_output].
        cls_scores: probability of the class alone [bs, num_output].
        instance_ids: [bs, num_output], or None.
    """

    boxes_3d: jax.Array
    scores_3d: jax.Array
    labels_3d: jax.Array
    cls_scores: jax.Array
    instance_ids: jax.Array | None


def encode(params: Params, anchor: jax.Array) -> jax.Array:
    """The embedding of anchors [..., 11]: that of one part after the other."""
    parts = [
        mlp(params[name], anchor[..., part], *ENCODER_LOOPS)
        for name, part in PARTS.items()
    ]
    return jnp.concatenate(parts, axis=-1)


def box(anchor: jax.Array) -> jax.Array:
    """Anchors [..., 11] as boxes [..., 10] with sizes in metres and yaw in radians."""
    yaw = jnp.arctan2(anchor[..., SIN], anchor[..., COS])[..., None]
    parts = [
        anchor[..., CENTRE],
        jnp.exp(anchor[..., SIZE]),
        yaw,
        anchor[..., VELOCITY],
    ]
    return jnp.concatenate(parts, axis=-1)


def decode(
    prediction: jax.Array,
    classification: jax.Array,
    quality: jax.Array | None = None,
    instance_id: jax.Array | None = None,
    *,
    num_output: int = 300,
    sort_cls_scores: bool = False,
) -> Detections:
    """The best boxes of the last decoder.

    Candidates are the ``num_output`` highest class probabilities: with ids one class
    for each instance, without ids any number of them. Then they are sorted by
    probability times centerness.

    Args:
        prediction: anchors [bs, num_anchor, 11].
        classification: logits [bs, num_anchor, num_classes].
        quality: logits of centerness and yawness [bs, num_anchor, 2]; yawness is not
            used.
        instance_id: [bs, num_anchor].
        num_output: number of boxes, at most that of the candidates.
        sort_cls_scores: upstream leaves ``cls_scores`` as they were before the second
            sort, so that they do not belong to the boxes beside them; True sorts them
            too.

    Returns:
        :class:`Detections`.

    Raises:
        ValueError: if there are fewer candidates than ``num_output``.
    """
    probability = jax.nn.sigmoid(classification)
    classes = probability.shape[-1]
    candidates = probability.shape[1] * (1 if instance_id is not None else classes)
    if not 0 <= num_output <= candidates:
        raise ValueError(
            f"num_output={num_output}, allowed are 0 to the {candidates} candidates"
        )
    if instance_id is not None:
        candidate, label_of = probability.max(axis=-1), probability.argmax(axis=-1)
        cls_scores, row = jax.lax.top_k(candidate, num_output)
        label = rows(label_of, row)
    else:
        flat = probability.reshape(probability.shape[0], -1)
        cls_scores, index = jax.lax.top_k(flat, num_output)
        row, label = index // classes, index % classes
    scores = cls_scores
    if quality is not None:
        scores = scores * rows(jax.nn.sigmoid(quality[..., 0]), row)
        scores, order = jax.lax.top_k(scores, num_output)
        row, label = rows(row, order), rows(label, order)
        if sort_cls_scores:
            cls_scores = rows(cls_scores, order)
    ids = None if instance_id is None else rows(instance_id, row)
    return Detections(box(rows(prediction, row)), scores, label, cls_scores, ids)
