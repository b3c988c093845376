"""Scenes without end: streets full of moving boxes, seen by six cameras in two frames.

A scene is drawn from a seed and its number alone, so that training never sees one
twice, a held-out scene is one with another seed, and a run that is resumed goes on with
the scenes that it would have had.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scene import HEIGHT, WIDTH, Boxes, camera_rig, look, traffic

from jda import sparse4d

CLASSES = ("car", "truck", "pedestrian")
NOTHING = -1  # the label of a building, and of a row without a box
STEP = 4  # every fourth pixel of the cameras is rendered: images of 64 x 176
FRAMES, INTERVAL = 2, 0.5  # seconds
MOST_BOXES = 4 * 8 + 2 * 13 + 10  # vehicles, buildings and pedestrians of a street
MOST_TRUTH = 24
RANGE = 20.0  # metres: how far boxes are looked for
GAPS = 8.0, 24.0  # metres between the vehicles of a lane
FEWEST_PIXELS = 8  # of a box in all images; what is more hidden is not looked for
EGO = 1.5, 0.15, 5.0  # metres beside the lane, radians, metres a second; at most
RIG = camera_rig()


class Scenes(NamedTuple):
    """What stands where, and how it moves; n boxes, the last ones of size zero."""

    boxes: Boxes  # [b, n, ...] in the axes of the street, when the first frame is seen
    label: np.ndarray  # [b, n]
    speed: np.ndarray  # [b, n] along a box's length
    ego: np.ndarray  # [b, 3]: x, y and yaw of the car in the street
    ego_speed: np.ndarray  # [b]


class Truth(NamedTuple):
    """The boxes to find, the nearest first."""

    anchor: jax.Array  # [..., m, 11] in the car's axes
    label: jax.Array  # [..., m]


class Frame(NamedTuple):
    """What the cameras see, and what is there."""

    images: jax.Array  # [..., cam, h, w, 3], 0 to 1
    distance: jax.Array  # [..., cam, h, w], metres to what a pixel sees
    metas: sparse4d.Metas
    truth: Truth


def draw_scenes(seed: int, numbers: range) -> Scenes:
    """Some of the scenes of a seed."""
    scenes = [_scene(np.random.default_rng([seed, number])) for number in numbers]
    return jax.tree.map(lambda *fields: np.stack(fields), *scenes)


def _scene(rng: np.random.Generator) -> Scenes:
    street, people = traffic(rng, GAPS), _pedestrians(rng)
    height = street.size[:, 2]
    label = np.select([height < 2, height < 4], [0, 1], NOTHING)
    label = np.append(label, np.full(len(people.yaw), 2))
    boxes = Boxes(*map(np.concatenate, zip(street, people, strict=True)))
    fastest = np.array([5.0, 4.0, 1.5, 0.0])[label]
    speed = rng.uniform(0, fastest)
    aside, turn, ahead = EGO
    ego = np.array([0, rng.uniform(-aside, aside), rng.uniform(-turn, turn)])
    scene = Scenes(boxes, label, speed, ego, rng.uniform(0, ahead))
    empty = MOST_BOXES - len(label)
    return scene._replace(
        boxes=Boxes(*(_padded(field, empty, 0) for field in boxes)),
        label=_padded(label, empty, NOTHING),
        speed=_padded(speed, empty, 0),
    )


def _pedestrians(rng: np.random.Generator) -> Boxes:
    number = rng.integers(4, 11)
    x, y = rng.uniform(-24, 24, number), rng.uniform(9.5, 13.5, number)
    centre = np.stack([x, y * rng.choice([-1, 1], number), np.full(number, 0.9)], -1)
    size = np.tile([0.7, 0.7, 1.8], (number, 1))
    yaw = rng.uniform(-np.pi, np.pi, number)
    return Boxes(centre, size, yaw, rng.uniform(0.1, 0.9, (number, 3)))


def _padded(rows: np.ndarray, number: int, value: float) -> np.ndarray:
    rest = np.full((number, *rows.shape[1:]), value, rows.dtype)
    return np.concatenate([rows, rest])


def see(scenes: Scenes) -> Frame:
    """Both frames of scenes [frame, b, ...]."""
    times = INTERVAL * np.arange(FRAMES)
    moments = [_after(scenes, time) for time in times]
    poses = np.stack([_poses(moment.ego) for moment in moments])
    seen = [_see(*each) for each in zip(moments, poses, strict=True)]
    images, distance, truth = jax.tree.map(lambda *each: jnp.stack(each), *seen)
    lead = FRAMES, len(scenes.label)
    matrices, size = projection_matrices(), np.float32([WIDTH, HEIGHT])
    metas = sparse4d.Metas(
        np.broadcast_to(matrices, (*lead, *matrices.shape)),
        np.broadcast_to(size, (*lead, len(RIG), 2)),
        *sparse4d.sequence_motion(times[:, None] + 0 * scenes.ego_speed, poses),
    )
    return Frame(images, distance, jax.tree.map(jnp.asarray, metas), truth)


def projection_matrices() -> np.ndarray:
    """From the car's axes to pixels times depth [cam, 4, 4]."""
    matrices = np.tile(np.eye(4, dtype=np.float32), (len(RIG), 1, 1))
    for matrix, camera in zip(matrices, RIG, strict=True):
        turn = camera.intrinsics @ camera.rotation
        matrix[:3, :3], matrix[:3, 3] = turn, -turn @ camera.position
    return matrices


