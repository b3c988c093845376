"""What became of loading a native library."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    """A library and what it needs: what was found, or why it cannot be used.

    Attributes:
        available: whether it can be used.
        detail: one line on it.
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
