"""The promise: the reference is the definition, and JAX differentiates it to any order.

Values and gradients over the whole zoo are tested with those of the other
implementations; here is what the reference promises alone.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jda
from jda import _reference, reference
from tests.support import cases, oracle
from tests.support.cases import FLOATS

define = reference.deformable_aggregation


@pytest.fixture(params=[1, 2**6, 2**9])
def _small_blocks(request, monkeypatch):
    """So small that points, anchors and batch are all cut, most unevenly."""
    monkeypatch.setattr(_reference, "BLOCK", request.param)
    jax.clear_caches()


BLOCKY = (
    "two cameras",
    "rig clustered",
    "65 points",
    "batch of five",
    "prime channels",
)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("name", BLOCKY)
def test_blocks_do_not_change_the_result(name):
    inputs, judged = cases.case(name), cases.judged_case(name)
    oracle.assert_within(define(*inputs), judged.out, judged.out_scale)

    def loss(*inputs):
        return jnp.vdot(define(*inputs), judged.cotangent)

    grads = jax.jit(jax.grad(loss, FLOATS))(*inputs)
    cases.assert_gradients_within(grads, judged)


@pytest.mark.parametrize("name", ["rig clustered", "300 points", "shared rows"])
def test_both_ways_to_the_gradient_agree(name, float64):
    inputs = cases.case(name, np.float64)
    bar = jnp.asarray(cases.make_cotangent(inputs))

    def pull_back(differentiation):
        function = partial(define, differentiation=differentiation)
        return jax.jit(lambda *x: jax.vjp(function, *x)[1](bar))(*inputs)

    by_hand, by_jax = pull_back("reverse"), pull_back("both")
    for i in FLOATS:
        np.testing.assert_allclose(by_hand[i], by_jax[i], rtol=1e-9, atol=1e-12)


SMOOTH = cases.Shape(cases.ONE, anchors=2, points=2, channels=2, locate=cases.smooth)


@pytest.mark.parametrize(
    ("differentiation", "modes"), [("reverse", ["rev"]), ("both", ["fwd", "rev"])]
)
def test_derivatives_of_any_order(differentiation, modes, float64):
    features, shapes, starts, locations, weight = cases.make(SMOOTH, 0, np.float64)

    def function(features, locations, weight):
        return define(
            features,
            shapes,
            starts,
            locations,
            weight,
            differentiation=differentiation,
        )

    values = tuple(map(jnp.asarray, (features, locations, weight)))
    function = jax.jit(function)
    check_grads(function, values, order=2, modes=modes, eps=1e-5, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("differentiation", ["reverse", "both"])
def test_locations_that_are_no_numbers(bad, differentiation, float64):
    inputs = cases.case("two cameras", np.float64)
    locations = inputs.sample_locations.copy()
    locations[:, ::2, :, :, 0] = bad
    inputs = inputs._replace(sample_locations=locations)
    judged = cases.judge(inputs)

    def loss(*inputs):
        result = define(*inputs, differentiation=differentiation)
        return jnp.vdot(result, judged.cotangent)

    cases.assert_gradients_within(jax.jit(jax.grad(loss, FLOATS))(*inputs), judged)
    second = jax.grad(lambda x: jax.grad(loss, 3)(*inputs[:3], x, inputs[4]).sum())
    assert np.isfinite(jax.jit(second)(locations)).all()


def memory(function, *arrays):
    analysis = jax.jit(function).lower(*arrays).compile().memory_analysis()
    return analysis.temp_size_in_bytes


def zeros(anchors, points):
    shape = cases.Shape(
        (((16, 16),),), anchors=anchors, points=points, channels=64, groups=4
    )
    return cases.make(shape)


@pytest.mark.parametrize("differentiation", ["reverse", "both"])
def test_memory_is_bounded_for_many_anchors_and_points(differentiation):
    """What the forward pass needs at a time, beside padded copies of its arguments."""
    function = partial(define, differentiation=differentiation)
    block = 8 * 4 * _reference.BLOCK
    for anchors, points in ((1, 8192), (2048, 16), (33, 1111)):
        inputs = zeros(anchors, points)
        copies = 2 * (inputs.sample_locations.nbytes + inputs.weight.nbytes)
        assert memory(function, *inputs) < block + copies

        def loss(*inputs):
            return jnp.square(function(*inputs)).sum()

        if differentiation == "reverse":
            used = memory(jax.grad(loss, FLOATS), *inputs)
            assert used < 2 * block + 3 * copies


SPARSE4D = ((64, 176), (32, 88), (16, 44), (8, 22)), 6, 900, 13, 256, 8


def sparse4d_arguments():
    """Shapes and dtypes of one frame of Sparse4D v3."""
    maps, cameras, anchors, points, channels, groups = SPARSE4D
    rows = cameras * sum(height * width for height, width in maps)
    samples, indices = (1, anchors, points, cameras), (cameras, len(maps))
    float32, int32 = jnp.float32, jnp.int32
    return [
        jax.ShapeDtypeStruct((1, rows, channels), float32),
        jax.ShapeDtypeStruct((*indices, 2), int32),
        jax.ShapeDtypeStruct(indices, int32),
        jax.ShapeDtypeStruct((*samples, 2), float32),
        jax.ShapeDtypeStruct((*samples, len(maps), groups), float32),
    ]


def of_platform(function, *platforms):
    return (
        jax.jit(function)
        .trace(*sparse4d_arguments())
        .lower(lowering_platforms=platforms)
    )


def steps(program):
    """How often each loop of a program runs."""
    bound = r"stablehlo.while.*?stablehlo.constant dense<(\d+)> : tensor<i32>"
    return [int(found) for found in re.findall(bound, program.as_text(), re.DOTALL)]


def all_gradients(*inputs):
    return jax.grad(lambda *x: jnp.square(define(*x)).sum(), FLOATS)(*inputs)


@pytest.mark.parametrize("function", [define, all_gradients])
def test_few_steps_on_accelerators(function):
    """Starting a step costs them time; a CPU wants what it gathers in its cache."""
    for platform in ("cuda", "rocm", "tpu"):
        found = steps(of_platform(function, platform))
        assert found
        assert max(found) <= 8
    assert max(steps(of_platform(function, "cpu"))) > 100


def test_programs_for_two_platforms_have_the_blocks_of_both():
    assert max(steps(of_platform(define, "cuda", "tpu"))) <= 8
    found = steps(of_platform(define, "cpu", "cuda"))
    assert min(found) <= 8
    assert max(found) > 100


@pytest.mark.parametrize("function", [define, all_gradients])
def test_memory_of_large_blocks(function, monkeypatch):
    """By the compiler for this machine, which may keep more than an accelerator's."""
    monkeypatch.setattr(_reference, "BLOCK", _reference.BLOCK_ON_ACCELERATORS)
    jax.clear_caches()
    assert memory(function, *sparse4d_arguments()) <= 512 * 2**20


def test_signature_is_the_operator_less_implementation():
    import inspect

    ours = inspect.signature(define).parameters
    operator = inspect.signature(jda.deformable_aggregation).parameters
    assert list(ours) == [name for name in operator if name != "implementation"]
    for name, parameter in ours.items():
        assert parameter.default == operator[name].default
