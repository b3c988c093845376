"""Which implementation computes an operation on which platform.

The choice is made when an operation is lowered, for the platforms that it is lowered
for. Platforms without kernels of their own are served by the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from jda import reference
from jda._precision import Operation, in_float32
from jda.ffi import cpu

REFERENCE: dict[str, Operation] = {
    "forward": reference.forward,
    "tangent": reference.tangent,
    "cotangent": reference.cotangent,
}
KERNELS: dict[str, dict[str, Operation]] = {
    "reference": REFERENCE,
    "cpu": REFERENCE
    | {
        "forward": in_float32("forward", cpu.forward),
        "cotangent": in_float32("cotangent", cpu.cotangent),
    },
}
NATIVE = {"cpu": "cpu"}  # platform: implementation
NAMES = ("reference", "cpu", "ascend")


@dataclass(frozen=True)
class Implementation:
    """One implementation of the operator, as it is found on this machine.

    Attributes:
        name: what the argument ``implementation`` calls it.
        available: whether it can be used here.
        platforms: the JAX platforms that it serves; ``"any"`` stands for all of them.
        detail: the library and instruction set, or why it is not available.
    """

    name: str
    available: bool
    platforms: tuple[str, ...]
    detail: str

    def __str__(self) -> str:
        """One line for a person."""
        state = "available" if self.available else "not available"
        return f"{self.name} ({', '.join(self.platforms)}): {state}, {self.detail}"


def implementations() -> dict[str, Implementation]:
    """What can compute the operator on this machine, and for what cannot, why.

    Returns:
        One :class:`Implementation` for each name that ``implementation`` may have, in
        the order ``"reference"``, ``"cpu"``, ``"ascend"``.

    Example:
        >>> import jda
        >>> jda.implementations()["reference"].available
        True
    """
    library = cpu.library()
    found = [
        Implementation("reference", True, ("any",), "jax.numpy"),
        Implementation("cpu", library.available, ("cpu",), library.detail),
        Implementation(
            "ascend",
            False,
            ("ascend", "ASCEND"),
            "its kernels cannot be called from JAX in this version",
        ),
    ]
    return {implementation.name: implementation for implementation in found}


def require(name: str | None) -> None:
    """Raises an error if an implementation that was asked for by name is missing."""
    if name is None or name == "reference":
        return
    found = implementations()[name]
    if not found.available:
        raise RuntimeError(f"implementation={name!r} is not available: {found.detail}")


def run(
    operation: str,
    *operands: jax.Array,
    implementation: str | None,
    platforms: Sequence[str],
    **params: Any,
) -> list[jax.Array]:
    """Computes an operation by the implementation that serves the platforms."""
    names = {platform: _serving(platform, implementation) for platform in platforms}
    calls = {
        name: partial(KERNELS[name][operation], **params) for name in names.values()
    }
    if len(calls) == 1:
        (call,) = calls.values()
        return call(*operands)
    branches = {platform: calls[name] for platform, name in names.items()}
    results: list[jax.Array] = jax.lax.platform_dependent(*operands, **branches)
    return results


def _serving(platform: str, implementation: str | None) -> str:
    if implementation is None:
        native = NATIVE.get(platform, "reference")
        return native if implementations()[native].available else "reference"
    served = implementations()[implementation].platforms
    if "any" not in served and platform not in served:
        raise RuntimeError(
            f"implementation={implementation!r} serves the platforms "
            f"{', '.join(served)}, but the call is lowered for {platform}"
        )
    return implementation
