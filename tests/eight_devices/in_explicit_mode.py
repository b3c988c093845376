"""The promise: shardings that are part of the types go through the operator.

Run by tests/test_sharding.py in a process with eight devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from tests.eight_devices import scene
from tests.eight_devices.scene import forward, pull_back, put, run
from tests.support.cases import FLOATS

COUNTS = {"batch": 0, "anchor": 1, "group": 1, "point": 1, "camera": 1}  # backward


def set_mesh(mesh):
    """JAX 0.7 has this under another name."""
    sharding: Any = jax.sharding
    enter = jax.set_mesh if hasattr(jax, "set_mesh") else sharding.use_mesh
    return enter(mesh)


def padded(spec, rank):
    return P(*spec, *[None] * (rank - len(spec)))


@pytest.mark.parametrize("axis", scene.SPLITS)
def test_one_axis(axis):
    mesh = scene.mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    with set_mesh(mesh):
        inputs = put(scene.INPUTS, scene.SPLITS[axis]("x"), mesh)
        types = jax.eval_shape(forward, *inputs)
        assert types.sharding.spec == padded(scene.RESULTS[axis]("x"), 3)
        out, found = run(forward, inputs)
        assert found == scene.reductions(int(axis in ("point", "camera")))
        assert out.sharding.spec == types.sharding.spec
        grads, found = run(pull_back, inputs)
        assert found == scene.reductions(COUNTS[axis])
        for i, grad in zip(FLOATS, grads, strict=True):
            assert grad.sharding.spec == padded(inputs[i].sharding.spec, grad.ndim)
        if axis in ("anchor", "camera"):
            tangent, _ = run(scene.push_forward, inputs)
            scene.assert_tangent(tangent)
    scene.assert_forward(out)
    scene.assert_gradients(grads)


def test_explicit_and_automatic_axes():
    kinds = (AxisType.Explicit, AxisType.Auto, AxisType.Explicit)
    mesh = scene.mesh((2, 2, 2), ("x", "y", "z"), axis_types=kinds)
    specs = (
        P("x", None, "z"),
        *2 * [P()],
        P("x", "y"),
        P("x", "y", None, None, None, "z"),
    )
    with set_mesh(mesh):
        inputs = put(scene.INPUTS, specs, mesh)
        out, found = run(forward, inputs)
        assert found == {}
        grads, found = run(pull_back, inputs)
        assert found == scene.reductions(2)
    scene.assert_forward(out)
    scene.assert_gradients(grads)


@pytest.mark.parametrize("axis", ["batch", "anchor"])
@pytest.mark.parametrize("mapped", [0, 3])
def test_vmap(axis, mapped):
    """The axis that is split stays so, whatever the mapped axis is merged with."""
    mesh = scene.mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    with set_mesh(mesh):
        inputs = put(scene.INPUTS, scene.SPLITS[axis]("x"), mesh)
        inputs[mapped] = jnp.stack([inputs[mapped]] * 2)
        axes = [None] * 5
        axes[mapped] = 0
        outs, found = run(jax.vmap(forward, axes), inputs)
        assert found == {}
    for out in outs:
        scene.assert_forward(out)


@pytest.mark.parametrize("axis", ["anchor", "camera"])
def test_second_order(axis):
    mesh = scene.mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    with set_mesh(mesh):
        inputs = put(scene.INPUTS, scene.SPLITS[axis]("x"), mesh)
        found = jax.jit(scene.curvature)(*inputs)
        for i, part in zip(FLOATS, found, strict=True):
            assert part.sharding.spec == padded(inputs[i].sharding.spec, part.ndim)
    scene.assert_curvature(found)


def test_the_reference():
    mesh = scene.mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    with set_mesh(mesh):
        inputs = put(scene.INPUTS, scene.SPLITS["camera"]("x"), mesh)
        out, found = run(lambda *x: forward(*x, implementation="reference"), inputs)
    assert found == scene.reductions(1)
    scene.assert_forward(out)
