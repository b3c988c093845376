"""What must hold of the Ascend kernels called from JAX, on a card or its emulation."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from tests.support import cases, oracle
from tests.support.cases import FLOATS, Inputs

FOUR = ("value", "grad feature_maps", "grad sample_locations", "grad weight")
Results = tuple[np.ndarray, Sequence[np.ndarray]]  # of the operator, its gradients


def program(
    order: str = "yx", wanted: Sequence[int] = FLOATS, implementation: str = "ascend"
) -> Callable[..., Results]:
    """(inputs, cotangent) -> (value, the wanted gradients), compiled."""
    aggregate = partial(
        jda.deformable_aggregation,
        coordinate_order=order,
        implementation=implementation,
    )

    def both(inputs: Sequence[jax.Array], cotangent: jax.Array) -> Results:
        def of_wanted(*values: jax.Array) -> jax.Array:
            arrays = list(inputs)
            for i, value in zip(wanted, values, strict=True):
                arrays[i] = value
            return aggregate(*arrays)

        out, pull = jax.vjp(of_wanted, *[inputs[i] for i in wanted])
        return out, pull(cotangent)

    return jax.jit(both)


def value_and_gradients(
    inputs: Inputs, cotangent: np.ndarray, order: str = "yx"
) -> Results:
    return jax.device_get(program(order)(tuple(inputs), cotangent))


def check_zoo(name: str) -> None:
    """Value and gradients of a shape are what the oracle says."""
    judged = cases.judged_case(name)
    out, grads = value_and_gradients(cases.case(name), judged.cotangent)
    oracle.assert_within(out, judged.out, judged.out_scale)
    cases.assert_gradients_within(grads, judged)


def check_16_bits(name: str, dtype: type) -> None:
    """Feature maps and weights of 16 bits: sums in float32, rounded once."""
    inputs, cotangent, judged = cases.half_case(name, dtype)
    assert_rounded_once(value_and_gradients(inputs, cotangent), judged)


def assert_rounded_once(results: Results, judged: cases.Judgement) -> None:
    out, grads = results
    assert out.dtype.itemsize == grads[0].dtype.itemsize == 2
    oracle.assert_rounded_once(out, judged.out, judged.out_scale)
    cases.assert_gradients_within(grads, judged)


def check_other_order(name: str) -> None:
    """The same with x before y, in the locations and in their gradient."""
    judged, inputs = cases.judged_case(name), cases.swap_order(cases.case(name))
    out, grads = value_and_gradients(inputs, judged.cotangent, "xy")
    oracle.assert_within(out, judged.out, judged.out_scale)
    grads = [grads[0], grads[1][..., ::-1], grads[2]]
    cases.assert_gradients_within(grads, judged)


def check_threads() -> None:
    """Calls from several threads at once do not disturb each other."""
    names = ("two cameras", "rig clustered", "one map", "wide groups")
    call = program()

    def check(name: str) -> None:
        judged = cases.judged_case(name)
        out, grads = jax.device_get(call(tuple(cases.case(name)), judged.cotangent))
        oracle.assert_within(out, judged.out, judged.out_scale)
        cases.assert_gradients_within(grads, judged)

    for name in names:
        check(name)  # compiles, and is right alone
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(check, name) for name in names * 3]:
            done.result()


def check_training(
    steps: int, after_step: Callable[[int], None] = lambda _: None
) -> None:
    """Gradient descent learns weights that a target was made of."""
    inputs = cases.case("rig clustered")
    aggregate = partial(
        jda.deformable_aggregation, *inputs[:4], implementation="ascend"
    )
    target = cases.judged_case("rig clustered").out.astype(np.float32)

    @jax.jit
    def step(weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        def loss(weight: jax.Array) -> jax.Array:
            return jnp.square(aggregate(weight) - target).mean()

        value, grad = jax.value_and_grad(loss)(weight)
        return value, weight - 0.5 * grad

    weight, losses = jnp.zeros_like(inputs.weight), []
    for i in range(steps):
        value, weight = step(weight)
        losses.append(float(value))
        after_step(i)
    assert losses[-1] < 0.5 * losses[0], losses
    assert all(later < sooner for sooner, later in pairwise(losses)), losses


def check_determinism(
    monkeypatch: pytest.MonkeyPatch, before_run: Callable[[int], None] = lambda _: None
) -> None:
    """With JDA_ASCEND_DETERMINISTIC=1 all is bitwise equal from run to run.

    Without it, all but the gradient of the feature maps is.
    """
    judged, inputs = cases.judged_case("rig clustered"), cases.case("rig clustered")
    for value in ("0", "1"):
        monkeypatch.setenv("JDA_ASCEND_DETERMINISTIC", value)
        call, runs = program(), []
        for i in range(4):
            before_run(i)
            out, grads = jax.device_get(call(tuple(inputs), judged.cotangent))
            oracle.assert_within(out, judged.out, judged.out_scale)
            cases.assert_gradients_within(grads, judged)
            runs.append((out, *grads[1:], *(grads[:1] if value == "1" else ())))
        for run in runs[1:]:
            jax.tree.map(np.testing.assert_array_equal, run, runs[0])


# Comparison with another implementation of the operator on the same card.


def errors(results: Results, judged: cases.Judgement) -> dict[str, float]:
    """The largest error of each array, as a part of what its precision allows."""
    out, (features, locations, weight) = results
    right, scale, one_value = judged.grads, judged.grad_scales, judged.settled
    found = (
        _error(out, judged.out, judged.out_scale),
        _error(features, right.feature_maps, scale.feature_maps),
        _error(
            np.asarray(locations)[one_value],
            right.sample_locations[one_value],
            scale.sample_locations[one_value],
        ),
        _error(weight, right.weight, scale.weight),
    )
    return dict(zip(FOUR, found, strict=True))


def _error(got: np.ndarray, exact: np.ndarray, scale: np.ndarray) -> float:
    got = np.asarray(got)
    assert got.shape == exact.shape, (got.shape, exact.shape)
    allowed = 4 * float(np.finfo(np.float32).eps) * scale
    error = np.abs(got.astype(np.float64) - exact)
    # Nothing is allowed where nothing contributes, and NaN never is.
    part = np.divide(error, allowed, where=allowed > 0, out=np.full_like(error, np.inf))
    part[(allowed <= 0) & (error == 0)] = 0
    return float(np.where(np.isnan(part), np.inf, part).max(initial=0))


def disagreement(ours: Results, theirs: Results) -> dict[str, float]:
    """How far apart all but a thousandth of the elements are, in units of their RMS.

    For problems that are too large for the oracle. Some gradients of locations may
    differ by much: those of samples on a border between pixels.
    """
    arrays = zip(FOUR, (ours[0], *ours[1]), (theirs[0], *theirs[1]), strict=True)
    return {name: _apart(np.asarray(a), np.asarray(b)) for name, a, b in arrays}


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    size = float(np.sqrt(np.square(theirs, dtype=np.float64).mean()))
    return float(np.quantile(np.abs(ours - theirs), 0.999)) / size


def milliseconds(*calls: Callable[[], object], repeats: int = 20) -> list[float]:
    """Medians, of calls that take turns."""
    for call in calls:
        call()
    taken = np.zeros((repeats, len(calls)))
    for turn in taken:
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            turn[i] = time.perf_counter() - start
    return [1e3 * float(t) for t in np.median(taken, axis=0)]
