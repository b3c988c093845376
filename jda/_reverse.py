"""Reverse mode: an operation and its cotangent, joined by ``jax.custom_vjp``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jda import _compat
from jda._dimensions import FLOATING


def reverse_mode(
    forward: Callable[..., jax.Array], cotangent: Callable[..., list[jax.Array]]
) -> Callable[..., jax.Array]:
    """Gives ``forward`` the gradients that ``cotangent`` computes.

    Args:
        forward: from the five operands to the result.
        cotangent: from the five operands, the cotangent of the result and ``which``,
            the positions of the wanted gradients, to these gradients.

    Returns:
        ``forward`` as a ``jax.custom_vjp``. What it keeps for the backward pass is the
        operands alone.
    """
    function = jax.custom_vjp(forward)

    def keep(*operands: Any) -> Any:
        values = tuple(operand.value for operand in operands)
        # An empty array, whose shape says which gradients are wanted. Static data would
        # be simpler, but JAX takes it from another trace when it has cached several.
        wanted = jnp.empty((0, *(int(operands[i].perturbed) for i in FLOATING)))
        return forward(*values), (values, wanted)

    def gradients(kept: Any, bar: Any) -> tuple[jax.Array | None, ...]:
        operands, wanted = kept
        flags = zip(FLOATING, wanted.shape[1:], strict=True)
        which = tuple(i for i, flag in flags if flag)
        if _compat.is_symbolic_zero(bar) or not which:
            return (None,) * len(operands)
        bars = cotangent(*operands, bar, which=which)
        found = dict(zip(which, bars, strict=True))
        return tuple(found.get(i) for i in range(len(operands)))

    function.defvjp(keep, gradients, symbolic_zeros=True)
    return function
