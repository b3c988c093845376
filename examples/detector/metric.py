"""Mean average precision, where a box is found if its centre is within two metres."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NEAR = 2.0  # metres on the ground


class Found(NamedTuple):
    """What is said of one frame."""

    centre: np.ndarray  # [n, 2]
    label: np.ndarray  # [n]
    score: np.ndarray  # [n]


class Right(NamedTuple):
    """What is there in one frame."""

    centre: np.ndarray  # [m, 2]
    label: np.ndarray  # [m]


def mean_average_precision(
    found: Sequence[Found], right: Sequence[Right], classes: int
) -> tuple[float, list[float]]:
    """The mean over the classes that are there, and each class's own."""
    each = [average_precision(found, right, label) for label in range(classes)]
    return float(np.nanmean(each)), each


def average_precision(
    found: Sequence[Found], right: Sequence[Right], label: int
) -> float:
    """The area under precision over recall for one class; NaN without such boxes.

    From the most confident on, each box found takes the nearest right one of its frame
    that is still free. At each recall the best precision from there on counts.
    """
    there = [frame.centre[frame.label == label] for frame in right]
    number = sum(map(len, there))
    if not number:
        return float("nan")
    free = [np.ones(len(centre), bool) for centre in there]
    said = [
        (score, i, centre)
        for i, frame in enumerate(found)
        for centre, its, score in zip(*frame, strict=True)
        if its == label
    ]
    hits = np.zeros(len(said), bool)
    for rank, (_, i, centre) in enumerate(sorted(said, key=lambda each: -each[0])):
        distance = np.linalg.norm(there[i] - centre, axis=-1)
        distance = np.where(free[i], distance, np.inf)
        if distance.min(initial=np.inf) < NEAR:
            hits[rank], free[i][distance.argmin()] = True, False
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[hits].sum() / number)
