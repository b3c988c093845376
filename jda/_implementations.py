"""Which implementation computes an operation on which platform.

The choice is made when an operation is lowered, for the platforms that it is lowered
for. Platforms without kernels of their own are served by the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax

from jda import _reference
from jda._backend import Backend, Operation
from jda._table import table
from jda.ffi import ascend, cpu

BACKENDS = (
    _reference.BACKEND,
    cpu.BACKEND,
    ascend.BACKEND,
)
BY_NAME = {backend.name: backend for backend in BACKENDS}
NAMES = tuple(BY_NAME)
CUSTOM_CALLS = tuple(target for backend in BACKENDS for target in backend.targets)


@dataclass(frozen=True)
class Implementation:
    """One implementation of the operator, as it is found on this machine.

    Attributes:
        name: what the argument ``implementation`` calls it.
        available: whether it can be used here.
        platforms: the JAX platforms that it serves; ``"any"`` stands for all of them.
        detail: what it needs and where that was found, or why it is not available. Of
            ``"ascend"``: driver, toolkit, card, cores and whether the kernels are
            compiled. Where a driver stands in for a card, it says "emulated".
        searched: where what it needs was looked for in vain: paths, and the reason that
            they have in common.
    """

    name: str
    available: bool
    platforms: tuple[str, ...]
    detail: str
    searched: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        """One line for a person."""
        state = "available" if self.available else "not available"
        return f"{self.name} ({', '.join(self.platforms)}): {state}, {self.detail}"


class Implementations(dict[str, Implementation]):
    """Implementations by their names; printed, a line for each."""

    def __str__(self) -> str:
        """Lines for a person."""
        return "\n".join(map(str, self.values()))

    def _repr_html_(self) -> str:
        rows = (
            (x.name, ", ".join(x.platforms), "yes" if x.available else "no", x.detail)
            for x in self.values()
        )
        return table("implementations", ("", "platforms", "available", "detail"), rows)


def implementations() -> Implementations:
    """What can compute the operator on this machine, and for what cannot, why.

    It loads the native libraries and, where there is a driver for Ascend, opens the
    card.

    Returns:
        One :class:`Implementation` for each name that ``implementation`` may have, in
        the order ``"reference"``, ``"cpu"``, ``"ascend"``. Printed, a line for each;
        in a notebook, a table.

    Example:
        >>> import jda
        >>> jda.implementations()["reference"].available
        True
    """
    return Implementations((each.name, _describe(each)) for each in BACKENDS)


def _describe(backend: Backend) -> Implementation:
    found = backend.find()
    return Implementation(
        backend.name, found.available, backend.platforms, found.detail, found.searched
    )


def run(
    operation: str,
    *operands: jax.Array,
    implementation: str | None,
    platforms: Sequence[str],
    **params: Any,
) -> list[jax.Array]:
    """Computes an operation by the implementation that serves the platforms.

    A profiler shows its name, also where it is one call without any structure.
    """
    dtype = operands[0].dtype.name
    calls = {
        platform: _call(operation, platform, _serving(platform, implementation, dtype))
        for platform in platforms
    }
    bound = {
        call: partial(call.compute, **dict(call.tuned), **params)
        for call in calls.values()
    }
    with jax.named_scope(f"deformable_aggregation_{operation}"):
        if len(bound) == 1:
            (only,) = bound.values()
            return only(*operands)
        branches = {platform: bound[call] for platform, call in calls.items()}
        results: list[jax.Array] = jax.lax.platform_dependent(*operands, **branches)
        return results


class _Call(NamedTuple):
    """An operation of an implementation, and what tunes it to a platform."""

    compute: Operation
    tuned: tuple[tuple[str, Any], ...]


def _call(operation: str, platform: str, backend: Backend) -> _Call:
    if operation not in backend.operations:
        backend = _reference.BACKEND
    return _Call(backend.operations[operation], tuple(backend.tuned(platform).items()))


def _serving(platform: str, implementation: str | None, dtype: str) -> Backend:
    if implementation is None:
        able = [each for each in BACKENDS if platform in each.default_on]
        return next(
            (each for each in able if each.refusal(platform, dtype) is None),
            _reference.BACKEND,
        )
    backend = BY_NAME[implementation]
    refusal = backend.refusal(platform, dtype)
    if refusal is not None:
        raise refusal
    return backend
