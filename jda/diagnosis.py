"""Silent mistakes become messages: what the arguments of a call look like.

Nothing of this is an error: every finding is a guess from concrete values, for a person
who wonders why a model does not learn.
"""

import html
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from jda import _check, _compat, _operator
from jda._dimensions import FLOATING, Operands
from jda._table import of_maps
from jda.packing import reminds_to_unpack

Floats = npt.NDArray[np.floating[Any]]
CLEARLY = np.log(1.5)  # by how much one reading must beat the other, as a ratio


def visible(locations: ArrayLike) -> jax.Array:
    """Which locations count: those with 0 < x < 1 and 0 < y < 1, both strict.

    The operator's own rule, for masks in front of a softmax and for statistics. NaN and
    infinities do not count. The order of the coordinates makes no difference.

    Args:
        locations: [..., 2].

    Returns:
        bool [...].

    Raises:
        ValueError: if the last axis is not of size 2.
        TypeError: if the locations are neither floats nor integers.

    Example:
        >>> import jda
        >>> jda.visible([[0.5, 0.5], [0.0, 0.5], [0.2, 1.5]]).tolist()
        [True, False, False]
    """
    array = _check.array("locations", locations)
    if array.ndim == 0 or array.shape[-1] != 2:
        raise ValueError(f"locations has shape {array.shape}, expected [..., 2]")
    _check.real("locations", array)
    return jnp.all((array > 0) & (array < 1), axis=-1)


