"""What every test shares: the report header, strictness and the implementations."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import jax
import pytest
from hypothesis import settings

import jda
from jda._environment import flag

REQUIRE_CPU, REQUIRE_NPU = flag("JDA_REQUIRE_CPU"), flag("JDA_REQUIRE_NPU")

# Only tests/npu wants a card. Where it is not asked for, no test touches one.
if not REQUIRE_NPU:
    cache = Path(__file__).parents[1] / "build" / "ascend" / "cache"
    os.environ.setdefault("JDA_ASCEND_DRIVER", "emulated")
    os.environ.setdefault("JDA_ASCEND_CACHE", str(cache))

pytest_plugins = ["launched"]

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_report_header() -> list[str]:
    found = [f"jda {what}" for what in jda.implementations().values()]
    return [f"jax {jax.__version__} on {jax.default_backend()}", *found]


def require(name: str) -> str:
    """The name of an implementation; skips, or fails, where there is none of it."""
    status = jda.implementations()[name]
    if not status.available:
        if REQUIRE_CPU:
            pytest.fail(f"JDA_REQUIRE_CPU=1, but: {status.detail}")
        pytest.skip(status.detail)
    return name


@pytest.fixture(scope="session", params=["reference", "cpu"])
def implementation(request: pytest.FixtureRequest) -> str:
    """Every implementation that this machine should have."""
    return require(request.param)


def enable_x64() -> AbstractContextManager[None]:
    """float64 inside the context; jax moved the name after 0.7."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return jax.experimental.enable_x64()


@pytest.fixture
def float64() -> Iterator[None]:
    with enable_x64():
        yield


@pytest.fixture(scope="session")
def aggregate(implementation: str) -> Callable[..., jax.Array]:
    """The operator through one implementation."""

    def call(*arrays: object, order: str = "yx") -> jax.Array:
        return jda.deformable_aggregation(
            *arrays, coordinate_order=order, implementation=implementation
        )

    return call
