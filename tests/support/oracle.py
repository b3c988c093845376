"""The operator in float64 numpy, written as plain loops from its definition.

Nothing here is shared with the package: slow, obvious, and used only to judge.
`forward` and `gradients` are the definition. `forward_scale` and `gradient_scales`
say, element by element, how far correct arithmetic may be off, in units of eps, so
that tolerances follow from the arithmetic instead of from experience.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import floor
from typing import NamedTuple

import ml_dtypes
import numpy as np

AXES = {"yx": (0, 1), "xy": (1, 0)}  # positions of y and x in the last axis


class Corner(NamedTuple):
    """A neighbour of a sample, its bilinear coefficient and the derivatives."""

    row: int
    coefficient: float
    by_y: float
    by_x: float


class Gradients(NamedTuple):
    feature_maps: np.ndarray
    sample_locations: np.ndarray
    weight: np.ndarray


def corners(y: float, x: float, height: int, width: int, start: int) -> list[Corner]:
    """The neighbours that lie inside the map."""
    h, w = y * height - 0.5, x * width - 0.5
    top, left = floor(h), floor(w)
    found = []
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < height and 0 <= j < width:
                near_h, near_w = 1 - abs(h - i), 1 - abs(w - j)
                by_h, by_w = (-1 if i == top else 1), (-1 if j == left else 1)
                corner = Corner(
                    row=start + i * width + j,
                    coefficient=near_h * near_w,
                    by_y=height * by_h * near_w,
                    by_x=width * by_w * near_h,
                )
                found.append(corner)
    return found


def corner_errors(
    y: float, x: float, height: int, width: int, start: int, eps: float
) -> list[Corner]:
    """How many eps the numbers of each possible neighbour may be off.

    h = y H - 0.5 is off by up to eps H, hence a coefficient by up to eps (H + W), and
    close to a cell's border the next cell may be picked.
    """
    h, w = y * height - 0.5, x * width - 0.5
    slack_h, slack_w = 2 * eps * height, 2 * eps * width
    size = height + width
    return [
        Corner(start + i * width + j, size, height * size, width * size)
        for i in range(floor(h - slack_h), floor(h + slack_h) + 2)
        for j in range(floor(w - slack_w), floor(w + slack_w) + 2)
        if 0 <= i < height and 0 <= j < width
    ]


def counted_samples(
    sample_locations: np.ndarray, order: str
) -> Iterator[tuple[tuple[int, ...], float, float]]:
    """Index (b, a, p, k) and y, x of every sample strictly inside (0, 1)."""
    at_y, at_x = AXES[order]
    for index in np.ndindex(sample_locations.shape[:-1]):
        y = float(sample_locations[index][at_y])
        x = float(sample_locations[index][at_x])
        if 0 < y < 1 and 0 < x < 1:
            yield index, y, x


def floating(inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Those of the operator's five arguments, in order, that have gradients."""
    return inputs[0], inputs[3], inputs[4]


def in_float64(*arrays: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(array).astype(np.float64) for array in arrays]


