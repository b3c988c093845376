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
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jda

HEIGHT, WIDTH = 256, 704
STRIDES = (4, 8, 16, 32)
CHANNELS, GROUPS = 256, 8
ANCHORS = 900
TOLERANCE = 1e-4  # float32 sums of a few hundred terms in two orders
TALL = 14.2  # inches of picture
SKY = np.array([0.62, 0.78, 0.93])
ROAD = np.array([0.36, 0.37, 0.40])
GRASS = np.array([0.52, 0.66, 0.42])


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
    near = np.where(ground < 150, ground, 0)[:, None]
    spot = camera.position + near * rays
    road = np.abs(spot[:, 1]) < 9
    marking = (np.abs(np.abs(spot[:, 1]) - 5.25) < 0.12) & (spot[:, 0] % 6 < 3)
    marking |= (np.abs(spot[:, 1]) < 0.12) | (np.abs(np.abs(spot[:, 1]) - 8.8) < 0.1)
    surface = np.where(road[:, None], ROAD, GRASS)
    surface = np.where(marking[:, None], 0.93, surface)
    haze = np.exp(-ground / 90)[:, None]
    above = np.clip(rays[:, 2:] * 2.5, 0, 1)
    sky = (1 - above) * np.array([0.90, 0.94, 0.97]) + above * SKY
    colour = np.where(ground[:, None] < 150, haze * surface + (1 - haze) * sky, sky)
    distance = np.where(ground < 150, ground, 150.0)

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


def key_points(anchors: Boxes) -> np.ndarray:
    """Thirteen points [n, 13, 3]: the centre, the faces and inner corners."""
    faces = np.concatenate([np.zeros((1, 3)), 0.45 * np.eye(3), -0.45 * np.eye(3)])
    signs = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1), (1, 1, -1)])
    corners = 0.3 * np.concatenate([signs, [(-1, -1, -1)]])
    offsets = np.concatenate([faces, corners]) * anchors.size[:, None]
    c, s = np.cos(anchors.yaw)[:, None], np.sin(anchors.yaw)[:, None]
    x, y, z = np.moveaxis(offsets, -1, 0)
    return anchors.centre[:, None] + np.stack([c * x - s * y, s * x + c * y, z], -1)


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
    arguments = [jnp.asarray(x) for x in (packed.feature_maps, locations, weight)]

    def program(implementation: str | None):
        def both(features, locations, weight, cotangent):
            def call(features, locations, weight):
                return jda.deformable_aggregation(
                    features,
                    packed.spatial_shape,
                    packed.scale_start_index,
                    locations,
                    weight,
                    implementation=implementation,
                )

            out, pull = jax.vjp(call, features, locations, weight)
            return out, *pull(cotangent)

        return jax.jit(both)

    cotangent = jnp.ones((1, ANCHORS, CHANNELS))
    ours = program(None)
    results = jax.block_until_ready(ours(*arguments, cotangent))
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        jax.block_until_ready(ours(*arguments, cotangent))
        times.append(time.perf_counter() - begin)
    print(f"forward + backward: {1e3 * np.median(times):.1f} ms (median of 10 calls)")

    right = program("reference")(*arguments, cotangent)
    names = ("result", "grad feature_maps", "grad sample_locations", "grad weight")
    errors = {
        name: relative_error(mine, theirs)
        for name, mine, theirs in zip(names, results, right, strict=True)
    }
    print("largest difference from the reference, relative to the largest element:")
    for name, error in errors.items():
        print(f"  {name:22s} {error:.1e}")
    if not max(errors.values()) < TOLERANCE:
        raise SystemExit(f"that is more than {TOLERANCE:.0e}: something is wrong")

    gradient = replace(packed, feature_maps=results[1])
    scales = jda.unpack_feature_maps(gradient, layout="bkhwc")
    heat = 0.0
    for stride, scale in zip(STRIDES, scales, strict=True):
        n = stride // STRIDES[0]
        strength = np.abs(np.asarray(scale[0])).mean(axis=-1) / n**2
        heat = heat + strength.repeat(n, axis=1).repeat(n, axis=2)
    return Result(np.asarray(results[0][0]), heat)


def footprint(boxes: Boxes) -> np.ndarray:
    """Corners [n, 4, 2] of the boxes on the ground."""
    signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) / 2
    offsets = signs * boxes.size[:, None, :2]
    c, s = np.cos(boxes.yaw)[:, None], np.sin(boxes.yaw)[:, None]
    x, y = offsets[..., 0], offsets[..., 1]
    return boxes.centre[:, None, :2] + np.stack([c * x - s * y, s * x + c * y], -1)


def highlighted(anchors: Boxes, boxes: Boxes, visible: np.ndarray) -> list[int]:
    """The anchors that lie best on the eight nearest vehicles, by direction."""
    vehicles = np.flatnonzero(boxes.size[:, 2] < 4)
    distance = np.linalg.norm(boxes.centre[vehicles, :2], axis=1)
    nearest = vehicles[np.argsort(distance)[:8]]
    seen = visible.any(axis=(1, 2))
    chosen = []
    for vehicle in nearest:
        error = np.linalg.norm(anchors.centre - boxes.centre[vehicle], axis=1)
        chosen.append(int(np.where(seen, error, np.inf).argmin()))
    return sorted(chosen, key=lambda a: np.arctan2(*anchors.centre[a, 1::-1]))