def _after(scenes: Scenes, time: float) -> Scenes:
    boxes = scenes.boxes
    centre = boxes.centre + time * _velocity(boxes.yaw, scenes.speed)
    ego = scenes.ego.copy()
    ego[:, :2] += time * _velocity(ego[:, 2], scenes.ego_speed)[:, :2]
    return scenes._replace(boxes=boxes._replace(centre=centre), ego=ego)


def _velocity(yaw: np.ndarray, speed: np.ndarray) -> np.ndarray:
    return speed[..., None] * np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], -1)


def _poses(ego: np.ndarray) -> np.ndarray:
    """From the axes of cars to those of their streets [b, 4, 4]."""
    poses = np.tile(np.eye(4), (len(ego), 1, 1))
    x, y, yaw = ego.T
    poses[:, 0, 0], poses[:, 0, 1], poses[:, 0, 3] = np.cos(yaw), -np.sin(yaw), x
    poses[:, 1, 0], poses[:, 1, 1], poses[:, 1, 3] = np.sin(yaw), np.cos(yaw), y
    return poses


def _see(scenes: Scenes, poses: np.ndarray) -> tuple[jax.Array, jax.Array, Truth]:
    """Images, distances and truth of one frame."""
    turn, place = poses[:, None, :3, :3], poses[:, None, :3, 3]
    intrinsics, rotation, position = (
        np.stack(field) for field in list(zip(*RIG, strict=True))[1:]
    )
    cameras = (
        np.broadcast_to(intrinsics, (len(poses), *intrinsics.shape)),
        rotation @ turn.swapaxes(-1, -2),
        (turn @ position[..., None])[..., 0] + place,
    )
    images, distance, pixels = _look_around(*map(np.float32, cameras), scenes.boxes)
    truth = _choose(_anchors(scenes, turn, place), scenes.label, pixels)
    return images, distance, truth


def _anchors(scenes: Scenes, turn: np.ndarray, place: np.ndarray) -> np.ndarray:
    """All boxes as anchors in the axes of the cars [b, n, 11]."""
    boxes, back = scenes.boxes, turn.swapaxes(-1, -2)
    centre = back @ (boxes.centre - place)[..., None]
    velocity = back @ _velocity(boxes.yaw, scenes.speed)[..., None]
    yaw = boxes.yaw - scenes.ego[:, 2:]
    size = np.log(np.maximum(boxes.size, 1e-3))
    direction = np.stack([np.sin(yaw), np.cos(yaw)], -1)
    return np.concatenate([centre[..., 0], size, direction, velocity[..., 0]], -1)


@jax.jit
def _look_around(
    intrinsics: jax.Array, rotation: jax.Array, position: jax.Array, boxes: Boxes
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Images [b, cam, h, w, 3], distances, and how many pixels see each box [b, n]."""
    each_camera = jax.vmap(functools.partial(look, step=STEP), (0, 0, 0, None))

    def around(scene):
        seen = each_camera(*scene)
        # The number of the ground and the sky is -1.
        pixels = jnp.bincount(seen.box.ravel() + 1, length=MOST_BOXES + 1)[1:]
        return seen.colour, seen.distance, pixels

    return jax.lax.map(around, (intrinsics, rotation, position, boxes))


@jax.jit
def _choose(anchor: jax.Array, label: jax.Array, pixels: jax.Array) -> Truth:
    """Of all boxes those to be found, the nearest first."""
    distance = jnp.hypot(anchor[..., 0], anchor[..., 1])
    is_sought = (label != NOTHING) & (pixels >= FEWEST_PIXELS) & (distance < RANGE)
    distance = jnp.where(is_sought, distance, jnp.inf)
    nearest = jnp.argsort(distance, axis=-1)[:, :MOST_TRUTH]
    found = jnp.take_along_axis(anchor, nearest[..., None], axis=1)
    label = jnp.take_along_axis(jnp.where(is_sought, label, NOTHING), nearest, axis=1)
    return Truth(found, label)
