"""What there is to know about one implementation: a record, in the module it is about.

To add an implementation, write a module like ``jda/ffi/cpu.py`` with such a record, and
add a line for it to ``jda/_implementations.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

Operation = Callable[..., list[jax.Array]]
ANY = "any"  # the platform that stands for all of them


@dataclass(frozen=True)
class Found:
    """What became of the search for what an implementation needs.

    Attributes:
        available: whether it can be used.
        detail: one line on what was found, or why it cannot be used.
        searched: paths where it was looked for in vain, and the loader's reasons.
    """

    available: bool
    detail: str
    searched: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Why it cannot be used, with every path that was tried."""
        if not self.searched:
            return self.detail
        return "\n  ".join((f"{self.detail}; tried", *self.searched))


@dataclass(frozen=True)
class Backend:
    """One implementation of the operator.

    Attributes:
        name: what the argument ``implementation`` calls it.
        platforms: the JAX platforms that it serves.
        operations: its functions for ``"forward"``, ``"tangent"`` and ``"backward"``,
            by name; what is missing, the reference computes.
        find: looks for what it needs on this machine.
        tuned: from a platform to keywords of its operations that only make them faster.
        dtypes: of the feature maps that its operations take.
        default_on: the platforms that it serves where no name is given.
        remote: those of its platforms that may be another machine's: programs are
            lowered for them without a look at this one.
        targets: the custom calls that its programs contain.
    """

    name: str
    platforms: tuple[str, ...]
    operations: Mapping[str, Operation]
    find: Callable[[], Found]
    tuned: Callable[[str], Mapping[str, Any]] = lambda platform: {}
    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16", "float16")
    default_on: tuple[str, ...] = ()
    remote: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def refusal(self, platform: str, dtype: str) -> Exception | None:
        """Why it cannot serve a platform or a dtype, if it cannot."""
        chosen = f"implementation={self.name!r}"
        if platform not in self.platforms and ANY not in self.platforms:
            return RuntimeError(
                f"{chosen} serves the platforms {', '.join(self.platforms)}, but the "
                f"call is lowered for {platform}"
            )
        if dtype not in self.dtypes:
            *most, last = self.dtypes
            allowed = f"{', '.join(most)} and {last}"
            return TypeError(
                f"feature_maps has dtype {dtype}, {chosen} takes {allowed}"
            )
        if platform in self.remote:
            return None
        found = self.find()
        if found.available:
            return None
        return RuntimeError(f"{chosen} is not available: {found.problem}")
