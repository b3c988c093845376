"""Which instance stands for which box, and how wrong it is: Sparse4D's losses.

Left out of Sparse4D's: denoising, the losses of the quality, and the threshold of
confidence below which a box is not regressed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from detector.model import Result
from detector.world import Frame, Truth
from jda import sparse4d

FOCAL = {"alpha": 0.25, "gamma": 2.0}
CLASS, BOX = 2.0, 0.25  # weights of the two losses, and of the two costs
DISTANCE, FAR = 2.0, 60.0  # the weight of a third; metres
TRAINED = 10  # numbers of an anchor: its velocity upwards is left alone
UNTIE = 1e-3  # of squared distance: two boxes that swap instances beside them may keep
# the sum of their distances, and then rounding alone would say which has which
BOX_LOSS = (2.0, 2, 2, 1, 1, 1, 1, 1, 1, 1)
BOX_COST = (2.0, 2, 2, 0.5, 0.5, 0.5, 0, 0, 0, 0)


class Losses(NamedTuple):
    """How wrong the model is."""

    classes: jax.Array  # of all decoders, for each box to be found
    boxes: jax.Array  # likewise
    distance: jax.Array  # for each pixel

    @property
    def total(self) -> jax.Array:
        return self.classes + self.boxes + self.distance


def losses(result: Result, frames: Frame) -> Losses:
    """Of all frames, decoders and levels."""
    classes, boxes = detection_losses(result.outputs, frames.truth)
    distance = distance_loss(result.log_distance, frames.distance)
    return Losses(CLASS * classes, BOX * boxes, DISTANCE * distance)


def distance_loss(found: list[jax.Array], distance: jax.Array) -> jax.Array:
    """The mean difference of the logarithms, where something is near enough.

    It teaches the backbone distances; the head makes no use of them.
    """
    each = []
    for log_distance in found:
        n = distance.shape[-1] // log_distance.shape[-1]
        there = distance[..., n // 2 :: n, n // 2 :: n]
        is_near = there < FAR
        apart = jnp.where(is_near, jnp.abs(log_distance - jnp.log(there)), 0)
        each.append(apart.sum() / is_near.sum())
    return jnp.stack(each).mean()


def detection_losses(
    outputs: sparse4d.Outputs, truth: Truth
) -> tuple[jax.Array, jax.Array]:
    """For the classes and for the boxes; truth [frame, b, m, ...]."""
    prediction = jnp.stack(outputs.prediction, axis=1)
    logits = jnp.stack(outputs.classification, axis=1)
    decoders = prediction.shape[1]
    # [frame * decoder * b, ...], so that all are matched at once.
    truth = Truth(*(jnp.stack([x] * decoders, axis=1) for x in truth))
    prediction, logits, truth = (
        jax.tree.map(lambda x: jax.lax.collapse(x, 0, 3), each)
        for each in (prediction, logits, truth)
    )
    instance = match(prediction, logits, truth)
    is_box = truth.label >= 0
    number = jnp.maximum(is_box.sum() / decoders, 1)

    near = jnp.take_along_axis(prediction, instance[..., None], axis=1)
    apart = jnp.abs(near - truth.anchor)[..., :TRAINED] * jnp.asarray(BOX_LOSS)
    boxes = jnp.where(is_box[..., None], apart, 0).sum()

    # The label of rows without a box, -1, is a row of zeros.
    label = jax.nn.one_hot(truth.label, logits.shape[-1])
    of_item = jax.vmap(lambda zeros, rows, label: zeros.at[rows].add(label))
    wanted = of_item(jnp.zeros_like(logits), instance, label)
    classes = optax.sigmoid_focal_loss(logits, wanted, **FOCAL).sum()
    return classes / number, boxes / number


def match(prediction: jax.Array, logits: jax.Array, truth: Truth) -> jax.Array:
    """The instance [b, m] for each box, such that all together cost least.

    Rows without a box get one of the instances that are left.
    """
    cost = jax.lax.stop_gradient(costs(prediction, logits, truth))
    row, instance = jax.vmap(optax.assignment.hungarian_algorithm)(cost)
    return jnp.take_along_axis(instance, jnp.argsort(row, axis=-1), axis=-1)


def costs(prediction: jax.Array, logits: jax.Array, truth: Truth) -> jax.Array:
    """What it costs that an instance stands for a box [b, m, n]; 0 without a box."""
    right, wrong = (
        optax.sigmoid_focal_loss(logits, like(logits), **FOCAL)
        for like in (jnp.ones_like, jnp.zeros_like)
    )
    label = jax.nn.one_hot(truth.label, logits.shape[-1])
    by_class = jnp.einsum("bnc,bmc->bmn", right - wrong, label)
    apart = jnp.abs(prediction[:, None] - truth.anchor[:, :, None])[..., :TRAINED]
    cost = CLASS * by_class + BOX * (apart * jnp.asarray(BOX_COST)).sum(-1)
    cost = cost + UNTIE * jnp.square(apart[..., :3]).sum(-1)
    return jnp.where((truth.label >= 0)[..., None], cost, 0)
