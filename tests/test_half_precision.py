"""The promise: bfloat16 and float16 features, computed in float32.

Weights have their dtype, or float32, as people train. Whatever is returned is the
float32 result for the same numbers, rounded once.
"""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from tests.support import cases, oracle
from tests.support.cases import FLOATS
from tests.support.oracle import assert_rounded_once

DTYPES = (jnp.bfloat16, jnp.float16)
NAMES = (
    "rig clustered",
    "rig remarkable",
    "shared rows",
    "rows and columns",
    "no points",
    "odd channels",
    "page channels",
    "many groups",
    "5 channels a group",
    "24 channels a group",
    "warp",
    "65 points",
    "table",
    "table of odd channels",
)
FEW = ("rows and columns", "no points")  # the reference takes long to compile

half = pytest.mark.parametrize("dtype", DTYPES, ids=["bfloat16", "float16"])
weights = pytest.mark.parametrize(
    "weights", [None, np.float32], ids=["narrow weights", "float32 weights"]
)
native = pytest.mark.parametrize("implementation", ["cpu"], indirect=True)


@partial(jax.jit, static_argnums=(2, 3))
def value_and_gradients(inputs, cotangent, implementation, which=FLOATS):
    def call(*values):
        given = dict(zip(which, values, strict=True))
        arrays = [given.get(i, array) for i, array in enumerate(inputs)]
        return jda.deformable_aggregation(*arrays, implementation=implementation)

    out, pull = jax.vjp(call, *(inputs[i] for i in which))
    return out, pull(cotangent)


@half
@weights
@pytest.mark.parametrize(
    ("name", "implementation"),
    [(name, "cpu") for name in NAMES] + [(name, "reference") for name in FEW],
    indirect=["implementation"],
)
def test_zoo(name, dtype, weights, implementation):
    inputs, cotangent, judged = cases.half_case(name, dtype, weights)
    out, grads = value_and_gradients(inputs, cotangent, implementation)
    of_weight = weights or dtype
    dtypes = [array.dtype for array in (out, *grads)]
    assert dtypes == [dtype, dtype, "float32", of_weight]
    assert_rounded_once(out, judged.out, judged.out_scale)
    right, scale = judged.grads, judged.grad_scales
    assert_rounded_once(grads[0], right.feature_maps, scale.feature_maps)
    assert_rounded_once(grads[2], right.weight, scale.weight)
    settled = judged.settled
    oracle.assert_within(
        grads[1][settled],
        right.sample_locations[settled],
        scale.sample_locations[settled],
    )


@half
@native
def test_errors_are_those_of_the_reference(dtype, implementation):
    """Of the reference in the same precision, with a tenth to spare.

    Gradients of locations are float32 and have no such rounding.
    """
    inputs, cotangent, judged = cases.half_case("page channels", dtype)
    right = judged.out, judged.grads.feature_maps, judged.grads.weight
    errors = {}
    for name in (implementation, "reference"):
        out, (features, _, weight) = value_and_gradients(inputs, cotangent, name)
        pairs = zip((out, features, weight), right, strict=True)
        errors[name] = [np.abs(np.asarray(x, np.float64) - exact) for x, exact in pairs]
    for ours, reference in zip(*errors.values(), strict=True):
        assert ours.max() <= 1.1 * reference.max()
        assert ours.mean() <= 1.1 * reference.mean()


@half
@weights
@native
@pytest.mark.parametrize(
    "which", [which for n in (1, 2) for which in combinations(FLOATS, n)], ids=str
)
def test_any_subset_of_the_gradients(which, dtype, weights, implementation):
    inputs, cotangent, judged = cases.half_case("rig clustered", dtype, weights)
    _, grads = value_and_gradients(inputs, cotangent, implementation, which)
    for i, grad in zip(which, grads, strict=True):
        exact, scale = (
            judgement[FLOATS.index(i)]
            for judgement in (judged.grads, judged.grad_scales)
        )
        assert grad.dtype == inputs[i].dtype
        assert_rounded_once(grad, exact, scale)


@half
@weights
@native
def test_forward_mode(dtype, weights, implementation):
    inputs, _, _ = cases.half_case("rig clustered", dtype, weights)
    tangents, wide = cases.make_tangents(inputs), cases.widened(inputs)
    exact = oracle.tangent(wide, tangents)
    scale = oracle.tangent_scale(wide, tangents)

    def call(features, locations, weight):
        arrays = features, *inputs[1:3], locations, weight
        return jda.deformable_aggregation(
            *arrays, implementation=implementation, differentiation="both"
        )

    primals = tuple(inputs[i] for i in FLOATS)
    got = jax.jit(partial(jax.jvp, call))(primals, tuple(tangents))[1]
    assert got.dtype == dtype
    assert_rounded_once(got, exact, scale)


