"""The picture of examples/six_cameras.py: what goes in, comes out, and flows back."""

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.patches import Wedge
from scene import HEIGHT, WIDTH, Boxes, Camera, footprint

WIDE, TALL = 16, 14.2  # inches
PAPER, INK, FAINT = "#14171c", "#e8eaed", "#8b929c"
PANEL = 0.314  # of the width, for one of three images in a row
PANEL_HEIGHT = PANEL * WIDE / TALL * HEIGHT / WIDTH
FROM_ABOVE = 0.27  # of the height
FRAME: dict[str, Any] = {"extent": (0, 1, 1, 0), "aspect": "auto"}


class Drawn(NamedTuple):
    """What is drawn."""

    cameras: list[Camera]
    images: list[np.ndarray]  # [h, w, 3] each
    boxes: Boxes  # what stands there
    anchors: Boxes
    refined: np.ndarray  # [a]: the anchors that lie near vehicles
    locations: np.ndarray  # [a, p, cam, 2], (y, x)
    visible: np.ndarray  # [a, p, cam]
    features: np.ndarray  # [a, c]: the first three channels carry colour
    heat: np.ndarray  # [cam, h, w]: how strongly the result depends on each pixel


def draw(path: Path, scene: Drawn) -> None:
    """Three sections, one below the other."""
    plt.rcParams |= {"font.family": "DejaVu Sans", "text.color": INK}
    figure = plt.figure(figsize=(WIDE, TALL), facecolor=PAPER)
    chosen = highlighted(scene)
    colours = plt.get_cmap("hsv")(np.linspace(0, 1, len(chosen), endpoint=False))
    marked = list(zip(chosen, colours, strict=True))
    draw_samples(figure, 0.981, scene, marked)
    draw_features(figure, 0.925 - 2 * (PANEL_HEIGHT + 0.007), scene, marked)
    draw_gradient(figure, 0.865 - 2 * (PANEL_HEIGHT + 0.007) - FROM_ABOVE, scene)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, facecolor=PAPER)


def highlighted(scene: Drawn) -> list[int]:
    """The anchors that lie best on the eight nearest vehicles, by direction."""
    anchors, boxes = scene.anchors, scene.boxes
    vehicles = np.flatnonzero(boxes.size[:, 2] < 4)
    distance = np.linalg.norm(boxes.centre[vehicles, :2], axis=1)
    seen = scene.visible.any(axis=(1, 2))
    chosen = []
    for vehicle in vehicles[np.argsort(distance)[:8]]:
        error = np.linalg.norm(anchors.centre - boxes.centre[vehicle], axis=1)
        chosen.append(int(np.where(seen, error, np.inf).argmin()))
    return sorted(chosen, key=lambda a: np.arctan2(*anchors.centre[a, 1::-1]))


def heading(figure: Any, y: float, title: str, text: str) -> None:
    figure.text(0.02, y, title, fontsize=15, weight="bold")
    figure.text(0.02, y - 0.016, text, fontsize=10.5, color=FAINT)