def draw(
    path: Path,
    cameras: list[Camera],
    images: list[np.ndarray],
    boxes: Boxes,
    anchors: Boxes,
    locations: np.ndarray,
    visible: np.ndarray,
    result: Result,
) -> None:
    """What goes in (images, key points), what comes out, and what flows back."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Wedge

    paper, ink, faint = "#14171c", "#e8eaed", "#8b929c"
    plt.rcParams |= {"font.family": "DejaVu Sans", "text.color": ink}
    figure = plt.figure(figsize=(16, TALL), facecolor=paper)
    chosen = highlighted(anchors, boxes, visible)
    colours = plt.get_cmap("hsv")(np.linspace(0, 1, len(chosen), endpoint=False))

    def heading(y: float, title: str, text: str) -> None:
        figure.text(0.02, y, title, fontsize=15, weight="bold")
        figure.text(0.02, y - 0.016, text, fontsize=10.5, color=faint)

    def panel(x: float, y: float, width: float, height: float):
        axes = figure.add_axes((x, y, width, height))
        axes.set(xticks=[], yticks=[], facecolor=paper)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    heading(
        0.981,
        "1  Sample: key points of 3D anchors, projected into six cameras",
        f"{ANCHORS} anchors × 13 key points; eight anchors are marked. "
        f"{100 * visible.mean():.0f} % of all (key point, camera) pairs fall into an "
        "image, the others cost nothing.",
    )
    width, height = 0.314, 0.314 * 16 / TALL * HEIGHT / WIDTH
    frame = {"extent": (0, 1, 1, 0), "aspect": "auto"}

    def image_panel(k: int, top: float, name: str):
        axes = panel(
            0.02 + (k % 3) * (width + 0.009),
            top - (k // 3) * (height + 0.007) - height,
            width,
            height,
        )
        label = {"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 2.5}
        axes.text(0.012, 0.95, name, size=9.5, bbox=label, zorder=9)
        return axes

    top = 0.951
    for k, (camera, image) in enumerate(zip(cameras, images, strict=True)):
        axes = image_panel(k, top, camera.name)
        axes.imshow(np.clip(image, 0, 1), **frame)
        seen = visible[:, :, k]
        dots = locations[:, :, k][seen].T[::-1]
        axes.scatter(*dots, s=0.5, c="white", alpha=0.3)
        for a, colour in zip(chosen, colours, strict=True):
            dots = locations[a, seen[a], k].T[::-1]
            axes.scatter(*dots, s=22, color=colour, edgecolor="black", linewidth=0.7)
        axes.set(xlim=(0, 1), ylim=(1, 0))

    low = top - 2 * (height + 0.007)
    heading(
        low - 0.026,
        "2  Aggregate: one feature for each anchor",
        "Seen from above, filled with the three channels that carry colour here. "
        "Boxes: refined anchors. Dots: all others. Outlines: what stands there; what "
        "is hidden takes the colour of what hides it.",
    )
    tall = 0.27
    axes = panel(0.02, low - 0.06 - tall, 0.96, tall)
    axes.set_facecolor("#1d2128")
    axes.axhspan(-9, 9, color="#272c35", zorder=0)
    for camera in cameras:
        ahead = camera.rotation[2]
        yaw = np.degrees(np.arctan2(ahead[1], ahead[0]))
        half = np.degrees(np.arctan(WIDTH / 2 / camera.intrinsics[0, 0]))
        axes.add_patch(
            Wedge(
                camera.position[:2],
                13,
                yaw - half,
                yaw + half,
                color="white",
                alpha=0.06,
            )
        )
    seen = visible.any(axis=(1, 2))
    refined = np.arange(ANCHORS) < ANCHORS // 2
    sampled = np.clip(result.features[:, :3], 0, 1)
    free = seen & ~refined
    axes.scatter(
        *anchors.centre[free, :2].T, s=26, c=sampled[free], linewidth=0, alpha=0.9
    )
    axes.add_collection(
        PolyCollection(
            footprint(anchors)[seen & refined],
            facecolor=sampled[seen & refined],
            edgecolor="none",
            alpha=0.3,
        )
    )
    axes.add_collection(
        PolyCollection(
            footprint(boxes), facecolor="none", edgecolor=boxes.colour, lw=2.0, zorder=3
        )
    )
    axes.scatter(
        *anchors.centre[chosen, :2].T,
        s=42,
        color=colours,
        edgecolor="black",
        linewidth=1.0,
        zorder=5,
    )
    ego = Boxes(
        np.zeros((1, 3)), np.array([[4.6, 2.0, 1.6]]), np.zeros(1), np.ones((1, 3))
    )
    axes.add_collection(PolyCollection(footprint(ego), facecolor=ink, zorder=4))
    axes.text(
        0, 0, "ego  ▶", ha="center", va="center", color=paper, fontsize=8, zorder=5
    )
    axes.set(xlim=(-53, 53), ylim=(-16, 16), aspect="auto")

    low -= 0.06 + tall
    heading(
        low - 0.026,
        "3  Differentiate: where the gradient flows back to",
        "Size of the gradient of the feature maps, all four scales together, on a "
        "logarithmic colour scale. It is exactly zero wherever no sample fell.",
    )
    bounds = np.quantile(result.heat[result.heat > 0], [0.05, 0.999])
    scale = matplotlib.colors.LogNorm(*bounds, clip=True)
    for k, camera in enumerate(cameras):
        axes = image_panel(k, low - 0.059, camera.name)
        axes.imshow(images[k].mean(axis=-1), cmap="gray", alpha=0.35, **frame)
        heat = np.ma.masked_less_equal(result.heat[k], 0)
        axes.imshow(heat, cmap="inferno", norm=scale, alpha=0.9, **frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, facecolor=paper)


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
    points = key_points(anchors)
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
    draw(path, cameras, sharp, boxes, anchors, locations, visible, result)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
