"""The promise: what docs/sharding.md says works, and is right.

Run by tests/test_sharding.py in a process with eight devices.
"""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jda
from tests.eight_devices import scene
from tests.eight_devices.scene import run
from tests.support import cases, pages

pytestmark = pytest.mark.usefixtures("_defaults")
GUIDE = "docs/sharding.md"


@pytest.fixture
def _defaults():
    """The page is written for JAX as most have it, not for this suite's strictness."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def program():
    """Everything that the page's blocks of Python define, one after the other."""
    return pages.run(GUIDE)


def problem():
    return *program()["packed"], program()["locations"], program()["weight"]


def close(found, right):
    scale = float(np.abs(right).max())
    np.testing.assert_allclose(found, right, rtol=0, atol=3e-5 * scale)


def test_training_step():
    names = program()
    value, grads = jax.jit(jax.value_and_grad(names["loss"]))(
        {"scale": np.ones((32,), np.float32), "offset": np.zeros((16, 4, 8, 2), "f")},
        names["packed"],
        names["locations"],
        names["weight"],
        names["target"],
    )
    close(names["value"], value)
    close(names["params"]["scale"], 1 - 0.1 * grads["scale"])
    close(names["params"]["offset"], -0.1 * grads["offset"])
    _, found = run(names["step"], (names["params"], *names["batch"]))
    assert set(found) == {"all-reduce"} and found["all-reduce"] <= 3


def test_features_split_over_cameras():
    names = program()
    right = jda.deformable_aggregation(*problem())
    close(names["out"], right)
    floats = [problem()[i] for i in cases.FLOATS]

    def squares(features, locations, weight):
        arrays = features, *problem()[1:3], locations, weight
        return (jda.deformable_aggregation(*arrays) ** 2).sum()

    for grad, other in zip(
        names["grads"], jax.grad(squares, (0, 1, 2))(*floats), strict=True
    ):
        close(grad, other)
    _, found = run(names["over_cameras"], problem())
    assert found == scene.reductions(1)
    _, found = run(jax.grad(names["squares"], (0, 1, 2)), floats)
    assert found == scene.reductions(1)  # of the forward: the backward needs none
    shard = names["grads"][0].addressable_shards[0].data
    assert shard.shape[1] * 8 == floats[0].shape[1]


def test_features_split_over_batch_and_cameras():
    names = program()
    mesh = scene.mesh((2, 4), ("data", "x"))
    samples = P("data", None, None, "x")
    specs = (P("data", "x"), P("x"), P("x"), samples, samples)
    function = jax.shard_map(
        names["of_some_cameras"], mesh=mesh, in_specs=specs, out_specs=P("data")
    )
    out, found = run(function, problem())
    assert found == scene.reductions(1)
    assert out.sharding.is_equivalent_to(NamedSharding(mesh, P("data")), 3)
    close(out, jda.deformable_aggregation(*problem()))
