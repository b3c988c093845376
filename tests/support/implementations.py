"""Which implementations have to be there, and what differs between versions of JAX."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import pytest

import jda
from jda._environment import flag

ROOT = Path(__file__).resolve().parents[2]  # from where `python -m tests...` runs
REQUIRE_CPU, REQUIRE_NPU = flag("JDA_REQUIRE_CPU"), flag("JDA_REQUIRE_NPU")


def require(name: str) -> str:
    """The name of an implementation; skips, or fails, where there is none of it."""
    if name == "ascend" and not (resources.files("jda.ffi") / "emulated").is_dir():
        pytest.skip("a wheel has no emulated driver")
    status = jda.implementations()[name]
    if not status.available:
        if REQUIRE_CPU:
            pytest.fail(f"JDA_REQUIRE_CPU=1, but: {status.detail}")
        pytest.skip(status.detail)
    return name


def through(door: str) -> Callable[..., jax.Array]:
    """The operator, by "implementation-differentiation", such as "cpu-reverse"."""
    implementation, differentiation = door.split("-")
    return partial(
        jda.deformable_aggregation,
        implementation=require(implementation),
        differentiation=differentiation,
    )


def enable_x64() -> AbstractContextManager[None]:
    """float64 inside the context; jax moved the name after 0.7."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    experimental: Any = jax.experimental
    return experimental.enable_x64()


def require_module(name: str) -> ModuleType:
    """A module of the tests' extras; skips, or fails, where it is missing."""
    return importlib.import_module(name) if REQUIRE_CPU else pytest.importorskip(name)
