"""The promise: which maps are legal depends on their values, not on how they are given.

The table of docs/transformations.md, on every route with equal inputs. The Ascend
route from the host runs on the emulated driver; what a card's platform would run are
the kernels alone, which tests/test_ascend_kernels.py tests with the same inputs.
"""

import ctypes
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from jda._dimensions import FLOATING
from tests.support import cases, oracle
from tests.support.cases import FLOATS
from tests.support.implementations import require, require_module

GOOD = cases.case("two cameras")
LEGAL = ("rows of no map", "shared rows", "two cameras")
COMPLAINT = (
    r"(spatial_shape|scale_start_index)\[\d, \d\] is .*"
    r"(must be positive|must not be negative|ends at row -?\d+, but .* num_feat=\d+)"
)
# jax raises the first when a program runs for the first time, the second from then on.
REFUSED_WHEN_RUN = (jax.errors.JaxRuntimeError, ValueError)


@pytest.fixture(scope="module", params=["reference", "cpu", "ascend"])
def route(request):
    return require(request.param)


@pytest.fixture
def call(route):
    return partial(jda.deformable_aggregation, implementation=route)


def gradients(call, inputs, bar):
    def pull_back(*inputs):
        primals = floats(inputs)
        return jax.vjp(lambda f, x, w: call(f, *inputs[1:3], x, w), *primals)[1](bar)

    return jax.jit(pull_back)(*inputs)


def floats(inputs):
    return [inputs[i] for i in FLOATS]


# How index arrays come that have values.


@jax.jit
def late(array):
    """The same values, some tenths of a second after the call returns."""
    work = jax.lax.fori_loop(0, 20, lambda _, x: jnp.tanh(x @ x), jnp.ones((600, 600)))
    return array + (work.min() > 2).astype(array.dtype)


def still_computing(call, inputs):
    return call(inputs[0], *map(late, inputs[1:3]), *inputs[3:])


def committed(call, inputs):
    index = jax.device_put(inputs[1:3], jax.devices()[0])
    return call(inputs[0], *index, *inputs[3:])


def closed_over(call, inputs):
    program = jax.jit(lambda f, x, w: call(f, *inputs[1:3], x, w))
    return program(*floats(inputs))


def arrays_of_jax_closed_over(call, inputs):
    index = list(map(jnp.asarray, inputs[1:3]))
    return jax.jit(lambda f, x, w: call(f, *index, x, w))(*floats(inputs))


KNOWN = {
    "numpy": lambda call, inputs: call(*inputs),
    "lists": lambda call, inputs: call(
        inputs[0], *(array.tolist() for array in inputs[1:3]), *inputs[3:]
    ),
    "arrays of jax": lambda call, inputs: call(*map(jnp.asarray, inputs)),
    "committed": committed,
    "still being computed": still_computing,
    "closed over": closed_over,
    "arrays of jax, closed over": arrays_of_jax_closed_over,
}
EVERY = KNOWN | {"traced": lambda call, inputs: jax.jit(call)(*inputs)}


@pytest.mark.parametrize("way", EVERY)
@pytest.mark.parametrize("name", LEGAL)
def test_legal_maps(name, way, call):
    inputs, judged = cases.case(name), cases.judged_case(name)
    out = EVERY[way](call, inputs)
    oracle.assert_within(out, judged.out, judged.out_scale)


@pytest.mark.parametrize("way", KNOWN)
@pytest.mark.parametrize("kind", cases.BAD_MAPS)
def test_known_maps_that_are_not_within_the_rows(kind, way, call):
    inputs, _ = cases.bad_maps(kind)
    with pytest.raises(ValueError, match="^" + COMPLAINT):
        KNOWN[way](call, inputs)


@pytest.mark.parametrize("kind", cases.BAD_MAPS)
def test_traced_maps_that_are_not_within_the_rows(kind, call, route):
    inputs, judged = cases.bad_maps(kind)
    if route == "reference":  # which cannot fail
        out = jax.jit(call)(*inputs)
        oracle.assert_within(out, judged.out, judged.out_scale)
        for differentiation in ("reverse", "both"):
            one = partial(call, differentiation=differentiation)
            grads = gradients(one, inputs, judged.cotangent)
            cases.assert_gradients_within(grads, judged)
        return
    program = jax.jit(call)
    before = np.asarray(program(*GOOD))
    with pytest.raises(REFUSED_WHEN_RUN, match=COMPLAINT):
        jax.block_until_ready(program(*inputs))
    with pytest.raises(REFUSED_WHEN_RUN, match=COMPLAINT):
        jax.block_until_ready(gradients(call, inputs, judged.cotangent))
    np.testing.assert_array_equal(program(*GOOD), before)


