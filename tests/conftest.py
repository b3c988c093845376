"""What every test shares: the report header, strictness and the implementations."""

import os
from collections.abc import Callable, Iterator

import jax
import pytest
from hypothesis import settings

import jda
from tests.support.implementations import (
    REQUIRE_NPU,
    ROOT,
    enable_x64,
    require,
    through,
)

# Only tests/npu wants a card. Where it is not asked for, no test touches one.
if not REQUIRE_NPU:
    cache = ROOT / "build" / "ascend" / "cache"
    os.environ.setdefault("JDA_ASCEND_DRIVER", "emulated")
    os.environ.setdefault("JDA_ASCEND_CACHE", str(cache))

pytest_plugins = ["tests.support.launched"]

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_report_header() -> list[str]:
    found = [f"jda {what}" for what in jda.implementations().values()]
    return [f"jax {jax.__version__} on {jax.default_backend()}", *found]


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """What a module has compiled goes with it: a worker of the suite lives for long."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session", params=["reference", "cpu"])
def implementation(request: pytest.FixtureRequest) -> str:
    """Every implementation that this machine should have."""
    return require(request.param)


@pytest.fixture(params=["cpu-reverse", "cpu-both"])
def kernels(request: pytest.FixtureRequest) -> Callable[..., jax.Array]:
    """The operator on the CPU's kernels, where the program around it matters alone."""
    return through(request.param)


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
