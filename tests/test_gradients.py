"""The promise: gradients as the definition says, of just what is asked for."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.support import cases, oracle

FLOATS = {"feature_maps": 0, "sample_locations": 3, "weight": 4}


def loss(aggregate, cotangent, order="yx"):
    """<aggregate(...), cotangent>, whose gradient is the cotangent's pull-back."""
    return lambda *inputs: jnp.vdot(aggregate(*inputs, order=order), cotangent)


def gradient(aggregate, cotangent, argnums=(0, 3, 4), order="yx"):
    return jax.jit(jax.grad(loss(aggregate, cotangent, order), argnums))


@pytest.mark.parametrize("name", cases.ZOO)
def test_zoo(name, aggregate):
    inputs, judged = cases.case(name), cases.judged_case(name)
    grads = gradient(aggregate, judged.cotangent)(*inputs)
    cases.assert_gradients_within(grads, judged)


@pytest.mark.parametrize("name", cases.BOTH_ORDERS)
def test_other_order(name, aggregate):
    """Gradients of locations come back in the order of the locations."""
    inputs, judged = cases.swap_order(cases.case(name)), cases.judged_case(name)
    pull = gradient(aggregate, judged.cotangent, order="xy")
    features, locations, weight = pull(*inputs)
    cases.assert_gradients_within((features, locations[..., ::-1], weight), judged)


@pytest.mark.parametrize("name", cases.ZOO)
def test_zoo_in_float64(name, aggregate, float64):
    inputs = cases.case(name, np.float64)
    judged = cases.judged_case(name, np.float64)
    grads = gradient(aggregate, judged.cotangent)(*inputs)
    assert all(grad.dtype == np.float64 for grad in grads)
    cases.assert_gradients_within(grads, judged)


SUBSETS = [wanted for size in (1, 2) for wanted in combinations(FLOATS, size)]


@pytest.mark.parametrize("wanted", SUBSETS, ids="+".join)
@pytest.mark.parametrize(
    "name", ["rig clustered", "300 points", "batch of five", "shared rows"]
)
def test_any_subset_equals_the_full_set(name, wanted, aggregate):
    inputs, judged = cases.case(name), cases.judged_case(name)
    argnums = tuple(FLOATS[argument] for argument in wanted)
    grads = gradient(aggregate, judged.cotangent, argnums)(*inputs)
    full = dict(zip(judged.grads._fields, judged.grads, strict=True))
    assert judged.settled.all()
    for argument, grad in zip(wanted, grads, strict=True):
        scale = getattr(judged.grad_scales, argument)
        oracle.assert_within(grad, full[argument], scale)


@pytest.mark.parametrize("wrap", [lambda call: call, jax.jit], ids=["call", "jit"])
def test_one_request_does_not_change_the_next(wrap, aggregate):
    """JAX keeps traces of a function; what one asked for must not stick to it."""
    inputs, judged = cases.case("batch of five"), cases.judged_case("batch of five")
    program = wrap(aggregate)
    right = dict(zip((0, 3, 4), judged.grads, strict=True))
    scales = dict(zip((0, 3, 4), judged.grad_scales, strict=True))
    for argnums in [(0, 3, 4), (3, 4), (0, 3, 4), (0,), (4,), (0, 3, 4), (0,), (3, 4)]:
        value, pull = jax.vjp(
            lambda *chosen, argnums=argnums: program(
                *(
                    chosen[argnums.index(i)] if i in argnums else array
                    for i, array in enumerate(inputs)
                )
            ),
            *(inputs[i] for i in argnums),
        )
        oracle.assert_within(value, judged.out, judged.out_scale)
        for i, grad in zip(argnums, pull(judged.cotangent), strict=True):
            oracle.assert_within(grad, right[i], scales[i])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", cases.POISONABLE)
def test_what_no_sample_uses_cannot_hurt(name, bad, aggregate):
    judged = cases.judged_case(name)
    inputs = cases.poisoned(cases.case(name), bad)
    grads = gradient(aggregate, judged.cotangent)(*inputs)
    cases.assert_gradients_within(grads, judged)


