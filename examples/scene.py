"""A street with a car that has six cameras: what the examples look at.

Everything is in the car's axes: x forward, y left, z up, in metres.
"""

from typing import NamedTuple

import numpy as np

HEIGHT, WIDTH = 256, 704
SKY = np.array([0.62, 0.78, 0.93])
ROAD = np.array([0.36, 0.37, 0.40])
GRASS = np.array([0.52, 0.66, 0.42])
FAR = 150.0  # metres: what is farther is sky


class Camera(NamedTuple):
    """A pinhole camera: pixel ~ intrinsics @ rotation @ (point - position)."""

    name: str
    intrinsics: np.ndarray  # [3, 3]
    rotation: np.ndarray  # [3, 3], from the car's axes to the camera's
    position: np.ndarray  # [3]


class Boxes(NamedTuple):
    """Upright boxes in the car's axes: x forward, y left, z up, in metres."""

    centre: np.ndarray  # [n, 3]
    size: np.ndarray  # [n, 3]: length, width, height
    yaw: np.ndarray  # [n]
    colour: np.ndarray  # [n, 3]


def camera_rig() -> list[Camera]:
    """Six cameras around the roof; the rear one has a wider view."""
    cameras = []
    for name, degrees, view in (
        ("front left", 55, 70),
        ("front", 0, 70),
        ("front right", -55, 70),
        ("back left", 110, 70),
        ("back", 180, 100),
        ("back right", -110, 70),
    ):
        focal = WIDTH / 2 / np.tan(np.radians(view) / 2)
        intrinsics = np.array([[focal, 0, WIDTH / 2], [0, focal, 110], [0, 0, 1]])
        yaw = np.radians(degrees)
        ahead = np.array([np.cos(yaw), np.sin(yaw), 0])
        down = np.array([0.0, 0, -1])
        rotation = np.stack([np.cross(down, ahead), down, ahead])
        position = np.array([0.3, 0, 1.6]) + 0.6 * ahead
        cameras.append(Camera(name, intrinsics, rotation, position))
    return cameras