@half
@weights
@native
def test_vmap_over_queries_that_share_the_feature_maps(dtype, weights, implementation):
    inputs = cases.half_case("rig clustered", dtype, weights)[0]
    sets = [
        cases.narrowed(cases.make(cases.ZOO["rig clustered"], seed), dtype, weights)
        for seed in (1, 2, 3)
    ]
    locations, weight = (jnp.stack([one[i] for one in sets]) for i in (3, 4))

    @jax.grad
    def gradient(arrays):
        out = jda.deformable_aggregation(
            arrays[0], *inputs[1:3], *arrays[1:], implementation=implementation
        )
        return (out.astype(jnp.float32) ** 2).sum()

    mapped = jax.vmap(gradient, ((None, 0, 0),))
    got = jax.jit(mapped)((inputs.feature_maps, locations, weight))
    one = jax.jit(gradient)
    for i in range(len(sets)):
        each = one((inputs.feature_maps, locations[i], weight[i]))
        for batched, single in zip(got, each, strict=True):
            assert batched.dtype == single.dtype
            np.testing.assert_array_equal(batched[i], single)


@half
@native
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["rows of no map", "rig clustered"])
def test_what_does_not_count_does_not_matter(name, bad, dtype, implementation):
    clean = cases.case(name)
    poisoned = cases.narrowed(cases.poisoned(clean, bad), dtype)
    inputs = cases.narrowed(clean, dtype)
    cotangent = cases.make_cotangent(inputs)
    good, right = value_and_gradients(inputs, cotangent, implementation)
    out, grads = value_and_gradients(poisoned, cotangent, implementation)
    for got, expected in zip((out, *grads), (good, *right), strict=True):
        np.testing.assert_array_equal(got, expected)


def one_pixel(values, weights, dtype, implementation):
    """The sum of weights times a pixel's channels: one key point for each weight."""
    points = len(weights)
    return jda.deformable_aggregation(
        jnp.asarray(values, dtype).reshape(1, 1, -1),
        [[[1, 1]]],
        [[0]],
        jnp.full((1, 1, points, 1, 2), 0.5),
        jnp.asarray(weights, dtype).reshape(1, 1, points, 1, 1, 1),
        implementation=implementation,
    ).ravel()


@half
def test_ties_go_to_even_numbers(dtype, implementation):
    """Of n and n + 2, which are neighbours, n + 1 lies in the middle."""
    n = int(2 / jnp.finfo(dtype).eps)
    call = partial(one_pixel, [1.0, -1.0], dtype=dtype, implementation=implementation)
    np.testing.assert_array_equal(call([n, 1]), jnp.asarray([n, -n], dtype))
    more = jnp.asarray([n + 4, -n - 4], dtype)
    np.testing.assert_array_equal(call([n + 2, 1]), more)


@half
def test_sums_are_not_rounded_on_the_way(dtype, implementation):
    n = int(2 / jnp.finfo(dtype).eps)
    weights = [n] + 64 * [1]  # n + 1 would be rounded to n, again and again
    out = one_pixel([1.0], weights, dtype, implementation)
    np.testing.assert_array_equal(out, jnp.asarray([n + 64], dtype))


@half
def test_largest_numbers_and_infinity(dtype, implementation):
    largest = float(jnp.finfo(dtype).max)
    values = [largest, -largest, np.inf, -np.inf, np.nan]
    call = partial(one_pixel, values, dtype=dtype, implementation=implementation)
    np.testing.assert_array_equal(call([1.0]).astype(jnp.float32), values)
    beyond = [np.inf, -np.inf, np.inf, -np.inf, np.nan]
    np.testing.assert_array_equal(call([2.0]).astype(jnp.float32), beyond)


def test_float16_may_leave_its_range_on_the_way(implementation):
    values = jnp.asarray([65504, -65504], jnp.float16)
    out = one_pixel(values, [2.0, -1.0], jnp.float16, implementation)
    np.testing.assert_array_equal(out, values)


@native
def test_denormal_float16_numbers_are_exact(implementation):
    """All 2046 of them, though float32 arithmetic may flush its own to zero."""
    bits = np.arange(1024, dtype=np.uint16)
    values = np.concatenate([bits, bits | 0x8000]).view(np.float16)
    out = one_pixel(values, [1.0], jnp.float16, implementation)
    np.testing.assert_array_equal(out, values)
