"""Reverse mode: an operation and its cotangent, joined by ``jax.custom_vjp``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jda import _compat
from jda._dimensions import FLOATING


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Which:
    """Positions of the operands whose gradients are wanted, kept out of the trace."""

    positions: tuple[int, ...]


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

    def keep(*operands: Any) -> tuple[jax.Array, Any]:
        which = _Which(tuple(i for i in FLOATING if operands[i].perturbed))
        values = tuple(operand.value for operand in operands)
        return forward(*values), (values, which)

    def gradients(kept: Any, bar: Any) -> tuple[jax.Array | None, ...]:
        operands, which = kept
        if _compat.is_symbolic_zero(bar) or not which.positions:
            return (None,) * len(operands)
        bars = cotangent(*operands, bar, which=which.positions)
        found = dict(zip(which.positions, bars, strict=True))
        return tuple(found.get(i) for i in range(len(operands)))

    function.defvjp(keep, gradients, symbolic_zeros=True)
    return function
