"""On a card: skipped where there is none, mandatory with JDA_REQUIRE_NPU=1."""

from collections.abc import Iterator
from typing import NoReturn

import jax
import pytest

import jda
from jda._environment import flag
from jda.ffi.ascend import CARDS


def give_up(reason: str) -> NoReturn:
    if flag("JDA_REQUIRE_NPU"):
        pytest.fail(f"JDA_REQUIRE_NPU=1, but: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def card() -> str:
    """What is known about the card. The emulation is none."""
    found = jda.implementations()["ascend"]
    if "emulated" in found.detail:
        give_up("no card: the driver is the emulated one; see `make test-npu`")
    if not found.available:
        give_up(f"no Ascend card can be used here: {found.detail}")
    return found.detail


@pytest.fixture(params=["cpu", "ascend"], autouse=True)
def platform(request: pytest.FixtureRequest, card: str) -> Iterator[str]:
    """Where JAX has the arrays: each platform reaches the card by its own handlers."""
    names = ("cpu",) if request.param == "cpu" else CARDS
    found = [name for name in names if has_platform(name)]
    if not found:
        pytest.skip("no JAX plugin for Ascend is installed")
    with jax.default_device(jax.devices(found[0])[0]):
        yield request.param


def has_platform(name: str) -> bool:
    try:
        return bool(jax.devices(name))
    except RuntimeError:
        return False
