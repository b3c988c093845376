"""A street with a car that has six cameras: what the examples look at.

Everything is in the car's axes: x forward, y left, z up, in metres.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

HEIGHT, WIDTH = 256, 704
HORIZON = np.array([0.90, 0.94, 0.97])
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


def traffic(rng: np.random.Generator, gaps: tuple[float, float] = (5, 15)) -> Boxes:
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
            along += size[0] + rng.uniform(*gaps)
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


class Seen(NamedTuple):
    """What pixels see."""

    colour: jax.Array  # [h, w, 3], 0 to 1
    distance: jax.Array  # [h, w], in metres
    box: jax.Array  # [h, w], its number; -1 for the ground and the sky


def render(camera: Camera, boxes: Boxes, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour [h, w, 3] and distance [h, w] of what every step-th pixel sees."""
    seen = look(*camera[1:], Boxes(*map(jnp.asarray, boxes)), step)
    return np.asarray(seen.colour), np.asarray(seen.distance)


class Street(NamedTuple):
    """A street with traffic, and what six cameras see of it."""

    cameras: list[Camera]
    vehicles: Boxes
    images: np.ndarray  # [cam, h, w, 3], 0 to 1
    maps: np.ndarray  # [1, cam, h, w, 4]: the images, and where vehicles are


def street(seed: int, step: int) -> Street:
    """A random street, of which cameras see every step-th pixel."""
    cameras, boxes = camera_rig(), traffic(np.random.default_rng(seed))
    is_vehicle = boxes.size[:, 2] < 4
    on_device = Boxes(*map(jnp.asarray, boxes))
    seen = [look(*camera[1:], on_device, step) for camera in cameras]
    images, numbers = (np.stack([s[part] for s in seen]) for part in (0, 2))
    masks = (numbers >= 0) & is_vehicle[numbers]
    maps = np.concatenate([images, masks[..., None]], axis=-1)[None]
    vehicles = Boxes(*(field[is_vehicle] for field in boxes))
    return Street(cameras, vehicles, images, maps.astype(np.float32))


def pyramid(maps: np.ndarray, scales: int) -> list[np.ndarray]:
    """Maps [bs, cam, h, w, c], and smaller ones, each the means of 2 x 2 pixels."""
    found = [maps]
    for _ in range(scales - 1):
        bs, cam, h, w, c = found[-1].shape
        halves = found[-1].reshape(bs, cam, h // 2, 2, w // 2, 2, c)
        found.append(halves.mean(axis=(3, 5)))
    return found


@functools.partial(jax.jit, static_argnames="step")
def look(
    intrinsics: jax.Array,
    rotation: jax.Array,
    position: jax.Array,
    boxes: Boxes,
    step: int,
) -> Seen:
    """What every step-th pixel of a camera sees."""
    v, u = jnp.mgrid[step / 2 : HEIGHT : step, step / 2 : WIDTH : step]
    pixel = jnp.stack([u, v, jnp.ones_like(u)], -1)
    rays = pixel @ jnp.linalg.inv(intrinsics).T @ rotation
    rays = rays / jnp.linalg.norm(rays, axis=-1, keepdims=True)
    ground = jnp.where(rays[..., 2] < -1e-6, -position[2] / rays[..., 2], jnp.inf)

    def nearer(found, numbered):
        distance, seen = found
        number, box = numbered
        enter, leave = crossings(box, position, rays)
        hit = functools.reduce(jnp.maximum, enter)
        end = functools.reduce(jnp.minimum, leave, distance)
        is_nearer = (hit > 0.1) & (hit < end)
        return tuple(
            jnp.where(is_nearer, new, old)
            for new, old in ((hit, distance), (number, seen))
        ), None

    start = jnp.minimum(ground, FAR), jnp.full(u.shape, -1)
    numbered = jnp.arange(len(boxes.centre)), boxes
    (distance, seen), _ = jax.lax.scan(nearer, start, numbered)

    above = jnp.clip(rays[..., 2:] * 2.5, 0, 1)
    sky = (1 - above) * HORIZON + above * SKY
    spot = position + distance[..., None] * rays
    box = jax.tree.map(lambda field: field[seen], boxes)
    colour = painted(box, position, rays, spot)
    colour = jnp.where(seen[..., None] < 0, surface(spot), colour)
    haze = jnp.exp(-distance / 90)[..., None]
    colour = jnp.where(distance[..., None] < FAR, haze * colour + (1 - haze) * sky, sky)
    return Seen(colour, distance, seen)


def crossings(
    box: Boxes, position: jax.Array, rays: jax.Array
) -> tuple[list[jax.Array], list[jax.Array]]:
    """At which distances rays enter and leave a box, for each of its three axes."""
    enter, leave = [], []
    starts, alongs = into_box(box, position - box.centre), into_box(box, rays)
    for axis, (start, along) in enumerate(zip(starts, alongs, strict=True)):
        half = box.size[..., axis] / 2
        along = jnp.where(along == 0, 1e-9, along)  # else 0 / 0 along a side
        one, two = (-half - start) / along, (half - start) / along
        enter.append(jnp.minimum(one, two))
        leave.append(jnp.maximum(one, two))
    return enter, leave


def into_box(box: Boxes, vectors: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Vectors [..., 3] of the world, along each axis of a box."""
    c, s = jnp.cos(box.yaw), jnp.sin(box.yaw)
    x, y, z = jnp.moveaxis(vectors, -1, 0)
    return c * x + s * y, c * y - s * x, z


def surface(spot: jax.Array) -> jax.Array:
    """Colour of the ground: a road with markings through grass."""
    x, y = spot[..., 0], jnp.abs(spot[..., 1])
    dashes = (jnp.abs(y - 5.25) < 0.12) & (x % 6 < 3)
    is_marked = dashes | (y < 0.12) | (jnp.abs(y - 8.8) < 0.1)
    ground = jnp.where((y < 9)[..., None], ROAD, GRASS)
    return jnp.where(is_marked[..., None], 0.93, ground)


def painted(
    box: Boxes, position: jax.Array, rays: jax.Array, spot: jax.Array
) -> jax.Array:
    """Colour of a box that a ray hits, with windows on its upright sides."""
    side = jnp.argmax(jnp.stack(crossings(box, position, rays)[0]), axis=0)
    x, y, z = into_box(box, spot - box.centre)
    half = box.size[..., 2] / 2
    is_glass = jnp.where(
        half < 2,  # a vehicle
        jnp.abs(z - 0.2 * half) < 0.42 * half,
        (z % 3 > 1.2) & ((x + y) % 2.4 > 1.1),
    )
    shade = jnp.asarray([0.80, 0.95, 1.12])[side][..., None]
    colour = jnp.clip(box.colour * shade, 0, 1)
    return jnp.where((is_glass & (side != 2))[..., None], 0.55 * colour + 0.06, colour)


def points_of(boxes: Boxes, offsets: np.ndarray) -> np.ndarray:
    """Points [n, m, 3] of boxes; offsets [m, 3] are in sizes, from the centre."""
    x, y, z = np.moveaxis(offsets * boxes.size[:, None], -1, 0)
    c, s = np.cos(boxes.yaw)[:, None], np.sin(boxes.yaw)[:, None]
    return boxes.centre[:, None] + np.stack([c * x - s * y, s * x + c * y, z], -1)


def footprint(boxes: Boxes) -> np.ndarray:
    """Corners [n, 4, 2] of the boxes on the ground."""
    corners = np.array([(1, 1, -1), (1, -1, -1), (-1, -1, -1), (-1, 1, -1)]) / 2
    return points_of(boxes, corners)[..., :2]