def project(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalised (y, x) in the image and depth, for points [..., 3]."""
    seen = (points - camera.position) @ camera.rotation.T
    pixel = seen @ camera.intrinsics.T
    depth = seen[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        yx = np.stack(
            [pixel[..., 1] / depth / HEIGHT, pixel[..., 0] / depth / WIDTH], -1
        )
    return np.where(depth[..., None] > 0.1, yx, -1.0), depth


def traffic(rng: np.random.Generator) -> Boxes:
    """Vehicles on the lanes of a street and buildings beside it."""
    palette = np.array(
        [
            [0.85, 0.20, 0.20],
            [0.16, 0.38, 0.80],
            [0.95, 0.73, 0.18],
            [0.90, 0.90, 0.92],
            [0.13, 0.57, 0.45],
            [0.55, 0.27, 0.68],
        ]
    )
    centres, sizes, yaws, colours = [], [], [], []
    for lane, heading in ((-7.0, 0.0), (-3.5, 0.0), (3.5, np.pi), (7.0, np.pi)):
        along = -48.0 + rng.uniform(0, 8)
        while along < 48:
            truck = rng.random() < 0.2
            size = np.array([8.5, 2.6, 3.2] if truck else [4.5, 1.9, 1.6])
            centres.append([along, lane + rng.uniform(-0.3, 0.3), size[2] / 2])
            sizes.append(size)
            yaws.append(heading + rng.normal(0, 0.04))
            colours.append(palette[rng.integers(len(palette))])
            along += size[0] + rng.uniform(5, 15)
    for side in (-1, 1):
        along = -52.0
        while along < 52:
            length, height = rng.uniform(8, 16), rng.uniform(6, 13)
            centres.append([along + length / 2, side * 19.0, height / 2])
            sizes.append([length - 1.0, 8.0, height])
            yaws.append(0.0)
            colours.append(rng.uniform(0.5, 0.78) * np.array([1.0, 0.9, 0.8]))
            along += length + rng.uniform(0, 5)
    return Boxes(*(np.array(x) for x in (centres, sizes, yaws, colours)))


def into_box(boxes: Boxes, points: np.ndarray) -> np.ndarray:
    """Offsets [n, m, 3] of the car's axes, turned into the axes of each box."""
    c, s = np.cos(boxes.yaw)[:, None], np.sin(boxes.yaw)[:, None]
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([c * x + s * y, c * y - s * x, z], -1)


def render(camera: Camera, boxes: Boxes, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour [h, w, 3] and distance [h, w] of what every step-th pixel sees."""
    v, u = np.mgrid[step / 2 : HEIGHT : step, step / 2 : WIDTH : step]
    pixel = np.stack([u, v, np.ones_like(u)], -1)
    rays = pixel @ np.linalg.inv(camera.intrinsics).T @ camera.rotation
    shape, rays = rays.shape[:2], rays.reshape(-1, 3)
    rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)

    with np.errstate(divide="ignore"):
        ground = np.where(rays[:, 2] < -1e-6, -camera.position[2] / rays[:, 2], np.inf)
    near = np.where(ground < FAR, ground, 0)[:, None]
    spot = camera.position + near * rays
    road = np.abs(spot[:, 1]) < 9
    marking = (np.abs(np.abs(spot[:, 1]) - 5.25) < 0.12) & (spot[:, 0] % 6 < 3)
    marking |= (np.abs(spot[:, 1]) < 0.12) | (np.abs(np.abs(spot[:, 1]) - 8.8) < 0.1)
    surface = np.where(road[:, None], ROAD, GRASS)
    surface = np.where(marking[:, None], 0.93, surface)
    haze = np.exp(-ground / 90)[:, None]
    above = np.clip(rays[:, 2:] * 2.5, 0, 1)
    sky = (1 - above) * np.array([0.90, 0.94, 0.97]) + above * SKY
    colour = np.where(ground[:, None] < FAR, haze * surface + (1 - haze) * sky, sky)
    distance = np.where(ground < FAR, ground, FAR)

    for i in range(len(boxes.centre)):
        box = Boxes(*(field[i : i + 1] for field in boxes))
        if project(camera, box.centre)[1][0] < -np.linalg.norm(box.size) / 2:
            continue
        start = into_box(box, (camera.position - box.centre)[None])[0]
        along = into_box(box, rays[None])[0]
        half = box.size[0] / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            one, two = (-half - start) / along, (half - start) / along
        enter = np.minimum(one, two)
        hit = enter.max(axis=1)
        nearest = hit < np.minimum(np.maximum(one, two).min(axis=1), distance)
        seen = np.flatnonzero(nearest & (hit > 0.1))
        side, hit = enter[seen].argmax(axis=1), hit[seen]
        x, y, z = (start + hit[:, None] * along[seen]).T
        upright = side != 2
        if half[2] < 2:  # a vehicle
            glass = upright & (np.abs(z - 0.2 * half[2]) < 0.42 * half[2])
        else:
            glass = upright & (z % 3 > 1.2) & ((x + y) % 2.4 > 1.1)
        painted = np.clip(
            box.colour * np.array([0.80, 0.95, 1.12])[side][:, None], 0, 1
        )
        painted = np.where(glass[:, None], 0.55 * painted + 0.06, painted)
        haze = np.exp(-hit / 90)[:, None]
        colour[seen] = haze * painted + (1 - haze) * sky[seen]
        distance[seen] = hit
    return colour.reshape(*shape, 3), distance.reshape(shape)


def footprint(boxes: Boxes) -> np.ndarray:
    """Corners [n, 4, 2] of the boxes on the ground."""
    signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) / 2
    offsets = signs * boxes.size[:, None, :2]
    c, s = np.cos(boxes.yaw)[:, None], np.sin(boxes.yaw)[:, None]
    x, y = offsets[..., 0], offsets[..., 1]
    return boxes.centre[:, None, :2] + np.stack([c * x - s * y, s * x + c * y], -1)
