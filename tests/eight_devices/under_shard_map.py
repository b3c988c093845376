"""The promise: the operator is right inside shard_map, checked or not.

Run by tests/test_sharding.py in a process with eight devices.
"""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jda
from tests.eight_devices import scene
from tests.eight_devices.scene import (
    INPUTS,
    RESULTS,
    SPLITS,
    forward,
    pull_back,
    put,
    run,
)
from tests.support.cases import FLOATS

SUMMED = ("point", "camera")


def mapped(axis, *, mesh=None, call=forward, **keywords):
    """The operator on the parts of every device; partial results are added up."""
    options = {name: keywords.pop(name) for name in ("check_vma",) if name in keywords}

    def part(*inputs):
        out = call(*inputs, **keywords)
        return jax.lax.psum(out, "x") if axis in SUMMED else out

    return jax.shard_map(
        part,
        mesh=mesh or scene.mesh((8,), ("x",)),
        in_specs=SPLITS[axis]("x"),
        out_specs=RESULTS[axis]("x"),
        **options,
    )


@pytest.mark.parametrize("differentiation", ["reverse", "both"])
@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("axis", SPLITS)
def test_one_axis(axis, check_vma, differentiation):
    operator = mapped(axis, check_vma=check_vma, differentiation=differentiation)
    once = int(axis in SUMMED)
    if differentiation == "reverse":
        out, found = run(operator, INPUTS)
        assert found == scene.reductions(once)
        scene.assert_forward(out)
    grads, found = run(lambda *x: pull_back(*x, operator=operator), INPUTS)
    # Where it is checked, JAX knows that the cotangent needs no reduction.
    assert found == scene.reductions(
        0 if axis == "batch" else 1 + once * (not check_vma)
    )
    scene.assert_gradients(grads)


@pytest.mark.parametrize("axis", ["anchor", "camera"])
def test_the_reference_by_its_name(axis):
    """Its arguments vary over different axes, which JAX checks by default."""
    out, _ = run(mapped(axis, call=jda.reference.deformable_aggregation), INPUTS)
    scene.assert_forward(out)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("axis", ["anchor", "camera"])
def test_forward_mode(axis, check_vma):
    operator = mapped(axis, check_vma=check_vma, differentiation="both")
    tangent, found = run(lambda *x: scene.push_forward(*x, operator=operator), INPUTS)
    assert found == scene.reductions(int(axis in SUMMED))
    scene.assert_tangent(tangent)


@pytest.mark.parametrize("differentiation", ["reverse", "both"])
def test_the_gradient_inside(differentiation):
    """Every device differentiates its own anchors; the features are all of theirs."""
    mesh = scene.mesh((8,), ("x",))
    specs = SPLITS["anchor"]("x")

    def part(features, spatial_shape, start, locations, weight, bar):
        def loss(features, locations, weight):
            arrays = features, spatial_shape, start, locations, weight
            return jnp.vdot(forward(*arrays, differentiation=differentiation), bar)

        return jax.grad(loss, (0, 1, 2))(features, locations, weight)

    program = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(*specs, P(None, "x")),
        out_specs=tuple(specs[i] for i in FLOATS),
    )
    grads, found = run(program, (*INPUTS, scene.COTANGENT))
    assert found == scene.reductions(1)
    scene.assert_gradients(grads)


@pytest.mark.parametrize("sizes", [{"x": 2, "y": 4}, {"y": 2, "x": 2, "z": 2}], ids=str)
@pytest.mark.parametrize("axis", ["anchor", "camera"])
def test_some_axes_manual(axis, sizes):
    """The batch is split by hand, another axis by XLA, as under jit."""
    mesh = scene.mesh(tuple(sizes.values()), tuple(sizes))
    by_hand = SPLITS["batch"]("x")
    operator = jax.shard_map(
        forward, mesh=mesh, in_specs=by_hand, out_specs=P("x"), axis_names={"x"}
    )
    automatic = SPLITS[axis](tuple(name for name in sizes if name != "x"))
    both = [
        P(*hand, *rest[len(hand) :])
        for hand, rest in zip(by_hand, automatic, strict=True)
    ]
    inputs = put(INPUTS, both, mesh)
    out, found = run(operator, inputs)
    assert found == scene.reductions(int(axis == "camera"))
    scene.assert_forward(out)
    grads, found = run(lambda *x: pull_back(*x, operator=operator), inputs)
    assert found == scene.reductions(1)
    scene.assert_gradients(grads)


def test_lowering_without_devices():
    mesh = AbstractMesh((16,), ("x",))
    specs = (P(), P(), P(), P(None, "x"), P(None, "x"))
    shapes = [
        jax.ShapeDtypeStruct(
            (*x.shape[:1], 16, *x.shape[2:]) if spec != P() else x.shape,
            x.dtype,
            sharding=NamedSharding(mesh, spec),
        )
        for x, spec in zip(INPUTS, specs, strict=True)
    ]
    program = jax.shard_map(forward, mesh=mesh, in_specs=specs, out_specs=P(None, "x"))
    for platform in ("cpu", "tpu"):
        traced = jax.jit(program).trace(*shapes)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert "Partitioning" not in text
        if jda.implementations()["cpu"].available:
            assert ("@jda_cpu_forward" in text) == (platform == "cpu")
