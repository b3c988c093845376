"""The train step, what it carries, and how good the result is."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy.cluster.vq import kmeans2

from detector import metric, model, world
from detector.losses import Losses, losses
from jda import sparse4d

TRAINING, HELD_OUT, CLUSTERED = range(3)  # seeds of scenes


@dataclass(frozen=True)
class TrainConfig:
    """How the model learns."""

    steps: int = 1600
    batch: int = 4  # scenes in a step
    learning_rate: float = 3e-3  # at its highest, from where a cosine leads down
    warm_up: int = 50  # steps
    weight_decay: float = 1e-3
    clip: float = 10.0  # norm of the gradient


class TrainState(NamedTuple):
    """What one step leaves to the next: all that a checkpoint has to hold."""

    step: jax.Array
    params: model.Params
    optimizer: Any


TrainStep = Callable[[TrainState, world.Frame], tuple[TrainState, Losses]]


def init(key: jax.Array, config: model.ModelConfig, how: TrainConfig) -> TrainState:
    """The state before the first step."""
    params = model.init(key, config, clustered_anchors(config.anchors))
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer(how).init(params))


def clustered_anchors(number: int, scenes: int = 64) -> np.ndarray:
    """Anchors [number, 11] where boxes are: their clusters, as Sparse4D has them."""
    truth = world.see(world.draw_scenes(CLUSTERED, range(scenes))).truth
    boxes = np.asarray(truth.anchor)[np.asarray(truth.label) != world.NOTHING]
    anchors = np.zeros((number, boxes.shape[-1]), np.float32)
    anchors[:, :3], _ = kmeans2(boxes[:, :3], number, minit="++", seed=0)
    anchors[:, 3:6] = np.log(np.exp(boxes[:, 3:6]).mean(axis=0))
    anchors[:, 7] = 1  # the cosine of the yaw
    return anchors


def optimizer(how: TrainConfig) -> optax.GradientTransformation:
    """AdamW with a warm-up and a cosine, on gradients of a bounded norm."""
    rate = optax.warmup_cosine_decay_schedule(
        how.learning_rate / 10,
        how.learning_rate,
        how.warm_up,
        how.steps,
        how.learning_rate / 100,
    )
    return optax.chain(
        optax.clip_by_global_norm(how.clip),
        optax.adamw(rate, weight_decay=how.weight_decay, mask=_decayed),
    )


def _decayed(params: model.Params) -> model.Params:
    """The key points that Sparse4D keeps as they are keep their place here too."""
    backbone = jax.tree.map(lambda _: True, params["backbone"])
    return {"backbone": backbone, "head": sparse4d.trainable(params["head"])}


@functools.cache
def make_step(
    config: model.ModelConfig, how: TrainConfig, implementation: str | None = None
) -> TrainStep:
    """The train step, jitted. It uses the state up: go on with the one it returns.

    Made once for each configuration, and so compiled once in a process.
    """

    def loss(params: model.Params, frames: world.Frame) -> tuple[jax.Array, Losses]:
        result = model.apply(
            params, config, frames, training=True, implementation=implementation
        )
        found = losses(result, frames)
        return found.total, found

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, frames: world.Frame) -> tuple[TrainState, Losses]:
        gradient, found = jax.grad(loss, has_aux=True)(state.params, frames)
        change, optimizer_ = optimizer(how).update(
            gradient, state.optimizer, state.params
        )
        params = optax.apply_updates(state.params, change)
        return TrainState(state.step + 1, params, optimizer_), found

    return step


def batch(how: TrainConfig, step: int) -> world.Frame:
    """What a step learns from: scenes that no other step sees."""
    first = step * how.batch
    return world.see(world.draw_scenes(TRAINING, range(first, first + how.batch)))


class Devices(NamedTuple):
    """Where things are: the batch is split, the state is everywhere.

    The train step is the same on one device and on many. XLA sees from its arguments
    where they are, and adds up the gradients.
    """

    frames: NamedSharding
    state: NamedSharding

    @classmethod
    def of(cls, number: int, how: TrainConfig) -> "Devices":
        found = jax.devices()
        if number > len(found) or how.batch % number:
            raise ValueError(
                f"devices={number}; allowed are divisors of batch={how.batch} up to "
                f"{len(found)}, which JAX has here"
            )
        mesh = Mesh(np.array(found[:number]), ("data",))
        return cls(NamedSharding(mesh, P(None, "data")), NamedSharding(mesh, P()))


def evaluate(
    params: model.Params, config: model.ModelConfig, scenes: int, at_once: int = 4
) -> tuple[float, list[float]]:
    """Mean average precision in the last frame of held-out scenes, and by class."""
    found, right = [], []
    for first in range(0, scenes, at_once):
        drawn = world.draw_scenes(HELD_OUT, range(first, first + at_once))
        frames = world.see(drawn)
        boxes = jax.tree.map(np.asarray, detect(params, config, frames))
        truth = jax.tree.map(lambda x: np.asarray(x[-1]), frames.truth)
        for i in range(at_once):
            is_box = truth.label[i] != world.NOTHING
            there = truth.anchor[i, is_box, :2], truth.label[i, is_box]
            right.append(metric.Right(*there))
            said = boxes.boxes_3d[i, :, :2], boxes.labels_3d[i], boxes.scores_3d[i]
            found.append(metric.Found(*said))
    return metric.mean_average_precision(found, right, len(world.CLASSES))


@functools.partial(jax.jit, static_argnames="config")
def detect(
    params: model.Params, config: model.ModelConfig, frames: world.Frame
) -> sparse4d.Detections:
    """The boxes in the last frame."""
    outputs = model.apply(params, config, frames).outputs
    last = outputs.prediction[-1][-1], outputs.classification[-1][-1]
    return sparse4d.decode(*last, num_output=config.anchors)