@dataclass(frozen=True)
class Finding:
    """Something that looks like a mistake.

    Attributes:
        argument: the argument that it is about.
        text: what was seen, and what may be the matter.
    """

    argument: str
    text: str

    def __str__(self) -> str:
        return f"{self.argument}: {self.text}"


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found; printed, a report for a person.

    Attributes:
        findings: what looks like a mistake; empty if nothing does.
        sizes: (H, W) of each map [cam, scale, 2].
        counted: share of the samples that are visible and whose weight is not zero
            [cam, scale].
    """

    findings: tuple[Finding, ...]
    sizes: npt.NDArray[np.int32]
    counted: Floats

    def __str__(self) -> str:
        lines = ["share of samples that count, by camera and scale:"]
        for k, row in enumerate(self._rows()):
            lines.append(f"  camera {k}: " + ", ".join(row))
        lines += [f"- {finding}" for finding in self.findings]
        return "\n".join(lines if self.findings else [*lines, "nothing looks wrong"])

    def _repr_html_(self) -> str:
        found = "".join(f"<li>{html.escape(str(each))}</li>" for each in self.findings)
        maps = of_maps("share of samples that count", self._rows())
        return f"{maps}<ul>{found or '<li>nothing looks wrong</li>'}</ul>"

    def _rows(self) -> Iterator[list[str]]:
        for sizes, shares in zip(self.sizes, self.counted, strict=True):
            yield [
                f"{h} × {w}: {share:.1%}"
                for (h, w), share in zip(sizes, shares, strict=True)
            ]


@reminds_to_unpack
def diagnose(
    feature_maps: ArrayLike,
    spatial_shape: ArrayLike,
    scale_start_index: ArrayLike,
    sample_locations: ArrayLike,
    weight: ArrayLike,
    *,
    coordinate_order: str = "yx",
) -> Diagnosis:
    """Looks at the arguments of a call of the operator for silent mistakes.

    It tells values that are no numbers, locations in pixels or in (-1, 1), an order of
    coordinates, or of cameras and points, that looks exchanged, sizes of scales that
    are no pyramid, maps that overlap in part, weights that look like a softmax and do
    not sum to one, and why a result is all zero. What is visible does not depend on the
    order of the coordinates; what tells it is how the points of an anchor spread in
    pixels (about as far horizontally as vertically) and how anchors spread over the
    image (further horizontally). With maps that are about square it cannot be told.

    Args:
        feature_maps: as of :func:`jda.deformable_aggregation`; all values are known.
        spatial_shape: likewise.
        scale_start_index: likewise.
        sample_locations: likewise.
        weight: likewise.
        coordinate_order: likewise.

    Returns:
        A :class:`Diagnosis`. Print it.

    Raises:
        ValueError: as the operator.
        TypeError: as the operator, and if an argument is traced.
    """
    _check.choice("coordinate_order", coordinate_order, _check.COORDINATE_ORDERS)
    given = Operands(
        feature_maps, spatial_shape, scale_start_index, sample_locations, weight
    )
    for name, value in given._asdict().items():
        if _compat.is_traced(value):
            raise TypeError(f"{name} is traced; call jda.diagnose outside of jax.jit")
    arrays = _check.arrays(given, coordinate_order)
    result = _operator.deformable_aggregation(
        *arrays, coordinate_order=coordinate_order
    )
    seen = Operands(*map(np.asarray, arrays))
    wide = {name: getattr(seen, name).astype(np.float64) for name in FLOATING}
    seen = seen.replaced(wide)
    is_visible = _visible(seen.sample_locations)
    counts = is_visible[..., None] & np.any(seen.weight != 0, axis=-1)
    shares = counts.mean(axis=(0, 1, 2)) if counts.size else np.zeros(counts.shape[3:])
    findings = [
        *_no_numbers(seen),
        *_units(seen.sample_locations, is_visible),
        *_order(seen, coordinate_order),
        *_points_and_cameras(is_visible),
        *_pyramid(seen.spatial_shape),
        *_overlaps(seen.spatial_shape, seen.scale_start_index),
        *_sums(seen.weight),
    ]
    if not np.any(np.asarray(result)):
        findings.append(Finding("result", f"all zero: {_why_zero(seen, is_visible)}"))
    return Diagnosis(tuple(findings), seen.spatial_shape, shares)


def _visible(locations: Floats) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.all((locations > 0) & (locations < 1), axis=-1)
    return found


def _no_numbers(seen: Operands) -> Iterator[Finding]:
    for name in FLOATING:
        array = getattr(seen, name)
        # Infinite locations are far outside; in the other two they spoil the result.
        bad = np.isnan(array) if name == "sample_locations" else ~np.isfinite(array)
        if bad.any():
            hint = {
                "sample_locations": "they contribute nothing, but gradients upstream "
                "may be NaN too: is a depth of zero divided by?",
                "weight": "a softmax over nothing but -inf gives NaN",
                "feature_maps": "they spread to every sample that touches them",
            }[name]
            what = f"{bad.sum()} of {bad.size} values are NaN or infinite"
            yield Finding(name, f"{what}; {hint}")


def _units(locations: Floats, is_visible: npt.NDArray[np.bool_]) -> Iterator[Finding]:
    finite = locations[np.isfinite(locations).all(axis=-1)]
    if not len(finite):
        return
    in_image = np.all((finite >= 0) & (finite < 10_000), axis=-1)
    is_large = in_image & np.any(finite > 2, axis=-1)
    if is_visible.mean() < 0.05 and is_large.mean() > 0.2:
        values = finite[is_large]
        if np.median(values) > 4:
            yield Finding(
                "sample_locations",
                f"look like pixels: {is_visible.mean():.1%} are visible, and values go "
                f"up to {values.max():.0f}; divide x by the width of the image and y "
                "by its height",
            )
    in_grid = np.all(np.abs(finite) <= 1, axis=-1).mean()
    is_negative = np.mean(finite < 0)
    if in_grid > 0.95 and is_negative > 0.25:
        yield Finding(
            "sample_locations",
            f"look like those of grid_sample, in (-1, 1): {is_negative:.0%} of the "
            "coordinates are negative; (location + 1) / 2 is what this takes",
        )


def _order(seen: Operands, order: str) -> Iterator[Finding]:
    """Compares spreads in pixels with those that the other order would have."""
    is_visible = _visible(seen.sample_locations)
    whole = is_visible.all(axis=2)  # [bs, anchor, cam]: all points of the anchor
    if (
        whole.sum() < 10
        or 0 in seen.spatial_shape.shape
        or seen.sample_locations.shape[2] < 2
    ):
        return
    height, width = seen.spatial_shape[:, 0].mean(axis=0)
    if abs(np.log(width / height)) < np.log(1.3):
        return
    anchors = np.moveaxis(seen.sample_locations, 2, 3)[whole]  # [n, pts, 2]
    y, x = (anchors[..., order.index(axis)] for axis in "yx")
    within = [np.median(values.std(axis=-1)) for values in (x, y)]
    across = [values.mean(axis=-1).std() for values in (x, y)]
    if not min(within) > 0:
        return
    ratio = np.log(within[0] * width / (within[1] * height))
    other = np.log(within[1] * width / (within[0] * height))
    if abs(ratio) > abs(other) + CLEARLY and across[1] > across[0]:
        right = order[::-1]
        yield Finding(
            "sample_locations",
            f"the order of the coordinates looks exchanged: read as {order!r}, points "
            f"of an anchor spread {np.exp(ratio):.2g} times as far horizontally as "
            f"vertically in maps of {height:.0f} × {width:.0f} pixels, read as "
            f"{right!r} {np.exp(other):.2g} times; pass coordinate_order={right!r}?",
        )


def _points_and_cameras(is_visible: npt.NDArray[np.bool_]) -> Iterator[Finding]:
    """The points of an anchor are mostly seen by the same cameras."""
    _, _, pts, cam = is_visible.shape
    if pts != cam or pts < 2 or not is_visible.size:
        return
    over_points = is_visible.std(axis=2).mean()
    over_cameras = is_visible.std(axis=3).mean()
    if over_points > 1.5 * over_cameras:
        yield Finding(
            "sample_locations",
            "axes of points and cameras look exchanged: which points are visible "
            "changes less from camera to camera than from point to point; the axes are "
            "[bs, anchor, pts, cam, 2]",
        )


def _pyramid(sizes: npt.NDArray[np.int32]) -> Iterator[Finding]:
    """Sides of a scale are those of the first, divided by one number and rounded."""
    for k, of_camera in enumerate(sizes):
        for s, size in enumerate(of_camera):
            first = of_camera[0].astype(float)
            least, most = first / (size + 1), first / np.maximum(size - 1, 0.5)
            if least.max() <= most.min():
                continue
            yield Finding(
                "spatial_shape",
                f"[{k}, {s}] is ({size[0]}, {size[1]}) and [{k}, 0] is "
                f"({first[0]:.0f}, {first[1]:.0f}), which are not two scales of one "
                "image; is (H, W) exchanged?",
            )
            return


def _overlaps(
    sizes: npt.NDArray[np.int32], starts: npt.NDArray[np.int32]
) -> Iterator[Finding]:
    ends = starts + sizes.prod(axis=-1)
    maps = sorted(set(zip(starts.ravel().tolist(), ends.ravel().tolist(), strict=True)))
    for (first, end), (second, _) in itertools.pairwise(maps):
        if second < end:
            yield Finding(
                "scale_start_index",
                f"the map from row {first} to {end} overlaps with the one from row "
                f"{second} on; do starts go on from group to group of cameras?",
            )
            return


def _sums(weight: Floats) -> Iterator[Finding]:
    """Weights of which none is negative look like a softmax, which sums to one."""
    if not weight.size or not np.all(weight >= 0) or not weight.any():
        return
    sums = weight.sum(axis=(2, 3, 4))
    # Of an anchor that nothing sees, a mask may have left no weight.
    off = (np.abs(sums - 1) > 0.02) & (sums != 0)
    if off.any():
        yield Finding(
            "weight",
            "none is negative, as after a softmax, but for "
            f"{off.mean():.0%} of anchors and groups they sum to "
            f"{sums[off].min():.3g} .. {sums[off].max():.3g} over points, cameras and "
            "scales, not to 1; drop-out does this in training",
        )


def _why_zero(seen: Operands, is_visible: npt.NDArray[np.bool_]) -> str:
    locations = seen.sample_locations
    if not is_visible.size or not seen.weight.size or not seen.feature_maps.size:
        return "an argument has a size of zero"
    if not is_visible.any():
        finite = locations[np.isfinite(locations)]
        if not finite.size:
            return "no location is a number"
        return (
            "no sample is visible; locations lie within "
            f"{finite.min():.3g} .. {finite.max():.3g}, and visible are those in (0, 1)"
        )
    if not np.any(seen.weight[is_visible]):
        return "all weights of visible samples are zero"
    if not np.any(seen.feature_maps):
        return "feature_maps is all zero"
    return "the features under all visible samples are zero"
