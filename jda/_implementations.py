"""Which implementation computes an operation on which platform.

The choice is made when an operation is lowered, for the platforms that it is lowered
for. Platforms without kernels of their own are served by the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax

from jda import _reference
from jda._precision import Operation, in_float32
from jda.ffi import ascend, cpu
from jda.ffi.library import Library

REFERENCE: dict[str, Operation] = {
    "forward": _reference.forward,
    "tangent": _reference.tangent,
    "backward": _reference.backward,
}
KERNELS: dict[str, dict[str, Operation]] = {
    "reference": REFERENCE,
    "cpu": {
        "forward": cpu.forward,
        "tangent": cpu.tangent,
        "backward": cpu.backward,
    },
    "ascend": REFERENCE
    | {
        "forward": in_float32("forward", ascend.forward),
        "backward": in_float32("backward", ascend.backward),
    },
}
PLATFORMS = {
    "reference": ("any",),
    "cpu": ("cpu",),
    "ascend": (*ascend.CARDS, "cpu"),  # on "cpu" where it is asked for, through copies
}
NATIVE = {"cpu": "cpu"} | dict.fromkeys(ascend.CARDS, "ascend")  # by platform
NAMES = tuple(KERNELS)
CUSTOM_CALLS = (*cpu.TARGETS, *ascend.TARGETS)


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


def implementations() -> dict[str, Implementation]:
    """What can compute the operator on this machine, and for what cannot, why.

    It loads the native libraries and, where there is a driver for Ascend, opens the
    card.

    Returns:
        One :class:`Implementation` for each name that ``implementation`` may have, in
        the order ``"reference"``, ``"cpu"``, ``"ascend"``. Printed, a line for each.

    Example:
        >>> import jda
        >>> jda.implementations()["reference"].available
        True
    """
    return Implementations((name, _describe(name)) for name in NAMES)


def _describe(name: str) -> Implementation:
    found = _find(name)
    return Implementation(
        name, found.available, PLATFORMS[name], found.detail, found.searched
    )


def _find(name: str) -> Library:
    if name == "reference":
        return Library(True, "jax.numpy")
    return {"cpu": cpu.library, "ascend": ascend.driver}[name]()


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
    names = {
        platform: _serving(platform, implementation, dtype) for platform in platforms
    }
    calls = {
        name: partial(KERNELS[name][operation], **params) for name in names.values()
    }
    with jax.named_scope(f"deformable_aggregation_{operation}"):
        if len(calls) == 1:
            (call,) = calls.values()
            return call(*operands)
        branches = {platform: calls[name] for platform, name in names.items()}
        results: list[jax.Array] = jax.lax.platform_dependent(*operands, **branches)
        return results


def _serving(platform: str, implementation: str | None, dtype: str) -> str:
    name = implementation or NATIVE.get(platform, "reference")
    problem = _problem(name, platform, dtype)
    if problem is None:
        return name
    if implementation is None:
        return "reference"
    raise problem


def _problem(name: str, platform: str, dtype: str) -> Exception | None:
    """Why an implementation cannot serve a platform, if it cannot."""
    served = PLATFORMS[name]
    if "any" not in served and platform not in served:
        return RuntimeError(
            f"implementation={name!r} serves the platforms {', '.join(served)}, but "
            f"the call is lowered for {platform}"
        )
    if name == "ascend" and dtype == "float64":
        return TypeError(
            "feature_maps has dtype float64, implementation='ascend' takes float32, "
            "bfloat16 and float16"
        )
    if platform in ascend.CARDS:
        return None  # the card may be in another machine
    found = _find(name)
    if not found.available:
        return RuntimeError(
            f"implementation={name!r} is not available: {found.problem}"
        )
    return None