def test_known_maps_are_refused_where_a_program_is_lowered_for_a_card():
    inputs, _ = cases.bad_maps("one pixel too many")
    call = partial(jda.deformable_aggregation, implementation="ascend")

    def lower(function, *arrays):
        traced = jax.jit(function).trace(*map(jnp.asarray, arrays))
        return traced.lower(lowering_platforms=("ascend",)).as_text()

    with pytest.raises(ValueError, match="^" + COMPLAINT):
        lower(lambda f, x, w: call(f, *inputs[1:3], x, w), *floats(inputs))
    assert "jda_ascend_forward" in lower(call, *inputs)


def test_bad_maps_that_no_sample_uses_are_refused_too(call, route):
    inputs = cases.case("all invisible")
    bad = inputs._replace(scale_start_index=inputs.scale_start_index + 1000)
    with pytest.raises(ValueError, match=r"ends at row \d+"):
        call(*bad)
    if route == "reference":
        assert not np.asarray(jax.jit(call)(*bad)).any()
        return
    with pytest.raises(REFUSED_WHEN_RUN, match=COMPLAINT):
        jax.block_until_ready(jax.jit(call)(*bad))


WIDE = {
    "wraps upwards": (np.int64, 2**32),
    "wraps downwards": (np.int64, -(2**32)),
    "no sign, 32 bits": (np.uint32, 2**31),
    "no sign, 64 bits": (np.uint64, 2**32),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("wide", WIDE)
def test_values_beyond_int32_do_not_wrap(wide, traced, call, route):
    """Each would wrap into a map that there is, or into a negative number."""
    dtype, offset = WIDE[wide]
    start = GOOD.scale_start_index.astype(np.int64)
    start[1, 0] += offset
    bad = GOOD._replace(scale_start_index=start.astype(dtype))
    if not traced:
        with pytest.raises(ValueError, match=r"^scale_start_index\[1, 0\] is -?\d+"):
            call(*bad)
    elif route == "reference":
        judged = cases.judge_without(GOOD, camera=1, scale=0)
        oracle.assert_within(jax.jit(call)(*bad), judged.out, judged.out_scale)
    else:
        with pytest.raises(REFUSED_WHEN_RUN, match=COMPLAINT):
            jax.block_until_ready(jax.jit(call)(*bad))


def test_the_reference_called_by_its_name_does_not_wrap_either(float64):
    """It once had an entry of its own, which did."""
    start = GOOD.scale_start_index.astype(np.int64)
    start[1, 0] += 2**32
    bad = GOOD._replace(scale_start_index=start)
    judged = cases.judge_without(GOOD, camera=1, scale=0)
    out = jax.jit(jda.reference.deformable_aggregation)(*bad)
    oracle.assert_within(out, judged.out, judged.out_scale)


@pytest.mark.parametrize(
    ("start", "right"), [(7, 7), (2**32, 2**31 - 1), (-(2**32), -1)]
)
def test_values_beyond_int32_from_torch_to_a_card(start, right, monkeypatch):
    """The kernels get what no map may have, as none of these is read before."""
    pytest.importorskip("torch")  # which the oldest JAX is tested without
    torch, jda_torch = map(require_module, ("torch", "jda.torch"))
    npu = SimpleNamespace(
        device=lambda device: nullcontext(),
        current_stream=lambda device: SimpleNamespace(npu_stream=None),
    )
    got = []

    def enqueue(operation, problem, pointers, stream):
        pointer = pointers["scale_start_index"]
        got.append(ctypes.c_int32.from_address(pointer).value)

    monkeypatch.setattr(torch, "npu", npu, raising=False)
    monkeypatch.setattr(jda_torch.c_api, "enqueue", enqueue)
    inputs = {name: torch.tensor(x) for name, x in GOOD._asdict().items()}
    inputs |= {name: inputs[name].float() for name in FLOATING}
    inputs["scale_start_index"] = torch.full((2, 1), start)
    jda_torch._run_on_npu("forward", inputs, {"out": torch.zeros(1)}, "yx")
    assert got == [right]
