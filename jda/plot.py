"""Pictures of what the operator samples, and on which device: in matplotlib.

Colours mean one thing everywhere: a sequential scale is a size that starts at zero, a
diverging one has zero in its middle, and one colour for each is a highlighted anchor.

Needs matplotlib, which jda does not: ``pip install "jda[plot]"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from jda import _check
from jda.packing import PackedFeatureMaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.floating[Any]]
Style = dict[str, Any]
Span = tuple[float, float]  # from where to where, as shares of an axis

SIZE, SIGNED, HIGHLIGHT = "inferno", "RdBu_r", "tab10"
POINT = "#00c2ff"
EMPTY = "0.93"  # a panel, or the part of it, that holds nothing
PANEL = 3.2  # inches across a camera
CELL = 0.75  # inches across the part of an array that a device holds
FAINT = 0.35  # of an image behind a heat map


def key_points(
    locations: ArrayLike,
    images: Sequence[ArrayLike] | ArrayLike | None = None,
    *,
    coordinate_order: str = "yx",
    values: ArrayLike | None = None,
    label: str = "value",
    highlight: Sequence[int] = (),
    names: Sequence[str] | None = None,
    element: int = 0,
    columns: int = 3,
) -> Figure:
    """Key points over the images of their cameras, one panel for each camera.

    Points that do not count, by the rule 0 < y < 1 and 0 < x < 1, are not drawn.

    Args:
        locations: [bs, anchor, pts, cam, 2], as the operator takes them.
        images: cam images [h, w] or [h, w, 3 or 4], in [0, 1] or as bytes; None draws
            on an empty unit square.
        coordinate_order: ``"yx"`` or ``"xy"``, the last axis of ``locations``.
        values: what colours a point, broadcast to [anchor, pts, cam]; for example the
            weights of one group, summed over the scales.
        label: what ``values`` are, for the colour bar.
        highlight: anchors that are drawn large, each in a colour of its own.
        names: of the cameras.
        element: which batch element.
        columns: panels in a row.

    Returns:
        The figure.

    Raises:
        ValueError: if a shape does not fit, or there is no camera or no such element.
        ImportError: without matplotlib.
    """
    _check.choice("coordinate_order", coordinate_order, _check.COORDINATE_ORDERS)
    points = np.asarray(locations)
    if points.ndim != 5 or points.shape[-1] != 2:
        raise ValueError(
            f"locations has shape {points.shape}, expected [bs, anchor, pts, cam, 2]"
        )
    _check_element(element, "locations", len(points))
    if columns < 1:
        raise ValueError(f"columns={columns}, it must be positive")
    points = points[element] if coordinate_order == "xy" else points[element, ..., ::-1]
    cameras = points.shape[2]
    if not cameras:
        raise ValueError("locations has cam=0, at least one camera is needed")
    titles = _titles(names, cameras)
    pictures = _images(images, cameras)
    figure, panels = _grid(cameras, columns, _aspect(pictures))
    seen = np.all((points > 0) & (points < 1), axis=-1)
    colour = None if values is None else np.broadcast_to(np.asarray(values), seen.shape)
    norm, scale = _scale(colour[seen] if colour is not None else np.zeros(0))
    for k, axes in enumerate(panels):
        _show_image(axes, pictures[k])
        drawn = seen[:, :, k]
        shade = POINT if colour is None else colour[:, :, k][drawn]
        x, y = points[:, :, k][drawn].T
        style: Style = {} if colour is None else {"cmap": scale, "norm": norm}
        marks = axes.scatter(x, y, s=5, c=shade, linewidth=0, alpha=0.8, **style)
        for a, strong in zip(highlight, _distinct(len(highlight)), strict=True):
            x, y = points[a, seen[a, :, k], k].T
            axes.scatter(x, y, s=34, color=strong, edgecolor="white", linewidth=0.8)
        axes.set(xlim=(0, 1), ylim=(1, 0), title=titles[k])
    if colour is not None:
        figure.colorbar(marks, ax=panels, label=label, shrink=0.8)
    return figure


def heat_maps(
    packed: PackedFeatureMaps,
    *,
    reduce: Callable[[Floats], Floats] | None = None,
    label: str = "mean |channel|",
    log: bool = False,
    images: Sequence[ArrayLike] | ArrayLike | None = None,
    names: Sequence[str] | None = None,
    element: int = 0,
) -> Figure:
    """Feature maps, or their gradient, as heat: a row for each scale.

    Args:
        packed: the maps, as :func:`jda.pack_feature_maps` makes them. A gradient goes
            in its place: ``jax.grad`` over the packed maps gives one of this kind.
        reduce: from the channels [h, w, c] to what is shown [h, w]; None takes the mean
            of their absolute values. Values of both signs get a diverging scale.
        label: what that is, for the colour bar.
        log: a logarithmic scale; what is zero stays without colour.
        images: cam images, drawn faintly behind the maps.
        names: of the cameras.
        element: which batch element.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no map or no such element, or a number of images or
            names does not fit.
        ImportError: without matplotlib.
    """
    _check_element(element, "packed", len(packed.feature_maps))
    cameras, scales = np.asarray(packed.scale_start_index).shape
    if not cameras * scales:
        raise ValueError(
            f"packed has cam={cameras} and scale={scales}, at least one map is needed"
        )
    titles = _titles(names, cameras)
    shrink = reduce or (lambda channels: np.abs(channels).mean(axis=-1))
    maps = [shrink(channels) for channels in _maps(packed, element)]
    pictures = _images(images, cameras)
    height, width = maps[0].shape
    figure, panels = _grid(cameras * scales, cameras, height / width)
    norm, scale = _scale(np.concatenate([heat.ravel() for heat in maps]), log)
    for panel, axes in enumerate(panels):
        s, k = divmod(panel, cameras)
        _show_image(axes, pictures[k], FAINT)
        heat = maps[k * scales + s]
        shown = np.ma.masked_equal(heat, 0) if log else heat
        drawn = axes.imshow(
            shown,
            cmap=scale,
            norm=norm,
            extent=(0, 1, 1, 0),
            aspect="auto",
            interpolation="nearest",
            alpha=1.0 if pictures[k] is None else 0.85,
        )
        if s == 0:
            axes.set_title(titles[k])
        if k == 0:
            axes.set_ylabel(f"scale {s}\n{heat.shape[0]} × {heat.shape[1]}")
    figure.colorbar(drawn, ax=panels, label=label, shrink=0.8)
    return figure


def from_above(
    centres: ArrayLike,
    values: ArrayLike | None = None,
    *,
    label: str = "value",
    arrows: ArrayLike | None = None,
    highlight: Sequence[int] = (),
) -> Figure:
    """Anchors seen from above: x to the right, y upwards.

    Args:
        centres: [anchor, 2 or more], in metres; only the first two columns are drawn.
        values: [anchor], what colours an anchor.
        label: what that is, for the colour bar.
        arrows: [anchor, 2 or more], for example the negative gradient of the centres;
            drawn so that the longest is a tenth of the picture.
        highlight: anchors that are drawn large, each in a colour of its own.

    Returns:
        The figure.

    Raises:
        ValueError: if a shape does not fit.
        ImportError: without matplotlib.
    """
    plt = _pyplot()
    places = np.asarray(centres)
    if places.ndim != 2 or places.shape[1] < 2:
        raise ValueError(f"centres has shape {places.shape}, expected [anchor, 2]")
    figure, axes = plt.subplots(figsize=(2 * PANEL, 2 * PANEL), layout="constrained")
    x, y = places[:, 0], places[:, 1]
    shades = None if values is None else np.asarray(values)
    norm, scale = _scale(np.zeros(0) if shades is None else shades)
    style: Style = {"color": POINT} if shades is None else {"cmap": scale, "norm": norm}
    edge: Style = {"edgecolor": "0.45", "linewidth": 0.4}  # zero is white on white
    drawn = axes.scatter(x, y, s=18, c=shades, zorder=2, **edge, **style)
    if shades is not None:
        figure.colorbar(drawn, ax=axes, label=label, shrink=0.8)
    if arrows is not None:
        steps = np.asarray(arrows)[:, :2]
        longest = np.linalg.norm(steps, axis=1).max()
        span = max(np.ptp(x), np.ptp(y)) or 1.0
        unit = 0.1 * span / longest if longest else 0.0
        u, v = unit * steps.T
        shape: Style = {"width": 0.003, "color": "0.35", "zorder": 1}
        axes.quiver(x, y, u, v, angles="xy", scale_units="xy", scale=1, **shape)
    for a, strong in zip(highlight, _distinct(len(highlight)), strict=True):
        axes.scatter(x[a], y[a], s=70, color=strong, edgecolor="white", zorder=3)
    axes.set(xlabel="x [m]", ylabel="y [m]", aspect="equal")
    above: Figure = figure
    return above


def placement(arrays: Mapping[str, jax.Array]) -> Figure:
    """Which part of each array each device holds: a row an array, a column a device.

    A cell stands for the whole array, and what is filled lies on that device. The first
    axis that is split runs down the cell; a second one runs to the right.

    Args:
        arrays: by name, each split over devices along two axes at most.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no array, or one is split along more than two axes.
        ImportError: without matplotlib.
    """
    if not arrays:
        raise ValueError("arrays is empty; give one array at least")
    parts = {name: _parts(name, array) for name, array in arrays.items()}
    devices = sorted({device for held in parts.values() for device in held}, key=_id)
    size = (CELL * (len(devices) + 3), (CELL + 0.1) * len(arrays) + 0.3)
    figure, grid = _pyplot().subplots(
        len(arrays), len(devices), figsize=size, layout="constrained", squeeze=False
    )
    for row, (name, array) in zip(grid, arrays.items(), strict=True):
        label: Style = {"rotation": 0, "ha": "right", "va": "center"}
        row[0].set_ylabel(f"{name}\n{list(array.shape)}", **label)
        for axes, device in zip(row, devices, strict=True):
            axes.set(xticks=[], yticks=[], facecolor=EMPTY, xlim=(0, 1), ylim=(1, 0))
            if device in parts[name]:
                (top, bottom), (left, right) = parts[name][device]
                axes.fill_between([left, right], top, bottom, color=POINT, linewidth=0)
    for axes, device in zip(grid[0], devices, strict=True):
        axes.set_title(f"device {device.id}", fontsize="small")
    whole: Figure = figure
    return whole


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'jda.plot needs matplotlib: pip install "jda[plot]"'
        ) from error
    return plt


def _id(device: jax.Device) -> int:
    return int(device.id)


def _parts(name: str, array: jax.Array) -> dict[jax.Device, list[Span]]:
    """What each device holds, as shares of the two axes that are split first."""
    held = {
        device: [
            (start / (size or 1), stop / (size or 1))
            for one, size in zip(slices, array.shape, strict=True)
            for start, stop, _ in [one.indices(size)]
        ]
        for device, slices in array.sharding.devices_indices_map(array.shape).items()
    }
    spans = list(zip(*held.values(), strict=True))  # of each axis, on all devices
    split = [axis for axis, of_all in enumerate(spans) if len(set(of_all)) > 1]
    if len(split) > 2:
        raise ValueError(f"{name} is split along axes {split}, expected two at most")
    whole = [(0.0, 1.0)] * (2 - len(split))
    return {device: [*(own[i] for i in split), *whole] for device, own in held.items()}


def _grid(count: int, columns: int, aspect: float) -> tuple[Figure, list[Axes]]:
    """Panels without ticks, each of height / width = aspect."""
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (PANEL * columns, (PANEL * aspect + 0.35) * rows)
    figure, axes = _pyplot().subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False
    )
    flat = list(axes.flat)
    for panel in flat:
        panel.set(xticks=[], yticks=[])
    for unused in flat[count:]:
        unused.remove()
    return figure, flat[:count]


def _images(
    images: Sequence[ArrayLike] | ArrayLike | None, cameras: int
) -> list[npt.NDArray[Any] | None]:
    if images is None:
        return [None] * cameras
    found = [np.asarray(image) for image in images]  # type: ignore[union-attr]
    if len(found) != cameras:
        raise ValueError(f"images has {len(found)} images, but there are cam={cameras}")
    return list(found)


def _aspect(pictures: Sequence[npt.NDArray[Any] | None]) -> float:
    first = pictures[0] if pictures else None
    return 0.5 if first is None else first.shape[0] / first.shape[1]


def _show_image(
    axes: Axes, image: npt.NDArray[Any] | None, strength: float = 1.0
) -> None:
    if image is None:
        axes.set_facecolor(EMPTY)
        return
    clipped = np.clip(image, 0, 1) if image.dtype.kind == "f" else image
    white = 255 if image.dtype.kind in "ui" else 1
    grey: Style = {"cmap": "gray", "vmin": 0, "vmax": white}  # where there is one value
    axes.imshow(clipped, extent=(0, 1, 1, 0), aspect="auto", alpha=strength, **grey)


def _maps(packed: PackedFeatureMaps, element: int) -> Iterator[Floats]:
    """The maps [h, w, c] of all cameras, the scales of each one after the other."""
    rows = np.asarray(packed.feature_maps[element], np.float64)
    shapes = np.asarray(packed.spatial_shape).reshape(-1, 2)
    for (h, w), start in zip(
        shapes.tolist(), np.ravel(packed.scale_start_index).tolist(), strict=True
    ):
        yield rows[start : start + h * w].reshape(h, w, -1)


def _scale(values: npt.NDArray[Any], log: bool = False) -> tuple[Normalize, str]:
    """A colour scale for values, and its name."""
    _pyplot()
    from matplotlib.colors import LogNorm, Normalize

    finite = values[np.isfinite(values)]
    if log:
        sizes = finite[finite > 0]
        low, high = np.quantile(sizes, [0.05, 1]) if sizes.size else (0.1, 1)
        return LogNorm(low, max(high, low * 1.001), clip=True), SIZE
    if finite.size and finite.min() < 0:
        most = np.abs(finite).max()
        return Normalize(-most, most), SIGNED
    return Normalize(0, finite.max() if finite.size and finite.max() > 0 else 1), SIZE


def _distinct(count: int) -> list[Any]:
    return [_pyplot().get_cmap(HIGHLIGHT)(i % 10) for i in range(count)]


def _titles(names: Sequence[str] | None, cameras: int) -> list[str]:
    if names is None:
        return [f"camera {k}" for k in range(cameras)]
    if len(names) != cameras:
        raise ValueError(f"names has {len(names)} names, but there are cam={cameras}")
    return list(names)


def _check_element(element: int, name: str, bs: int) -> None:
    if not 0 <= element < bs:
        raise ValueError(f"element={element} does not exist, {name} has bs={bs}")
