"""The dimensions of the operator's arrays, written down once.

Argument checks, shapes of results and the batching of the primitives all follow from
these few lines. A term such as ``"b n g*d"`` names the axes of one array; ``g*d`` is
one axis made of two factors, the channel group and the channel within its group.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Operands(NamedTuple):
    """The operator's five arrays, or one thing for each of them."""

    feature_maps: Any
    spatial_shape: Any
    scale_start_index: Any
    sample_locations: Any
    weight: Any

    def chosen(self, names: Sequence[str]) -> list[Any]:
        """Some of them, by their names."""
        return [getattr(self, name) for name in names]

    def replaced(self, some: Mapping[str, Any]) -> "Operands":
        """The same with others in the places of some, by their names."""
        return self._replace(**some)


AXES = Operands(
    feature_maps="b n g*d",
    spatial_shape="k s t",
    scale_start_index="k s",
    sample_locations="b a p k t",
    weight="b a p k s g",
)
RESULT = "b a g*d"

FLOATING = ("feature_maps", "sample_locations", "weight")  # the differentiable ones
INDEX = ("spatial_shape", "scale_start_index")

NAMES = {
    "b": "bs",
    "n": "num_feat",
    "g*d": "c",
    "k": "cam",
    "s": "scale",
    "a": "anchor",
    "p": "pts",
    "g": "group",
}

Terms = tuple[tuple[str, ...], ...]


def split(terms: Sequence[str]) -> Terms:
    """Splits every term into its axes."""
    return tuple(tuple(term.split()) for term in terms)


def terms(operation: str, which: Sequence[str] = ()) -> tuple[Terms, Terms]:
    """The axes of the operands and of the results of one of the three operations."""
    chosen = AXES.chosen(which)
    return {
        "forward": (split(AXES), split([RESULT])),
        "tangent": (split([*AXES, *chosen]), split([RESULT])),
        "backward": (split([*AXES, RESULT]), split(chosen)),
    }[operation]


def given(operands: Sequence[Any]) -> tuple[Operands, list[Any]]:
    """Of all operands of an operation, the operator's five arrays, and the others."""
    count = len(Operands._fields)
    return Operands(*operands[:count]), list(operands[count:])
