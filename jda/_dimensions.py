"""The dimensions of the operator's arrays, written down once.

Argument checks, shapes of results and the batching of the primitives all follow from
these few lines. A term such as ``"b n g*d"`` names the axes of one array; ``g*d`` is
one axis made of two factors, the channel group and the channel within its group.
"""

from collections.abc import Sequence

OPERANDS = {
    "feature_maps": "b n g*d",
    "spatial_shape": "k s t",
    "scale_start_index": "k s",
    "sample_locations": "b a p k t",
    "weight": "b a p k s g",
}
RESULT = "b a g*d"

FLOATING = (0, 3, 4)  # positions of the differentiable operands
INDEX = (1, 2)  # positions of the integer operands

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


def terms(operation: str, which: Sequence[int] = ()) -> tuple[Terms, Terms]:
    """The axes of the operands and of the results of one of the three operations."""
    operands = list(OPERANDS.values())
    chosen = [operands[i] for i in which]
    return {
        "forward": (split(operands), split([RESULT])),
        "tangent": (split(operands + chosen), split([RESULT])),
        "backward": (split([*operands, RESULT]), split(chosen)),
    }[operation]
