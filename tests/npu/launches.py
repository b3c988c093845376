"""Our kernels on arrays that another library has on the card, without JAX or copies."""

from collections.abc import Mapping

from jda.ffi import c_api
from jda.ffi.c_api import ARRAYS
from tests.support.cases import Inputs

__all__ = ["ARRAYS", "enqueue"]


def enqueue(
    inputs: Inputs, pointers: Mapping[str, int], stream: int, order: str = "xy"
) -> None:
    """Forward and backward on a stream; does not wait for them.

    Args:
        inputs: for their sizes alone.
        pointers: one to each of `ARRAYS`, in the memory of the thread's current card.
        stream: an `aclrtStream`.
        order: of the coordinates.
    """
    sizes = c_api.sizes(inputs.feature_maps.shape, inputs.weight.shape)
    maps, weight = (
        c_api.DTYPES[x.dtype.name] for x in (inputs.feature_maps, inputs.weight)
    )
    problem = c_api.AscendProblem(sizes, order.index("y"), maps, weight, 0)
    for operation in ("forward", "backward"):
        c_api.enqueue(operation, problem, pointers, stream)
