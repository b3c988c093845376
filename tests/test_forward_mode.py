"""The promise: tangents as the definition says, from a kernel of their own on CPU.

How forward mode meets JAX's other transformations is in test_transformations.py.
"""

from functools import partial

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

import jda
from tests.support import cases, oracle
from tests.support.cases import FLOATS
from tests.support.implementations import require

native = pytest.mark.parametrize("implementation", ["cpu"], indirect=True)
NAMES = (
    "two cameras",
    "rig clustered",
    "rig remarkable",
    "one pixel everywhere",
    "rows and columns",
    "shared rows",
    "all invisible",
    "no points",
    "odd channels",
    "page channels",
    "65 points",
    "300 points and a batch",
)


def of_floats(inputs, implementation, order="yx", which=FLOATS):
    """The operator as a function of the arguments `which`."""

    def call(*values):
        given = dict(zip(which, values, strict=True))
        arrays = [given.get(i, array) for i, array in enumerate(inputs)]
        return jda.deformable_aggregation(
            *arrays,
            coordinate_order=order,
            implementation=implementation,
            differentiation="both",
        )

    return call


@partial(jax.jit, static_argnums=(2, 3))
def tangent(inputs, tangents, implementation, order="yx"):
    call = of_floats(inputs, implementation, order)
    primals = tuple(inputs[i] for i in FLOATS)
    return jax.jvp(call, primals, tuple(tangents))[1]


def assert_right(got, inputs, tangents):
    """Where locations have one right derivative."""
    eps = float(np.finfo(inputs.feature_maps.dtype).eps)
    exact = oracle.tangent(inputs, tangents)
    scale = oracle.tangent_scale(inputs, tangents, eps=eps)
    one_value = oracle.settled_locations(inputs.spatial_shape, inputs.sample_locations)
    anchors = one_value.all(axis=(2, 3))
    got = np.asarray(got)
    assert got.shape == exact.shape and np.isfinite(got).all()
    oracle.assert_within(got[anchors], exact[anchors], scale[anchors])


@native
@pytest.mark.parametrize("name", NAMES)
def test_zoo(name, implementation):
    inputs = cases.case(name)
    tangents = cases.make_tangents(inputs)
    assert_right(tangent(inputs, tangents, implementation), inputs, tangents)


@pytest.mark.parametrize("name", ["rig clustered", "odd channels", "65 points"])
def test_zoo_in_float64(name, implementation, float64):
    inputs = cases.case(name, np.float64)
    tangents = cases.make_tangents(inputs)
    assert_right(tangent(inputs, tangents, implementation), inputs, tangents)


def test_other_order(implementation):
    inputs = cases.case("rig clustered")
    tangents = cases.make_tangents(inputs)
    swapped = tangents._replace(
        sample_locations=tangents.sample_locations[..., ::-1].copy()
    )
    got = tangent(cases.swap_order(inputs), swapped, implementation, "xy")
    assert_right(got, inputs, tangents)


@native
def test_against_finite_differences(implementation, float64):
    shape = cases.Shape(cases.TWO_CAMERAS, anchors=3, channels=6, locate=cases.smooth)
    inputs = cases.make(shape, 5, np.float64)
    values = [inputs[i] for i in FLOATS]
    check_grads(of_floats(inputs, implementation), values, order=1, modes=["fwd"])


@native
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", cases.POISONABLE)
def test_what_does_not_count_does_not_matter(name, bad, implementation):
    """Neither there nor in the tangents."""
    inputs = cases.case(name)
    poisoned = cases.poisoned(inputs, bad)
    tangents = cases.make_tangents(inputs)
    same = [poisoned[i] == inputs[i] for i in (0, 4)]
    visible = ((inputs.sample_locations > 0) & (inputs.sample_locations < 1)).all(-1)
    spoilt = oracle.Gradients(
        np.where(same[0], tangents.feature_maps, np.float32(bad)),
        np.where(visible[..., None], tangents.sample_locations, np.float32(bad)),
        np.where(same[1], tangents.weight, np.float32(bad)),
    )
    np.testing.assert_array_equal(
        tangent(poisoned, spoilt, implementation),
        tangent(inputs, tangents, implementation),
    )


@pytest.mark.parametrize("which", [(0,), (3,), (0, 4)])
def test_a_zero_tangent_is_an_empty_array_for_the_kernel(which):
    """It is neither made nor read."""
    inputs = cases.case("two cameras")
    call = of_floats(inputs, require("cpu"), which=which)
    primals = tuple(inputs[i] for i in which)
    traced = jax.jit(partial(jax.jvp, call)).trace(primals, primals)
    program = traced.lower(lowering_platforms=("cpu",)).as_text()
    (kernel,) = [line for line in program.splitlines() if "jda_cpu_tangent" in line]
    operands = kernel.partition(" : (")[2].partition(") ->")[0].split(", ")
    tangents = operands[5:8]
    empty = [tangent == "tensor<0xf32>" for tangent in tangents]
    assert empty == [i not in which for i in FLOATS]
