"""A zoo of named shapes and the seeded inputs that go with them.

Small enough for the loops of the oracle, ugly enough to reach every branch of a
kernel. Locations are (y, x); `swap_order` gives the same problem as (x, y).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple
from zlib import crc32

import numpy as np

from jda._dimensions import Operands
from tests.support import oracle

Pyramids = tuple[tuple[tuple[int, int], ...], ...]  # (height, width) by camera, scale
Generator = np.random.Generator
FLOATS = (0, 3, 4)  # the positions of the arguments that have gradients
Inputs = Operands  # here: the five arrays
_SIDES = np.array([1, 0], np.float32)


# Where samples fall: from the shape [b, a, p, k] and the pyramids to [b, a, p, k, 2].


def scattered(rng: Generator, shape: tuple[int, ...], _: Pyramids) -> np.ndarray:
    """All over the map and around it."""
    return rng.uniform(-0.3, 1.3, (*shape, 2))


def inside(rng: Generator, shape: tuple[int, ...], _: Pyramids) -> np.ndarray:
    return rng.uniform(0.01, 0.99, (*shape, 2))


def clustered(rng: Generator, shape: tuple[int, ...], _: Pyramids) -> np.ndarray:
    """The points of an anchor close together, an anchor in few cameras."""
    batch, anchors, _, cameras = shape
    centres = rng.uniform(0.0, 1.0, (batch, anchors, 1, cameras, 2))
    locations = centres + 0.05 * rng.standard_normal((*shape, 2))
    seen = rng.random((batch, anchors, 1, cameras, 1)) < 0.5
    return np.where(seen, locations, -1.0)


def coincident(rng: Generator, shape: tuple[int, ...], _: Pyramids) -> np.ndarray:
    """Every sample of an anchor at one place: the same four rows again and again."""
    batch, anchors, _, cameras = shape
    centres = rng.uniform(0.1, 0.9, (batch, anchors, 1, cameras, 2))
    return np.broadcast_to(centres, (*shape, 2)).copy()


def invisible(rng: Generator, shape: tuple[int, ...], _: Pyramids) -> np.ndarray:
    outside = np.array([-0.5, 0.0, -0.0, 1.0, 1.5, np.nan, np.inf, -np.inf])
    locations = rng.uniform(0.1, 0.9, (*shape, 2))
    axis = rng.integers(0, 2, shape)[..., None]
    return np.where(np.arange(2) == axis, rng.choice(outside, (*shape, 2)), locations)


def lonely(rng: Generator, shape: tuple[int, ...], _: Pyramids) -> np.ndarray:
    """One sample for each batch item, in the middle of all."""
    locations = np.full((*shape, 2), -1.0)
    _, anchors, points, cameras = shape
    locations[:, anchors // 2, points // 2, cameras // 2] = rng.uniform(0.1, 0.9, 2)
    return locations


def remarkable(rng: Generator, shape: tuple[int, ...], maps: Pyramids) -> np.ndarray:
    """On edges, pixel centres and pixel borders, next to them, and not finite."""
    sizes = np.unique([size for scales in maps for pair in scales for size in pair])
    centres = np.concatenate([(np.arange(n) + 0.5) / n for n in sizes])
    borders = np.concatenate([np.arange(n + 1) / n for n in sizes])
    tiny = np.finfo(np.float32).tiny
    edges = np.array([0.0, -0.0, 1.0, tiny, 1 - 2.0**-24, 1 + 2.0**-23, 0.5])
    strange = np.array([np.nan, np.inf, -np.inf, -1.0, 2.0, 1e30, -1e30])
    rounded = centres.astype(np.float32)
    above, below = (np.asarray(np.nextafter(rounded, side)) for side in _SIDES)
    kinds = [centres, borders, edges, above, below, rng.random(8), strange]
    chosen = rng.choice(
        len(kinds), (*shape, 2), p=[0.25, 0.2, 0.15, 0.1, 0.1, 0.1, 0.1]
    )
    locations = np.zeros((*shape, 2))
    for number, values in enumerate(kinds):
        locations = np.where(
            chosen == number, rng.choice(values, (*shape, 2)), locations
        )
    return locations


def smooth(rng: Generator, shape: tuple[int, ...], maps: Pyramids) -> np.ndarray:
    """Away from the borders of cells and maps: differentiable to any order."""
    locations = rng.uniform(-0.2, 1.2, (*shape, 2))
    for k, scales in enumerate(maps):
        here = locations[..., k, :]
        while True:
            pixels = here[..., None, :] * np.array(scales) - 0.5
            kinks = np.abs(pixels - np.round(pixels)).min(axis=-2) < 0.02
            edges = np.minimum(np.abs(here), np.abs(here - 1)) < 0.01
            if not (kinks | edges).any():
                break
            here[kinks | edges] = rng.uniform(-0.2, 1.2, int((kinks | edges).sum()))
    return locations


LOCATORS = (scattered, inside, clustered, coincident, invisible, remarkable)


@dataclass(frozen=True)
class Shape:
    """Sizes of one problem, where its samples fall and how its maps lie in the rows."""

    maps: Pyramids
    batch: int = 1
    anchors: int = 5
    points: int = 3
    channels: int = 8
    groups: int = 2
    locate: Callable[[Generator, tuple[int, ...], Pyramids], np.ndarray] = scattered
    layout: str = "packed"  # "shared": maps overlap; "gaps": rows of no map


def index_arrays(maps: Pyramids, layout: str) -> tuple[np.ndarray, np.ndarray, int]:
    """spatial_shape, scale_start_index and the number of rows."""
    cameras, scales = len(maps), len(maps[0]) if maps else 1
    spatial_shape = np.array(maps, np.int32).reshape(cameras, scales, 2)
    sizes = spatial_shape.prod(axis=-1).ravel()
    if layout == "packed":
        start = np.cumsum(sizes) - sizes
        rows = int(sizes.sum())
    elif layout == "shared":
        start = np.arange(len(sizes)) % 3
        rows = int((start + sizes).max())
    elif layout == "gaps":  # last map first, three rows of no map around each
        start = (np.cumsum((sizes + 3)[::-1]) - sizes[::-1])[::-1]
        rows = int((sizes + 3).sum() + 3)
    else:
        raise ValueError(f"layout {layout!r}")
    return spatial_shape, start.astype(np.int32).reshape(cameras, scales), rows


def make(shape: Shape, seed: int = 0, dtype: type = np.float32) -> Inputs:
    """The inputs of a problem; the float64 ones are the float32 ones, widened."""
    rng = np.random.default_rng(seed)
    spatial_shape, start, rows = index_arrays(shape.maps, shape.layout)
    cameras, scales = start.shape
    samples = (shape.batch, shape.anchors, shape.points, cameras)
    features = rng.standard_normal((shape.batch, rows, shape.channels))
    with np.errstate(over="ignore"):
        locations = shape.locate(rng, samples, shape.maps).astype(np.float32)
    weight = rng.standard_normal((*samples, scales, shape.groups))
    floats = [array.astype(np.float32) for array in (features, locations, weight)]
    features, locations, weight = (array.astype(dtype) for array in floats)
    return Inputs(features, spatial_shape, start, locations, weight)


def make_cotangent(inputs: Inputs, seed: int = 1) -> np.ndarray:
    batch, anchors = inputs.weight.shape[:2]
    channels = inputs.feature_maps.shape[2]
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((batch, anchors, channels)).astype(np.float32)
    return values.astype(inputs.feature_maps.dtype)


def make_tangents(inputs: Inputs, seed: int = 2) -> oracle.Gradients:
    rng = np.random.default_rng(seed)
    arrays = (inputs.feature_maps, inputs.sample_locations, inputs.weight)
    return oracle.Gradients(
        *(
            rng.standard_normal(x.shape).astype(np.float32).astype(x.dtype)
            for x in arrays
        )
    )


def narrowed(inputs: Inputs, dtype: type, weights: type | None = None) -> Inputs:
    """The problem with feature maps in another dtype, and weights in that or theirs."""
    features = inputs.feature_maps.astype(dtype)
    weight = inputs.weight.astype(weights or dtype)
    return inputs._replace(feature_maps=features, weight=weight)


def widened(inputs: Inputs) -> Inputs:
    """The same problem in float32."""
    return narrowed(inputs, np.float32)


def swap_order(inputs: Inputs) -> Inputs:
    """The same problem with locations in the other order."""
    swapped = np.ascontiguousarray(inputs.sample_locations[..., ::-1])
    return inputs._replace(sample_locations=swapped)


ONE = (((5, 7),),)
TWO_CAMERAS = (((6, 9), (3, 5)), ((4, 11), (2, 3)))
RIG = tuple(  # six cameras, four scales, every map of its own size
    ((8 + k, 13 - k), (5, 6 + k), (3 + k % 2, 4), (1, 2 + k)) for k in range(6)
)

ZOO: dict[str, Shape] = {
    "one map": Shape(ONE),
    "two cameras": Shape(TWO_CAMERAS, batch=2),
    "rig": Shape(RIG, batch=2, anchors=4, channels=16, groups=4),
    "rig clustered": Shape(RIG, anchors=9, points=5, locate=clustered, channels=32),
    "rig remarkable": Shape(RIG, anchors=8, points=4, locate=remarkable),
    "one pixel": Shape((((1, 1),),), locate=inside),
    "one pixel everywhere": Shape((((1, 1), (1, 1)),) * 3, batch=2, locate=remarkable),
    "one row of pixels": Shape((((1, 9),),), anchors=8, locate=remarkable),
    "two columns of pixels": Shape(
        (((7, 2),),), anchors=8, channels=16, locate=remarkable
    ),
    "one column of pixels": Shape((((9, 1),),), anchors=8, locate=remarkable),
    "rows and columns": Shape((((1, 6), (6, 1)), ((1, 1), (2, 7))), anchors=8),
    "odd map remarkable": Shape(ONE, anchors=40, locate=remarkable),
    "even map remarkable": Shape((((4, 8),),), anchors=40, locate=remarkable),
    "wide map remarkable": Shape((((3, 176),),), anchors=40, locate=remarkable),
    "all invisible": Shape(TWO_CAMERAS, locate=invisible),
    "no batch": Shape(TWO_CAMERAS, batch=0),
    "no anchors": Shape(TWO_CAMERAS, anchors=0),
    "no points": Shape(TWO_CAMERAS, anchors=3, points=0, channels=11, groups=1),
    "no cameras": Shape((), batch=2),
    "one of each": Shape((((2, 2),),), anchors=1, points=1, channels=1, groups=1),
    "one group": Shape(TWO_CAMERAS, channels=24, groups=1),
    "a group per channel": Shape(TWO_CAMERAS, channels=24, groups=24),
    "one channel": Shape(TWO_CAMERAS, points=20, channels=1, groups=1),
    "shared rows": Shape(RIG, layout="shared", channels=16),
    "rows of no map": Shape(TWO_CAMERAS, layout="gaps", batch=2),
    "many channels": Shape(TWO_CAMERAS, channels=1024, groups=8),
    "wide groups": Shape(ONE, channels=1024, groups=2),
    "prime channels": Shape(TWO_CAMERAS, channels=37, groups=37),
    "prime group": Shape(TWO_CAMERAS, channels=37, groups=1),
    "odd channels": Shape(TWO_CAMERAS, channels=99, groups=3),
    "page channels": Shape(TWO_CAMERAS, channels=256, groups=8),
    "sixteen groups": Shape(TWO_CAMERAS, channels=64, groups=16),
    "many groups": Shape(ONE, channels=256, groups=128),
    "many groups and cameras": Shape(TWO_CAMERAS, channels=256, groups=128),
    "40 groups": Shape(TWO_CAMERAS, points=9, channels=320, groups=40, locate=inside),
    "65 groups": Shape(ONE, anchors=1, points=512, channels=520, groups=65),
    "64 points of 65 groups in four scales": Shape(
        RIG[:1], anchors=1, points=64, channels=65, groups=65, locate=inside
    ),
    "four samples of 256 groups": Shape(
        ONE, anchors=1, points=4, channels=256, groups=256, locate=inside
    ),
    "1000 channels": Shape(ONE, channels=1000, groups=1, locate=inside),
    "2048 channels": Shape(TWO_CAMERAS, channels=2048, groups=8, locate=inside),
    "cameras that differ in scale 0": Shape((((6, 9), (3, 5)), ((4, 11), (3, 5)))),
    "one of 3072 points": Shape(ONE, anchors=1, points=3072, locate=lonely),
    "300 points": Shape(ONE, anchors=2, points=300, locate=inside, channels=16),
    "300 points on a large map": Shape(
        (((33, 70),),), anchors=1, points=300, locate=inside, channels=32
    ),
    "65 points": Shape(TWO_CAMERAS, anchors=2, points=65, locate=inside),
    "300 points at one place": Shape(ONE, anchors=2, points=300, locate=coincident),
    "300 points and a batch": Shape(TWO_CAMERAS, batch=3, anchors=1, points=150),
    "one anchor": Shape(RIG, anchors=1, points=13, channels=32, groups=8),
    "one point": Shape(RIG, anchors=9, points=1),
    "batch of five": Shape(TWO_CAMERAS, batch=5, anchors=2),
    "many anchors": Shape(TWO_CAMERAS, anchors=200, points=1, locate=clustered),
    "warp": Shape((((12, 16),),), anchors=300, points=1, channels=3, groups=1),
    "four points in four scales": Shape(
        RIG[:1], anchors=40, points=4, channels=32, groups=1, locate=inside
    ),
    "many anchors of one pair": Shape(ONE, anchors=210, points=1),
    "a warp of three channels": Shape(
        ONE, batch=2, anchors=150, points=1, channels=3, groups=1, layout="gaps"
    ),
    "pairs of channels, many points": Shape(
        TWO_CAMERAS, points=30, channels=18, groups=9, locate=remarkable
    ),
    "seven groups": Shape(TWO_CAMERAS, channels=56, groups=7),
    # More samples than rows: these have a table of the coefficients of all rows.
    "table": Shape(
        (((8, 17),),), anchors=11, points=100, channels=72, groups=8, locate=inside
    ),
    "table in two cameras": Shape(
        TWO_CAMERAS, batch=2, anchors=4, points=90, channels=16, groups=4, locate=inside
    ),
    "table of half of the samples": Shape(
        TWO_CAMERAS, anchors=8, points=250, channels=3, groups=1
    ),
    "table of odd channels": Shape(
        ONE, anchors=9, points=90, channels=37, locate=inside, groups=37
    ),
    "table of odd groups": Shape(
        ONE, anchors=8, points=90, channels=33, locate=inside, groups=3
    ),
    "table of shared rows": Shape(
        TWO_CAMERAS, anchors=8, points=90, channels=4, layout="shared", locate=inside
    ),
    "table with rows of no map": Shape(
        TWO_CAMERAS, anchors=8, points=250, channels=4, layout="gaps"
    ),
    "table of one row": Shape((((1, 1),),), anchors=8, points=90, locate=inside),
    "table of edges": Shape(
        (((4, 8),),), anchors=8, points=250, channels=12, groups=1, locate=remarkable
    ),
} | {
    f"{width} channels a group": Shape(TWO_CAMERAS, channels=3 * width, groups=3)
    for width in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64)
}

# Those for an emulated card. Tables are a way of the CPU's and take long there: two
# remain, with edges and with rows of no map.
ON_A_CARD = [
    name
    for name in ZOO
    if not name.startswith("table") or name.endswith(("edges", "no map"))
]

BOTH_ORDERS = ("two cameras", "rig", "rig remarkable", "rows and columns", "65 points")


@cache
def case(name: str, dtype: type = np.float32) -> Inputs:
    return make(ZOO[name], crc32(name.encode()), dtype)


class Judgement(NamedTuple):
    """What the oracle says of a problem: right answers and the errors allowed."""

    cotangent: np.ndarray
    out: np.ndarray
    out_scale: np.ndarray
    grads: oracle.Gradients
    grad_scales: oracle.Gradients
    settled: np.ndarray  # [b, a, p, k]: the location gradient has one right value


def judge(
    inputs: Inputs, order: str = "yx", cotangent: np.ndarray | None = None
) -> Judgement:
    eps = float(np.finfo(inputs.feature_maps.dtype).eps)
    cotangent = make_cotangent(inputs) if cotangent is None else cotangent
    return Judgement(
        cotangent,
        oracle.forward(inputs, order),
        oracle.forward_scale(inputs, order, eps),
        oracle.gradients(inputs, cotangent, order),
        oracle.gradient_scales(inputs, cotangent, order, eps),
        oracle.settled_locations(inputs.spatial_shape, inputs.sample_locations, order),
    )


@cache
def judged_case(name: str, dtype: type = np.float32) -> Judgement:
    return judge(case(name, dtype))


def judge_widened(inputs: Inputs) -> tuple[Inputs, np.ndarray, Judgement]:
    """Inputs of 16 bits, a cotangent, and what the oracle says of the same numbers."""
    cotangent = make_cotangent(inputs)
    wide = cotangent.astype(np.float32)
    return inputs, cotangent, judge(widened(inputs), cotangent=wide)


@lru_cache(maxsize=8)
def half_case(
    name: str, dtype: type, weights: type | None = None
) -> tuple[Inputs, np.ndarray, Judgement]:
    return judge_widened(narrowed(case(name), dtype, weights))


def assert_gradients_within(grads: Sequence[np.ndarray], judged: Judgement) -> None:
    """All three gradients are right; of locations, where there is one right value."""
    features, locations, weight = (np.asarray(grad) for grad in grads)
    right, scale = judged.grads, judged.grad_scales
    oracle.assert_right(features, right.feature_maps, scale.feature_maps)
    oracle.assert_right(weight, right.weight, scale.weight)
    one_value = judged.settled
    assert locations.shape == right.sample_locations.shape
    oracle.assert_within(
        locations[one_value],
        right.sample_locations[one_value],
        scale.sample_locations[one_value],
    )
    assert np.isfinite(locations).all()


POISONABLE = (
    "rows of no map",
    "rig clustered",
    "two cameras",
    "all invisible",
    "table with rows of no map",
)


# (H, W) and start of the map of camera 1, scale 0, from those of a good one.
BAD_MAPS = {
    "ends behind the rows": lambda h, w, start, rows: (h, w, start + rows),
    "one row too many": lambda h, w, start, rows: (rows // w + 1, w, 0),
    "one pixel too many": lambda h, w, start, rows: (1, rows + 1, 0),
    "starts one pixel late": lambda h, w, start, rows: (h, w, rows - h * w + 1),
    "starts behind the rows": lambda h, w, start, rows: (h, w, rows),
    "starts at the largest number": lambda h, w, start, rows: (h, w, 2**31 - 1),
    "starts before the rows": lambda h, w, start, rows: (h, w, -1),
    "starts at the least number": lambda h, w, start, rows: (h, w, -(2**31)),
    "no height": lambda h, w, start, rows: (0, w, start),
    "no width": lambda h, w, start, rows: (h, 0, start),
    "negative height": lambda h, w, start, rows: (-h - 1, w, start),
    "negative width": lambda h, w, start, rows: (h, -w, start),
    "both negative": lambda h, w, start, rows: (-h, -w, start),
    "product beyond 32 bits": lambda h, w, start, rows: (2**16, 2**16, start),
    "product beyond 62 bits": lambda h, w, start, rows: (2**31 - 1, 2**31 - 1, start),
}


def bad_maps(kind: str) -> tuple[Inputs, "Judgement"]:
    """Inputs with one map that is not within num_feat, judged without its samples."""
    inputs = case("two cameras")
    rows = inputs.feature_maps.shape[1]
    shapes, starts = inputs.spatial_shape.copy(), inputs.scale_start_index.copy()
    height, width, starts[1, 0] = BAD_MAPS[kind](*shapes[1, 0], starts[1, 0], rows)
    shapes[1, 0] = height, width
    bad = inputs._replace(spatial_shape=shapes, scale_start_index=starts)
    return bad, judge_without(inputs, camera=1, scale=0)


def judge_without(inputs: Inputs, camera: int, scale: int) -> "Judgement":
    """As if a map had no samples: it gives nothing, and its weights no gradient."""
    weight = inputs.weight.copy()
    weight[:, :, :, camera, scale] = 0
    judged = judge(inputs._replace(weight=weight))
    judged.grads.weight[:, :, :, camera, scale] = 0
    judged.grad_scales.weight[:, :, :, camera, scale] = 0
    return judged


def poisoned(inputs: Inputs, bad: float) -> Inputs:
    """With `bad` in every row that nothing samples and weight that does not count."""
    features, weight = inputs.feature_maps.copy(), inputs.weight.copy()
    eps = float(np.finfo(features.dtype).eps)
    idle_rows = np.ones(features.shape[:2], bool)
    idle_samples = np.ones(weight.shape[:4], bool)
    for index, y, x in oracle.counted_samples(inputs.sample_locations, "yx"):
        idle_samples[index] = False
        b, _, _, k = index
        for (height, width), start in zip(
            inputs.spatial_shape[k], inputs.scale_start_index[k], strict=True
        ):
            for corner in oracle.corner_errors(y, x, height, width, start, eps):
                idle_rows[b, corner.row] = False
    assert idle_rows.any() and idle_samples.any()
    features[idle_rows] = bad
    weight[idle_samples] = bad
    return inputs._replace(feature_maps=features, weight=weight)
