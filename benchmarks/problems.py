"""The shapes that are measured and their seeded inputs."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

PYRAMID = ((64, 176), (32, 88), (16, 44), (8, 22))  # of 256 x 704 images


@dataclass(frozen=True)
class Problem:
    """Sizes of one problem and where its samples fall.

    Clustered samples lie around one centre for each anchor and camera, and all of them
    are visible there or none; uniform ones are spread over the map one by one; those of
    a warp follow each other in rows over the map, as neighbours of an image do.
    """

    batch: int = 1
    anchors: int = 900
    points: int = 13
    cameras: int = 6
    maps: tuple[tuple[int, int], ...] = PYRAMID
    channels: int = 256
    groups: int = 8
    visible: float = 0.25
    clustered: bool = True
    warp: bool = False


PROBLEMS = {
    "a": Problem(),
    "b": Problem(batch=6),
    "c": Problem(
        anchors=10,
        points=2000,
        cameras=1,
        maps=((32, 88),),
        visible=1.0,
        clustered=False,
    ),
    "d": Problem(anchors=100, points=8, channels=64),
    "e": Problem(anchors=2048, points=32),
}
TITLES = {
    "a": "Sparse4D v3, one frame",
    "b": "Sparse4D v3, six frames",
    "c": "one map, 10 anchors x 2000 points",
    "d": "small",
    "e": "2048 anchors x 32 points",
}
TINY = Problem(
    anchors=1, points=1, cameras=1, maps=((4, 4),), channels=8, groups=1, visible=1.0
)
GROWTH = {  # what happens to case a when one number changes
    "batch": [replace(PROBLEMS["a"], batch=n) for n in (1, 2, 4)],
    "anchors": [replace(PROBLEMS["a"], anchors=n) for n in (100, 300, 900, 1800)],
    "points": [replace(PROBLEMS["a"], points=n) for n in (4, 8, 13, 26)],
    "channels": [
        replace(PROBLEMS["a"], channels=n, groups=8) for n in (64, 128, 256, 512)
    ],
    "visible": [replace(PROBLEMS["a"], visible=x) for x in (0.05, 0.1, 0.25, 0.5, 1.0)],
}


class Inputs(NamedTuple):
    """The arguments of the operator and a cotangent of its result."""

    feature_maps: np.ndarray
    spatial_shape: np.ndarray
    scale_start_index: np.ndarray
    sample_locations: np.ndarray
    weight: np.ndarray
    cotangent: np.ndarray


FLOATS = (0, 3, 4)  # of Inputs: feature_maps, sample_locations, weight


def make(problem: Problem, seed: int = 0) -> Inputs:
    """float32 inputs, the same for the same problem and seed."""
    rng = np.random.default_rng(seed)
    scales = len(problem.maps)
    shape = np.array([problem.maps] * problem.cameras, np.int32)
    sizes = shape.prod(axis=-1).ravel()
    start = (np.cumsum(sizes) - sizes).reshape(problem.cameras, scales)
    samples = (problem.batch, problem.anchors, problem.points, problem.cameras)
    one_per_anchor = (problem.batch, problem.anchors, 1, problem.cameras)
    if problem.warp:
        locations = np.broadcast_to(warped(problem.anchors), (*samples, 2))
        seen = np.ones((*samples, 1), bool)
    elif problem.clustered:
        centres = rng.random((*one_per_anchor, 2), np.float32)
        spread = rng.standard_normal((*samples, 2), np.float32)
        locations = centres + np.float32(0.05) * spread
        seen = rng.random((*one_per_anchor, 1)) < problem.visible
    else:
        locations = rng.uniform(1e-4, 1 - 1e-4, (*samples, 2)).astype(np.float32)
        seen = rng.random((*samples, 1)) < problem.visible
    rows = (problem.batch, int(sizes.sum()), problem.channels)
    results = (problem.batch, problem.anchors, problem.channels)
    return Inputs(
        rng.standard_normal(rows, np.float32),
        shape,
        start.astype(np.int32),
        np.where(seen, locations, np.float32(-1)),
        rng.random((*samples, scales, problem.groups), np.float32),
        rng.standard_normal(results, np.float32),
    )


def warped(count: int) -> np.ndarray:
    """(y, x) of a grid of pixels that is bent a little [count, 1, 1, 2]."""
    side = int(np.ceil(count**0.5))
    y, x = np.divmod(np.arange(count), side)
    at = (np.stack([y, x], -1) + 0.5) / side
    bent = at + 0.01 * np.sin(9 * at[:, ::-1])
    return bent.clip(1e-4, 1 - 1e-4).astype(np.float32)[:, None, None]


def is_visible(inputs: Inputs) -> np.ndarray:
    """[b, a, p, k]"""
    at = inputs.sample_locations
    return ((at > 0) & (at < 1)).all(axis=-1)