def forward(
    inputs: Sequence[np.ndarray],
    coordinate_order: str = "yx",
    neighbours: Callable[..., list[Corner]] = corners,
) -> np.ndarray:
    """out[b, a, c]."""
    _, spatial_shape, scale_start_index, *_ = inputs
    features, locations, weights = in_float64(*floating(inputs))
    batch, anchors, _, _, scales, groups = weights.shape
    channels = features.shape[2]
    out = np.zeros((batch, anchors, channels))
    for (b, a, p, k), y, x in counted_samples(locations, coordinate_order):
        for s in range(scales):
            height, width = map(int, spatial_shape[k, s])
            start = int(scale_start_index[k, s])
            per_channel = np.repeat(weights[b, a, p, k, s], channels // groups)
            for corner in neighbours(y, x, height, width, start):
                feature = features[b, corner.row]
                out[b, a] += per_channel * corner.coefficient * feature
    return out


def gradients(
    inputs: Sequence[np.ndarray],
    cotangent: np.ndarray,
    coordinate_order: str = "yx",
    neighbours: Callable[..., list[Corner]] = corners,
) -> Gradients:
    """Gradients of sum(out * cotangent)."""
    _, spatial_shape, scale_start_index, *_ = inputs
    features, locations, weights, bars = in_float64(*floating(inputs), cotangent)
    at_y, at_x = AXES[coordinate_order]
    scales, groups = weights.shape[-2:]
    channels = features.shape[2]
    grad_features = np.zeros_like(features)
    grad_locations = np.zeros_like(locations)
    grad_weights = np.zeros_like(weights)
    for (b, a, p, k), y, x in counted_samples(locations, coordinate_order):
        bar = bars[b, a]
        for s in range(scales):
            height, width = map(int, spatial_shape[k, s])
            start = int(scale_start_index[k, s])
            per_channel = np.repeat(weights[b, a, p, k, s], channels // groups)
            for corner in neighbours(y, x, height, width, start):
                row, coefficient, by_y, by_x = corner
                feature = features[b, row]
                per_group = (feature * bar).reshape(groups, -1).sum(axis=1)
                along = (per_channel * feature * bar).sum()
                grad_features[b, row] += coefficient * per_channel * bar
                grad_weights[b, a, p, k, s] += coefficient * per_group
                grad_locations[b, a, p, k, at_y] += by_y * along
                grad_locations[b, a, p, k, at_x] += by_x * along
    return Gradients(grad_features, grad_locations, grad_weights)


def tangent(
    inputs: Sequence[np.ndarray],
    tangents: Gradients,
    coordinate_order: str = "yx",
    neighbours: Callable[..., list[Corner]] = corners,
) -> np.ndarray:
    """The tangent of out[b, a, c] for tangents of the three arguments."""
    _, spatial_shape, scale_start_index, *_ = inputs
    features, locations, weights = in_float64(*floating(inputs))
    feature_dots, location_dots, weight_dots = in_float64(*tangents)
    at_y, at_x = AXES[coordinate_order]
    batch, anchors, _, _, scales, groups = weights.shape
    channels = features.shape[2]
    out = np.zeros((batch, anchors, channels))
    for (b, a, p, k), y, x in counted_samples(locations, coordinate_order):
        moved = location_dots[b, a, p, k]
        for s in range(scales):
            height, width = map(int, spatial_shape[k, s])
            start = int(scale_start_index[k, s])
            per_channel, dot = (
                np.repeat(array[b, a, p, k, s], channels // groups)
                for array in (weights, weight_dots)
            )
            for corner in neighbours(y, x, height, width, start):
                row, coefficient, by_y, by_x = corner
                feature, slope = (
                    features[b, row],
                    by_y * moved[at_y] + by_x * moved[at_x],
                )
                out[b, a] += coefficient * per_channel * feature_dots[b, row]
                out[b, a] += (coefficient * dot + slope * per_channel) * feature
    return out


def magnitudes(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The inputs with features and weights by their size."""
    feature_maps, *others, weight = inputs
    return [np.abs(feature_maps), *others, np.abs(weight)]


def forward_scale(
    inputs: Sequence[np.ndarray], coordinate_order: str = "yx", eps: float = 2.0**-23
) -> np.ndarray:
    """The error of each element of `forward` that one eps everywhere can cause."""
    errors = partial(corner_errors, eps=eps)
    return forward(magnitudes(inputs), coordinate_order, errors)


def tangent_scale(
    inputs: Sequence[np.ndarray],
    tangents: Gradients,
    coordinate_order: str = "yx",
    eps: float = 2.0**-23,
) -> np.ndarray:
    """The error of each element of `tangent` that one eps everywhere can cause."""
    errors = partial(corner_errors, eps=eps)
    moves = Gradients(*map(np.abs, tangents))
    return tangent(magnitudes(inputs), moves, coordinate_order, errors)


def gradient_scales(
    inputs: Sequence[np.ndarray],
    cotangent: np.ndarray,
    coordinate_order: str = "yx",
    eps: float = 2.0**-23,
) -> Gradients:
    """The error of each element of `gradients` that one eps everywhere can cause."""
    errors = partial(corner_errors, eps=eps)
    return gradients(magnitudes(inputs), np.abs(cotangent), coordinate_order, errors)


def same_cell(location: float, size: int, dtype: np.dtype) -> bool:
    """Whether arithmetic in `dtype` picks the cell that the definition names.

    Close to a cell's border it may not, unless location * size - 0.5 is free of
    rounding.
    """
    product = location * size
    slack = 2 * float(np.finfo(dtype).eps) * size
    apart = floor(product - 0.5 - slack) != floor(product - 0.5 + slack)
    exact = all(float(dtype.type(v)) == v for v in (product, product - 0.5))
    return exact or not apart


def settled_locations(
    spatial_shape: np.ndarray,
    sample_locations: np.ndarray,
    coordinate_order: str = "yx",
) -> np.ndarray:
    """Mask [b, a, p, k] of the locations whose derivative rounding cannot change.

    The derivative jumps at the borders of cells; a location that lies within rounding
    of one has two right answers.
    """
    dtype = np.asarray(sample_locations).dtype
    (locations,) = in_float64(sample_locations)
    mask = np.ones(locations.shape[:-1], bool)
    for index, y, x in counted_samples(locations, coordinate_order):
        mask[index] = all(
            same_cell(y, int(height), dtype) and same_cell(x, int(width), dtype)
            for height, width in spatial_shape[index[3]]
        )
    return mask


def assert_within(got: np.ndarray, exact: np.ndarray, scale: np.ndarray) -> None:
    """`got` errs by no more than four times what its own precision explains.

    Where the scale is zero (rows that nothing touches, samples that do not count) only
    an exact zero passes; NaN never does.
    """
    got = np.asarray(got)
    assert got.shape == exact.shape, (got.shape, exact.shape)
    allowed = 4 * float(np.finfo(got.dtype).eps) * scale
    wrong = ~(np.abs(got.astype(np.float64) - exact) <= allowed)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} elements are off; the first at {index}: "
            f"got {got[index]}, right is {exact[index]} ± {allowed[index]:.3g}"
        )


def assert_right(got: np.ndarray, exact: np.ndarray, scale: np.ndarray) -> None:
    """By what the dtype of `got` allows."""
    narrow = np.asarray(got).dtype.itemsize == 2
    check = assert_rounded_once if narrow else assert_within
    check(got, exact, scale)


def spacing(exact: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """How far apart numbers of the dtype are around each element."""
    info = ml_dtypes.finfo(dtype)
    size = np.maximum(np.abs(exact), float(info.tiny))
    found: np.ndarray = 2.0 ** np.floor(np.log2(size)) * float(info.eps)
    return found


def assert_rounded_once(got: np.ndarray, exact: np.ndarray, scale: np.ndarray) -> None:
    """`got` has 16 bits: float32 and one rounding explain how far it is off."""
    got = np.asarray(got)
    assert got.shape == exact.shape, (got.shape, exact.shape)
    in_float32 = 4 * float(np.finfo(np.float32).eps) * scale
    allowed = in_float32 + spacing(np.abs(exact) + in_float32, got.dtype) / 2
    error = np.abs(got.astype(np.float64) - exact)
    wrong = ~(error <= np.where(scale == 0, 0, allowed))
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} elements are off"
