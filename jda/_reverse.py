"""Reverse mode: an operation and its backward, joined by ``jax.custom_vjp``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jda import _compat
from jda._dimensions import FLOATING, Operands
from jda._make_primitive import define_primitive


def reverse_mode(
    forward: Callable[..., jax.Array], backward: Callable[..., list[jax.Array]]
) -> Callable[..., jax.Array]:
    """Gives ``forward`` the gradients that ``backward`` computes.

    Args:
        forward: from the five operands to the result.
        backward: from the five operands, the cotangent of the result and ``which``,
            the names of the wanted gradients' arguments, to these gradients.

    Returns:
        ``forward`` as a ``jax.custom_vjp``. What it keeps for the backward pass is the
        operands alone.
    """
    function = jax.custom_vjp(forward)

    def keep(*operands: Any) -> Any:
        values = Operands(*[operand.value for operand in operands])
        perturbed = Operands(*[operand.perturbed for operand in operands])
        # An empty array, whose shape says which gradients are wanted. Static data would
        # be simpler, but JAX takes it from another trace when it has cached several.
        wanted = jnp.empty((0, *map(int, perturbed.chosen(FLOATING))))
        return forward(*values), (values, wanted)

    def gradients(kept: Any, cotangent: Any) -> tuple[Any, ...]:
        operands, wanted = kept
        flags = zip(FLOATING, wanted.shape[1:], strict=True)
        which = tuple(name for name, flag in flags if flag)
        found = Operands(*map(_compat.no_cotangent, operands))
        if which and not _compat.is_symbolic_zero(cotangent):
            grads = backward(*operands, cotangent, which=which)
            found = found.replaced(dict(zip(which, grads, strict=True)))
        return tuple(found)

    function.defvjp(keep, gradients, symbolic_zeros=True)

    def reverse_only(*operands: jax.Array) -> jax.Array:
        return function(*_identity(*operands))

    return reverse_only


# JAX's own error about forward mode cannot say what to do about it. So the operands go
# through an identity whose tangents may be transposed, as reverse mode does, but never
# computed.


def _refuse(*_: Any, **__: Any) -> list[jax.Array]:
    raise TypeError(
        'differentiation="reverse" does not allow forward mode (jax.jvp, jax.jacfwd, '
        'jax.linearize); pass differentiation="both"'
    )


def _same(*arrays: Any, **_: Any) -> list[Any]:
    return list(arrays)


def _guard_tangents(primals: Any, tangents: Any) -> tuple[Any, Any]:
    moved = [i for i, tangent in enumerate(tangents) if not _compat.is_zero(tangent)]
    guarded = _tangents(*[tangents[i] for i in moved])
    found = dict(zip(moved, guarded, strict=True))
    return primals, [found.get(i, tangent) for i, tangent in enumerate(tangents)]


def _linear_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    given = map(_compat.materialise, tangents)
    return _tangents(*primals), _tangents(*given)


_identity: Callable[..., list[jax.Array]] = define_primitive(
    "reverse_mode_only",
    result_avals=_same,
    run=_same,
    jvp=_guard_tangents,
    batch=lambda arrays, axes: (_identity(*arrays), axes),
)
_tangents: Callable[..., list[jax.Array]] = define_primitive(
    "reverse_mode_only_tangents",
    result_avals=_same,
    run=_refuse,
    jvp=_linear_jvp,
    batch=_refuse,
    transpose=lambda cotangents, *_: list(cotangents),
)
