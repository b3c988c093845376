"""What differs between versions of JAX, or has no public name in it.

No other module asks for a version of JAX.
"""

# mypy: allow-untyped-calls

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.interpreters import ad

# What ``jax.jit`` takes for a function of which nothing shows in the caller's jaxpr.
INLINE: Any = jax.Inline.JAX_EARLY if hasattr(jax, "Inline") else True  # JAX 0.12


def is_zero(tangent: Any) -> bool:
    """Whether a tangent or cotangent is known to be zero without any array for it."""
    return type(tangent) is ad.Zero


def zero_tangent(value: Any) -> Any:
    """The tangent of a value that does not move, without any array for it."""
    return ad.Zero(jax.typeof(value).to_tangent_aval())


def materialise(tangent: Any) -> jax.Array:
    """An array for a tangent that may be a symbolic zero."""
    array: jax.Array = ad.instantiate_zeros(tangent)
    return array


def is_symbolic_zero(cotangent: Any) -> bool:
    """Whether ``jax.custom_vjp`` passed a cotangent that is known to be zero."""
    return isinstance(cotangent, jax.custom_derivatives.SymbolicZero)


def no_cotangent(operand: jax.Array) -> Any:
    """What a backward rule of ``jax.custom_vjp`` returns for an unwanted gradient."""
    if jax.__version_info__ >= (0, 10):
        return None
    # Older ones want as many results from every call, and do not count None.
    zero = jax.typeof(operand).to_tangent_aval()
    return jax.custom_derivatives.SymbolicZero(zero)


def is_traced(array: Any) -> bool:
    """Whether the values of an array are unknown while a function is traced."""
    return isinstance(array, jax.core.Tracer)


def with_automatic_axes(
    function: Callable[..., Any], results: Sequence[jax.Array]
) -> Callable[..., Any]:
    """Lets XLA split what a function computes, where shardings are part of the types.

    Otherwise JAX wants to be told how each reshape and each gather is to be split.

    Args:
        function: takes every array as an argument.
        results: arrays of the types that its results are to have.
    """
    if not has_explicit_axes(results):
        return function
    shardings = [jax.typeof(result).sharding for result in results]
    automatic: Callable[..., Any] = jax.sharding.auto_axes(
        function, out_sharding=shardings
    )
    return automatic


def has_explicit_axes(arrays: Sequence[jax.Array]) -> bool:
    """Whether shardings are part of the types."""
    return any(jax.typeof(array).sharding.mesh.explicit_axes for array in arrays)


def is_plain(arrays: Sequence[jax.Array]) -> bool:
    """Whether the types have no mesh axes in them, and sizes are all numbers."""
    return not has_explicit_axes(arrays) and not any(
        _varying_axes(array) or not all(isinstance(size, int) for size in array.shape)
        for array in arrays
    )


def with_same_varying_axes(arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Inside ``shard_map``: all arrays vary over the mesh axes that any varies over."""
    axes = [_varying_axes(array) for array in arrays]
    every: frozenset[str] = frozenset().union(*axes)
    return [
        _vary(array, tuple(sorted(every - own))) if every - own else array
        for array, own in zip(arrays, axes, strict=True)
    ]


def _varying_axes(array: jax.Array) -> frozenset[str]:
    aval = jax.typeof(array)
    if hasattr(aval, "mat"):  # JAX 0.10 and later
        return frozenset(aval.mat.varying)
    return getattr(aval, "vma", frozenset())


def _vary(array: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    lax: Any = jax.lax
    varying: jax.Array
    if hasattr(lax, "pcast"):  # JAX 0.8 and later
        varying = lax.pcast(array, axes, to="varying")
    else:
        varying = lax.pvary(array, axes)
    return varying