def test_a_bad_cotangent_spoils_only_the_rows_that_its_anchor_samples(aggregate):
    inputs = cases.case("table")
    cotangent = cases.make_cotangent(inputs)
    first = np.arange(cotangent.shape[1])[:, None] == 0
    alone = cases.judge(inputs, cotangent=np.where(first, cotangent, 0))
    others = cases.judge(inputs, cotangent=np.where(first, 0, cotangent))
    reached = alone.grads.feature_maps.any(axis=-1)
    assert reached.any() and not reached.all()
    bad = np.where(first, np.float32(np.nan), cotangent)
    got = np.asarray(gradient(aggregate, bad)(*inputs)[0])
    assert np.isnan(got[reached]).all()
    right, scale = others.grads.feature_maps, others.grad_scales.feature_maps
    oracle.assert_within(got[~reached], right[~reached], scale[~reached])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_locations_that_are_no_numbers_get_zero(bad, aggregate):
    inputs = cases.case("rig clustered")
    locations = inputs.sample_locations.copy()
    locations[:, ::2, :, :, 0] = bad
    locations[:, ::3, :, :, 1] = bad
    inputs = inputs._replace(sample_locations=locations)
    judged = cases.judge(inputs)
    grads = gradient(aggregate, judged.cotangent)(*inputs)
    cases.assert_gradients_within(grads, judged)
    assert not grads[1][:, ::2].any() and not grads[1][:, ::3].any()
    assert not grads[2][:, ::2].any() and not grads[2][:, ::3].any()


def test_a_bad_cotangent_stays_with_its_anchor(aggregate):
    inputs, judged = cases.case("rig clustered"), cases.judged_case("rig clustered")
    cotangent = judged.cotangent.copy()
    cotangent[:, 0] = np.nan
    pull = gradient(aggregate, cotangent, (3, 4))
    for grad, right, scale in zip(
        pull(*inputs), judged.grads[1:], judged.grad_scales[1:], strict=True
    ):
        oracle.assert_within(grad[:, 1:], right[:, 1:], scale[:, 1:])


def test_rows_of_no_map_get_exact_zero(aggregate):
    inputs = cases.case("rows of no map")
    cotangent = cases.make_cotangent(inputs)
    grad = np.asarray(gradient(aggregate, cotangent, 0)(*inputs))
    covered = np.zeros(grad.shape[1], bool)
    for (height, width), start in zip(
        inputs.spatial_shape.reshape(-1, 2),
        inputs.scale_start_index.ravel(),
        strict=True,
    ):
        covered[start : start + height * width] = True
    assert not covered.all()
    assert not grad[:, ~covered].any()
    assert not np.signbit(grad[:, ~covered]).any()


SMOOTH = {
    "two cameras": cases.Shape(cases.TWO_CAMERAS, anchors=2, locate=cases.smooth),
    "one row of pixels": cases.Shape((((1, 9),),), anchors=3, locate=cases.smooth),
    "shared rows": cases.Shape(
        cases.TWO_CAMERAS, layout="shared", anchors=2, locate=cases.smooth
    ),
    "odd channels": cases.Shape(
        cases.TWO_CAMERAS, channels=9, groups=3, batch=2, anchors=2, locate=cases.smooth
    ),
    "70 points": cases.Shape(cases.ONE, points=70, anchors=1, locate=cases.smooth),
}


@pytest.mark.parametrize(
    ("name", "order"),
    [*((name, 1) for name in SMOOTH), ("two cameras", 2), ("odd channels", 2)],
)
def test_against_differences(name, order, aggregate, float64):
    inputs = cases.make(SMOOTH[name], 7, np.float64)
    check_grads(
        lambda f, at, w: aggregate(f, *inputs[1:3], at, w),
        (inputs[0], *inputs[3:]),
        order=order,
        modes=["rev"],
        eps=1e-6,
        atol=10.0**order * 1e-7,
        rtol=10.0**order * 1e-7,
    )


def test_integer_arguments_have_no_gradient(aggregate):
    inputs = cases.case("two cameras")
    with pytest.raises(TypeError, match="int32"):
        jax.grad(lambda *args: aggregate(*args).sum(), 1)(*inputs)


def test_gradient_accumulates_over_shared_rows(aggregate):
    """Two maps on the same rows: the gradient is the sum of both, not the last."""
    features = np.ones((1, 4, 2), np.float32)
    shape, start = np.int32([[[2, 2]], [[2, 2]]]), np.int32([[0], [0]])
    locations = np.full((1, 1, 1, 2, 2), 0.5, np.float32)
    weight = np.float32([1, 10]).reshape(1, 1, 1, 2, 1, 1)
    grad = jax.grad(lambda f: aggregate(f, shape, start, locations, weight).sum())
    np.testing.assert_array_equal(
        grad(features), np.full_like(features, 11 / 4), strict=True
    )
