"""The picture of a held-out scene: what the detector finds, and how it learned."""

from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from picture import FAINT, INK, PAPER
from scene import HEIGHT, WIDTH, Boxes, Camera, footprint, points_of, project

from detector import model, training, world
from detector.losses import Losses
from jda.sparse4d.boxes import box

NUMBER = 2  # of the held-out scene
CONFIDENT = 0.35  # what is drawn
COLOURS = np.array([[0.20, 0.75, 1.0], [1.0, 0.62, 0.15], [1.0, 0.35, 0.75]])
CORNERS = np.array([(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]) / 2
EDGES = [(i, i ^ bit) for i in range(8) for bit in (1, 2, 4) if i < i ^ bit]
LAYOUT = [[0, 1, 2], [3, 4, 5], ["above", "above", "loss"]]


def draw(
    path: Path, params: model.Params, config: model.ModelConfig, losses: np.ndarray
) -> None:
    """Six views, the scene from above, and the losses [step, 3]."""
    frames = world.see(world.draw_scenes(training.HELD_OUT, range(NUMBER, NUMBER + 1)))
    found = jax.tree.map(
        lambda x: np.asarray(x[0]), training.detect(params, config, frames)
    )
    shown = found.scores_3d > CONFIDENT
    boxes = as_boxes(found.boxes_3d[shown], COLOURS[found.labels_3d[shown]])
    truth = jax.tree.map(lambda x: np.asarray(x[-1, 0]), frames.truth)
    there = np.asarray(box(truth.anchor))[truth.label != world.NOTHING]
    right = as_boxes(there, np.ones((len(there), 3)))

    plt.rcParams |= {"font.family": "DejaVu Sans", "text.color": INK, "font.size": 11}
    figure, axes = plt.subplot_mosaic(
        LAYOUT,
        figsize=(16, 9.4),
        facecolor=PAPER,
        layout="constrained",
        height_ratios=(4, 4, 7),
    )
    for k, camera in enumerate(world.RIG):
        draw_view(axes[k], camera, np.asarray(frames.images[-1, 0, k]), boxes)
    draw_above(axes["above"], boxes, right)
    draw_losses(axes["loss"], losses)
    figure.savefig(path, dpi=100, facecolor=PAPER)
    plt.close(figure)


def as_boxes(rows: np.ndarray, colour: np.ndarray) -> Boxes:
    """Boxes [n, 10] as Sparse4D gives them."""
    return Boxes(rows[:, :3], rows[:, 3:6], rows[:, 6], colour)


def draw_view(axes: Any, camera: Camera, image: np.ndarray, boxes: Boxes) -> None:
    axes.imshow(image, extent=(0, WIDTH, HEIGHT, 0), aspect="auto")
    axes.set(xticks=[], yticks=[], xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_title(camera.name, color=FAINT, fontsize=11)
    steps = np.linspace(0, 1, 30)[:, None]  # an edge may leave the view anywhere
    for corners, colour in zip(points_of(boxes, CORNERS), boxes.colour, strict=True):
        for i, j in EDGES:
            line = corners[i] + steps * (corners[j] - corners[i])
            yx, depth = project(camera, line)
            yx[depth < 0.3] = np.nan
            axes.plot(yx[:, 1] * WIDTH, yx[:, 0] * HEIGHT, color=colour, lw=1.6)


def draw_above(axes: Any, boxes: Boxes, right: Boxes) -> None:
    axes.set_facecolor("#1d2128")
    axes.set_title(
        "from above, in metres: what is there (white), what is found (colours)",
        color=INK,
    )
    for corners in footprint(right):
        axes.fill(*corners.T, color="white", alpha=0.28, linewidth=0)
    for corners, colour in zip(footprint(boxes), boxes.colour, strict=True):
        axes.fill(*corners.T, facecolor="none", edgecolor=colour, linewidth=2)
    for name, colour in zip(world.CLASSES, COLOURS, strict=True):
        axes.plot([], [], color=colour, lw=2, label=name)
    axes.legend(loc="upper right", facecolor=PAPER, labelcolor=INK, edgecolor=FAINT)
    axes.plot(0, 0, marker=">", color=INK, markersize=11)
    far = world.RANGE + 3
    axes.set(xlim=(-far, far), ylim=(-15, 15), aspect="equal")
    axes.tick_params(colors=FAINT)


def draw_losses(axes: Any, losses: np.ndarray) -> None:
    axes.set_facecolor("#1d2128")
    axes.set_title("losses, means over 20 steps", color=INK)
    steps = len(losses) // 20 * 20
    for name, values in zip(Losses._fields, losses[:steps].T, strict=True):
        axes.plot(np.arange(10, steps, 20), values.reshape(-1, 20).mean(1), label=name)
    axes.legend(facecolor=PAPER, labelcolor=INK, edgecolor=FAINT)
    axes.set_xlabel("step", color=FAINT)
    axes.set_ylim(0)
    axes.tick_params(colors=FAINT)
