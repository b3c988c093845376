"""Half precision for kernels that have none."""

from typing import Any

import jax
import jax.numpy as jnp

from jda._backend import Operation
from jda._dimensions import given


def in_float32(operation: str, kernel: Operation) -> Operation:
    """Lets a kernel take bfloat16 and float16: it computes in float32.

    Args:
        operation: ``"forward"``, ``"tangent"`` or ``"backward"``.
        kernel: computes it for float32.

    Returns:
        The kernel with 16-bit operands and results converted at its border.
    """

    def converted(*operands: jax.Array, **params: Any) -> list[jax.Array]:
        narrow = operands[0].dtype
        if narrow.itemsize > 2:
            return kernel(*operands, **params)
        wide = [x.astype(jnp.float32) if x.dtype == narrow else x for x in operands]
        results = kernel(*wide, **params)
        if operation != "backward":
            return [result.astype(narrow) for result in results]
        arrays, _ = given(operands)
        like = arrays.chosen(params["which"])
        return [x.astype(y.dtype) for x, y in zip(results, like, strict=True)]

    return converted
