"""Variables of the environment. A word that a variable does not know is refused."""

import os


def flag(name: str) -> bool:
    """Whether a variable holds ``1``; ``0`` and nothing are no.

    Raises:
        ValueError: if it holds another word.
    """
    value = os.environ.get(name) or "0"
    if value not in ("0", "1"):
        raise ValueError(f"{name} is {value!r}; it may be '0' or '1'")
    return value == "1"
