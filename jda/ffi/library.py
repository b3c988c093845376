"""What became of loading a native library."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    """A library and what it needs: what was found, or why it cannot be used."""

    available: bool
    detail: str
