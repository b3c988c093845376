"""The shapes that modelled times are reported for."""

from dataclasses import replace

import numpy as np

from tests.support import cases


def quarter_visible(rng, shape, _):
    """Points of an anchor cluster; one or two cameras of six see an anchor."""
    batch, anchors, _, cameras = shape
    seen = np.zeros((batch, anchors, cameras), bool)
    first = rng.integers(0, cameras, (batch, anchors))
    np.put_along_axis(seen, first[..., None], True, axis=2)
    second = rng.random((batch, anchors)) < 0.65
    np.put_along_axis(seen, ((first + 1) % cameras)[..., None], second[..., None], 2)
    centres = rng.uniform(0.0, 1.0, (batch, anchors, 1, cameras, 2))
    locations = centres + 0.03 * rng.standard_normal((*shape, 2))
    return np.where(seen[:, :, None, :, None], locations, -1.0)


SPARSE4D = cases.Shape(
    (((64, 176), (32, 88), (16, 44), (8, 22)),) * 6,
    anchors=900,
    points=13,
    channels=256,
    groups=8,
    locate=quarter_visible,
)
PAGE = cases.Shape(
    (((32, 88),),),
    anchors=10,
    points=2000,
    channels=256,
    groups=8,
    locate=lambda rng, shape, _: rng.uniform(0, 1, (*shape, 2)),
)
PROBLEMS = {"Sparse4D, a quarter visible": SPARSE4D, "page's example": PAGE}
IN_16_BITS = {  # maps that L2 holds, and maps that it does not
    "Sparse4D, one frame": SPARSE4D,
    "Sparse4D, a batch of 6": replace(SPARSE4D, batch=6),
}
CYCLES_PER_MICROSECOND = 1850  # as in the cost model
L2_BYTES_PER_CYCLE = 5.2e12 / 1.85e9  # ... of the card


def floor_microseconds(samples: int, channels: int) -> float:
    """Corner rows at the rate of the L2 cache, perfectly shared between the cores."""
    return 16 * channels * samples / L2_BYTES_PER_CYCLE / CYCLES_PER_MICROSECOND
