"""Deformable aggregation on a synthetic six-camera drive, forward and backward.

A car with six cameras stands on a street. Around it lie 900 anchors, boxes as a 3D
detector places them, each with 13 key points. The key points are projected into the
cameras, and `jda.deformable_aggregation` samples four scales of feature maps there. The
maps encode what each pixel sees (a colour and how near it is), so that the feature of
an anchor should say what stands where the anchor is: the picture shows that it does.

    python examples/six_cameras.py --output build/six_cameras.png
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from picture import Drawn, draw
from scene import Boxes, camera_rig, points_of, project, render, traffic

import jda

STRIDES = (4, 8, 16, 32)
CHANNELS, GROUPS = 256, 8
ANCHORS = 900
TOLERANCE = 1e-4  # float32 sums of a few hundred terms in two orders


def feature_maps(
    images: list[np.ndarray], depths: list[np.ndarray]
) -> list[np.ndarray]:
    """Per scale [1, cam, h, w, c]: colour, nearness, and smooth waves of both.

    The first three channels are the colour, the fourth is how near the pixel is; a
    fixed random projection and a sine make the rest, as a network's features would be
    functions of what is seen.
    """
    rng = np.random.default_rng(0)
    projection = rng.normal(0, 1.2, (4, CHANNELS - 4))
    phase = rng.uniform(0, 2 * np.pi, CHANNELS - 4)
    fine = np.concatenate(
        [np.stack(images), np.exp(-np.stack(depths) / 25)[..., None]], -1
    )
    scales = []
    for stride in STRIDES:
        n = stride // STRIDES[0]
        cam, h, w, c = fine.shape
        mean = fine.reshape(cam, h // n, n, w // n, n, c).mean(axis=(2, 4))
        waves = 0.3 * np.sin(3 * mean @ projection + phase)
        scales.append(np.concatenate([mean, waves], -1)[None].astype(np.float32))
    return scales


def place_anchors(rng: np.random.Generator, boxes: Boxes) -> Boxes:
    """Half of the anchors near vehicles, as a detector refines them, half anywhere."""
    vehicles = boxes.size[:, 2] < 4
    chosen = rng.choice(np.flatnonzero(vehicles), ANCHORS // 2)
    near = boxes.centre[chosen] + rng.normal(0, [0.5, 0.3, 0.1], (ANCHORS // 2, 3))
    rest = ANCHORS - len(near)
    free = rng.uniform([-50, -14, 0.5], [50, 14, 1.5], (rest, 3))
    sizes = np.tile([4.5, 1.9, 1.6], (rest, 1))
    return Boxes(
        np.concatenate([near, free]),
        np.concatenate([boxes.size[chosen], sizes]),
        np.concatenate([boxes.yaw[chosen], rng.uniform(-np.pi, np.pi, rest)]),
        np.zeros((ANCHORS, 3)),
    )


def key_points() -> np.ndarray:
    """Thirteen offsets [13, 3] in sizes of a box: the centre, faces, inner corners."""
    faces = np.concatenate([np.zeros((1, 3)), 0.45 * np.eye(3), -0.45 * np.eye(3)])
    signs = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1), (1, 1, -1), (-1, -1, -1)]
    return np.concatenate([faces, 0.3 * np.array(signs)])


def attention(visible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weights [1, a, p, cam, scale, group]: a softmax over what an anchor sees."""
    scores = rng.normal(0, 0.5, (*visible.shape, len(STRIDES), GROUPS))
    weight = np.exp(scores) * visible[..., None, None]
    total = weight.sum(axis=(1, 2, 3), keepdims=True)
    return (weight / np.maximum(total, 1e-9))[None].astype(np.float32)


def relative_error(ours: jax.Array, right: jax.Array) -> float:
    return float(jnp.abs(ours - right).max() / jnp.abs(right).max())


class Result(NamedTuple):
    features: np.ndarray  # [a, c]
    heat: np.ndarray  # [cam, h, w]: how strongly the result depends on each pixel


def aggregate(
    packed: jda.PackedFeatureMaps, locations: np.ndarray, weight: np.ndarray
) -> Result:
    """Runs forward and backward, times them and compares them with the reference."""
    arguments = [jax.device_put(x) for x in (packed, locations, weight)]

    def program(implementation: str | None):
        def call(packed, locations, weight):
            return jda.deformable_aggregation(
                *packed, locations, weight, implementation=implementation
            )

        def both(*arguments):
            out, pull = jax.vjp(call, *arguments)
            return out, *pull(jnp.ones_like(out))

        return jax.jit(both)

    ours = program(None)
    results = jax.block_until_ready(ours(*arguments))
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        jax.block_until_ready(ours(*arguments))
        times.append(time.perf_counter() - begin)
    print(f"forward + backward: {1e3 * np.median(times):.1f} ms (median of 10 calls)")

    right = program("reference")(*arguments)
    names = ("result", "grad feature_maps", "grad sample_locations", "grad weight")
    errors = {
        name: relative_error(mine, theirs)
        for name, mine, theirs in zip(
            names, *map(jax.tree.leaves, (results, right)), strict=True
        )
    }
    print("largest difference from the reference, relative to the largest element:")
    for name, error in errors.items():
        print(f"  {name:22s} {error:.1e}")
    if not max(errors.values()) < TOLERANCE:
        raise SystemExit(f"that is more than {TOLERANCE:.0e}: something is wrong")

    scales = jda.unpack_feature_maps(results[1], layout="bkhwc")
    heat = 0.0
    for stride, scale in zip(STRIDES, scales, strict=True):
        n = stride // STRIDES[0]
        strength = np.abs(np.asarray(scale[0])).mean(axis=-1) / n**2
        heat = heat + strength.repeat(n, axis=1).repeat(n, axis=2)
    return Result(np.asarray(results[0][0]), heat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/six_cameras.png"))
    path = parser.parse_args().output
    print(jda.implementations())

    rng = np.random.default_rng(3)
    cameras, boxes = camera_rig(), traffic(rng)
    images, depths = zip(
        *(render(camera, boxes, STRIDES[0]) for camera in cameras), strict=True
    )
    packed = jda.pack_feature_maps(feature_maps(images, depths), layout="bkhwc")

    anchors = place_anchors(rng, boxes)
    points = points_of(anchors, key_points())
    locations = np.stack([project(camera, points)[0] for camera in cameras], axis=2)
    visible = ((locations > 0) & (locations < 1)).all(axis=-1)
    print(
        f"{ANCHORS} anchors x {points.shape[1]} key points x {len(cameras)} cameras x "
        f"{len(STRIDES)} scales, {CHANNELS} channels"
    )
    print(f"visible: {100 * visible.mean():.0f} % of the samples")
    weight = attention(visible, rng)
    result = aggregate(packed, locations[None].astype(np.float32), weight)

    sharp = [render(camera, boxes, 1)[0] for camera in cameras]
    refined = np.arange(ANCHORS) < ANCHORS // 2
    seen = Drawn(cameras, sharp, boxes, anchors, refined, locations, visible, *result)
    draw(path, seen)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
