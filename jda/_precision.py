"""Half precision for kernels that have none."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Operation = Callable[..., list[jax.Array]]


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
        like = params["which"] if operation == "backward" else (0,)
        results = zip(like, kernel(*wide, **params), strict=True)
        return [result.astype(operands[i].dtype) for i, result in results]

    return converted
