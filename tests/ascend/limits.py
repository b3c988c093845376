"""Problems at the corners of the sizes that published kernels of this operator allow.

c = 256, six cameras, four scales, eight groups, and up to 2048 anchors or points. Few
samples are visible, so that the oracle can judge them. And at the ends of choices that
these kernels make.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from tests.support import cases


def rarely(rng, shape, _):
    """A pair in fifty is seen, at any place."""
    locations = rng.uniform(0.0, 1.0, (*shape, 2))
    return np.where(rng.random(shape)[..., None] < 0.02, locations, -1.0)


PYRAMIDS = (((16, 44), (8, 22), (4, 11), (2, 6)),) * 6
SHAPES = {
    "all channels": cases.Shape(
        PYRAMIDS, anchors=5, points=13, channels=256, groups=8, locate=cases.clustered
    ),
    "2048 points": cases.Shape(
        PYRAMIDS, anchors=2, points=2048, channels=256, groups=8, locate=rarely
    ),
    "2048 anchors": cases.Shape(
        PYRAMIDS, anchors=2048, points=2, channels=256, groups=8, locate=rarely
    ),
    # More granules on each of two cores than are counted at once.
    "5000 pairs": cases.Shape(
        cases.TWO_CAMERAS, anchors=5, points=500, groups=2, locate=rarely
    ),
    # A group so wide that a batch is one sample.
    "2040 channels a group": cases.Shape(
        cases.ONE, anchors=1, points=12, channels=2040, groups=1, locate=cases.inside
    ),
    # More scales than pairs whose weights are loaded along with a batch.
    "33 scales": cases.Shape(
        (((3, 4), (2, 3), (4, 2)) * 11,), anchors=2, points=15, locate=cases.inside
    ),
    # Weights that fill a block of 16 bits but for one number.
    "15 groups": cases.Shape(cases.ONE, channels=15, groups=15),
    # Sums of which one is left when each of three cores has rounded whole lines.
    "1537 sums": cases.Shape(
        (((1, 29),),), anchors=13, points=11, channels=53, groups=1
    ),
}


@cache
def half_case(name: str, dtype: type) -> tuple[cases.Inputs, cases.Judgement]:
    """The same in 16 bits, where a group may have 2032 channels."""
    shape = SHAPES[name]
    shape = replace(shape, channels=min(shape.channels, 2032))
    narrow = cases.narrowed(cases.make(shape), dtype)
    inputs, _, judged = cases.judge_widened(narrow)
    return inputs, judged


@cache
def case(name: str) -> tuple[cases.Inputs, cases.Judgement]:
    inputs = cases.make(SHAPES[name])
    return inputs, cases.judge(inputs)