def panel(figure: Any, x: float, y: float, width: float, height: float) -> Any:
    axes = figure.add_axes((x, y, width, height))
    axes.set(xticks=[], yticks=[], facecolor=PAPER)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def image_panel(figure: Any, k: int, top: float, name: str) -> Any:
    x = 0.02 + (k % 3) * (PANEL + 0.009)
    y = top - (k // 3) * (PANEL_HEIGHT + 0.007) - PANEL_HEIGHT
    axes = panel(figure, x, y, PANEL, PANEL_HEIGHT)
    label = {"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 2.5}
    axes.text(0.012, 0.95, name, size=9.5, bbox=label, zorder=9)
    return axes


def draw_samples(figure: Any, top: float, scene: Drawn, marked: list[Any]) -> None:
    anchors, points, _ = scene.visible.shape
    heading(
        figure,
        top,
        "1  Sample: key points of 3D anchors, projected into six cameras",
        f"{anchors} anchors × {points} key points; eight anchors are marked. "
        f"{100 * scene.visible.mean():.0f} % of all (key point, camera) pairs fall "
        "into an image, the others cost nothing.",
    )
    for k, (camera, image) in enumerate(zip(scene.cameras, scene.images, strict=True)):
        axes = image_panel(figure, k, top - 0.03, camera.name)
        axes.imshow(np.clip(image, 0, 1), **FRAME)
        seen = scene.visible[:, :, k]
        dots = scene.locations[:, :, k][seen].T[::-1]
        axes.scatter(*dots, s=0.5, c="white", alpha=0.3)
        for a, colour in marked:
            dots = scene.locations[a, seen[a], k].T[::-1]
            axes.scatter(*dots, s=22, color=colour, edgecolor="black", linewidth=0.7)
        axes.set(xlim=(0, 1), ylim=(1, 0))


def draw_features(figure: Any, top: float, scene: Drawn, marked: list[Any]) -> None:
    heading(
        figure,
        top,
        "2  Aggregate: one feature for each anchor",
        "Seen from above, filled with the three channels that carry colour here. "
        "Boxes: refined anchors. Dots: all others. Outlines: what stands there; what "
        "is hidden takes the colour of what hides it.",
    )
    axes = panel(figure, 0.02, top - 0.034 - FROM_ABOVE, 0.96, FROM_ABOVE)
    axes.set_facecolor("#1d2128")
    axes.axhspan(-9, 9, color="#272c35", zorder=0)
    draw_views(axes, scene.cameras)
    anchors, sampled = scene.anchors, np.clip(scene.features[:, :3], 0, 1)
    seen = scene.visible.any(axis=(1, 2))
    free, refined = seen & ~scene.refined, seen & scene.refined
    at = anchors.centre[free, :2].T
    axes.scatter(*at, s=26, c=sampled[free], linewidth=0, alpha=0.9)
    filled = {"facecolor": sampled[refined], "edgecolor": "none", "alpha": 0.3}
    axes.add_collection(PolyCollection(footprint(anchors)[refined], **filled))
    outlined = {"facecolor": "none", "edgecolor": scene.boxes.colour, "lw": 2.0}
    axes.add_collection(PolyCollection(footprint(scene.boxes), zorder=3, **outlined))
    for a, colour in marked:
        edge = {"edgecolor": "black", "linewidth": 1.0, "zorder": 5}
        axes.scatter(*anchors.centre[a, :2], s=42, color=colour, **edge)
    size = np.array([[4.6, 2.0, 1.6]])
    ego = Boxes(np.zeros((1, 3)), size, np.zeros(1), np.ones((1, 3)))
    axes.add_collection(PolyCollection(footprint(ego), facecolor=INK, zorder=4))
    word = {"ha": "center", "va": "center", "color": PAPER, "fontsize": 8, "zorder": 5}
    axes.text(0, 0, "ego  ▶", **word)
    axes.set(xlim=(-53, 53), ylim=(-16, 16), aspect="auto")


def draw_views(axes: Any, cameras: list[Camera]) -> None:
    """What each camera sees of the ground."""
    for camera in cameras:
        ahead = camera.rotation[2]
        yaw = np.degrees(np.arctan2(ahead[1], ahead[0]))
        half = np.degrees(np.arctan(WIDTH / 2 / camera.intrinsics[0, 0]))
        x, y = camera.position[:2]
        view = Wedge((x, y), 13, yaw - half, yaw + half, color="white", alpha=0.06)
        axes.add_patch(view)


def draw_gradient(figure: Any, top: float, scene: Drawn) -> None:
    heading(
        figure,
        top,
        "3  Differentiate: where the gradient flows back to",
        "Size of the gradient of the feature maps, all four scales together, on a "
        "logarithmic colour scale. It is exactly zero wherever no sample fell.",
    )
    low, high = np.quantile(scene.heat[scene.heat > 0], [0.05, 0.999])
    scale = matplotlib.colors.LogNorm(low, high, clip=True)
    for k, camera in enumerate(scene.cameras):
        axes = image_panel(figure, k, top - 0.033, camera.name)
        axes.imshow(scene.images[k].mean(axis=-1), cmap="gray", alpha=0.35, **FRAME)
        heat = np.ma.masked_less_equal(scene.heat[k], 0)
        axes.imshow(heat, cmap="inferno", norm=scale, alpha=0.9, **FRAME)
