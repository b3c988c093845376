"""The promise: values as the definition says, on every shape and in every call."""

import ctypes
import os
import subprocess
import sys
from functools import partial
from importlib import resources
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jda
from tests.support import cases, oracle
from tests.support.implementations import ROOT


@pytest.mark.parametrize("name", cases.ZOO)
def test_zoo(name, aggregate):
    inputs, judged = cases.case(name), cases.judged_case(name)
    out = jax.jit(aggregate)(*inputs)
    assert out.dtype == np.float32
    oracle.assert_within(out, judged.out, judged.out_scale)


@pytest.mark.parametrize("name", cases.BOTH_ORDERS)
def test_other_order(name, aggregate):
    inputs, judged = cases.swap_order(cases.case(name)), cases.judged_case(name)
    out = jax.jit(partial(aggregate, order="xy"))(*inputs)
    oracle.assert_within(out, judged.out, judged.out_scale)


@pytest.mark.parametrize("name", cases.ZOO)
def test_zoo_in_float64(name, aggregate, float64):
    inputs = cases.case(name, np.float64)
    judged = cases.judged_case(name, np.float64)
    out = jax.jit(aggregate)(*inputs)
    assert out.dtype == np.float64
    oracle.assert_within(out, judged.out, judged.out_scale)


def test_default_order_is_y_then_x(implementation):
    inputs = cases.case("rig")
    default = jda.deformable_aggregation(*inputs, implementation=implementation)
    judged = cases.judged_case("rig")
    oracle.assert_within(default, judged.out, judged.out_scale)
    swapped = oracle.forward(inputs, "xy")
    assert np.abs(default - swapped).max() > 0.1, "the two orders must differ here"


def test_default_implementation():
    inputs, judged = cases.case("rig"), cases.judged_case("rig")
    out = jda.deformable_aggregation(*inputs)
    oracle.assert_within(out, judged.out, judged.out_scale)


@pytest.mark.parametrize(
    ("location", "pixel"),
    [(0.5 / 4, 0), (1.5 / 4, 1), (3.5 / 4, 3), (1 / 4, 0.5), (3 / 4, 2.5)],
)
def test_known_values_on_a_ramp(location, pixel, aggregate):
    """A ramp 1, 2, 3, 4 sampled at pixel q gives q + 1: no oracle needed."""
    features = np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1)
    weight = np.ones((1, 1, 1, 1, 1, 1), np.float32)
    for sizes, at in (((4, 1), (location, 0.5)), ((1, 4), (0.5, location))):
        shape = np.int32([[sizes]])
        where = np.float32(at).reshape(1, 1, 1, 1, 2)
        out = aggregate(features, shape, np.int32([[0]]), where, weight)
        assert float(out[0, 0, 0]) == pixel + 1


def test_border_fades_to_half_and_stops(aggregate):
    """Just inside the edge a neighbour outside counts as zero; on it nothing counts."""
    features = np.ones((1, 4, 1), np.float32)
    inner = np.nextafter(np.float32(1), np.float32(0))
    at = np.float32([[inner, 0.5], [1, 0.5], [1e-30, 0.5], [0, 0.5], [inner, inner]])
    locations = at.reshape(1, 5, 1, 1, 2)
    weight = np.ones((1, 5, 1, 1, 1, 1), np.float32)
    out = aggregate(features, np.int32([[[2, 2]]]), np.int32([[0]]), locations, weight)
    np.testing.assert_allclose(out[0, :, 0], [0.5, 0, 0.5, 0, 0.25], rtol=1e-6)


WAYS = {
    "jit": lambda f, i: jax.jit(f)(*i),
    "index arrays of jax": lambda f, i: f(
        i[0], jnp.asarray(i[1]), jnp.asarray(i[2]), *i[3:]
    ),
    "index arrays closed over": lambda f, i: jax.jit(
        lambda features, *rest: f(features, i[1], i[2], *rest)
    )(i[0], *i[3:]),
    "index arrays of int16": lambda f, i: f(
        i[0], i[1].astype(np.int16), i[2].astype(np.int16), *i[3:]
    ),
    "index arrays of int64": lambda f, i: f(
        i[0], i[1].astype(np.int64), i[2].astype(np.int64), *i[3:]
    ),
    "not contiguous": lambda f, i: f(
        i[0].repeat(2, axis=2)[..., ::2],
        i[1][:, ::-1][:, ::-1],
        np.asfortranarray(i[2]),
        np.asfortranarray(i[3]),
        i[4].swapaxes(0, 4).copy().swapaxes(0, 4),
    ),
    "arrays of jax": lambda f, i: f(*map(jnp.asarray, i)),
    "keywords": lambda f, i: f.func(**i._asdict(), **f.keywords),
    "scan": lambda f, i: jax.lax.scan(
        lambda carry, at: (carry, f(*i[:3], at, i[4])),
        None,
        jnp.stack([i.sample_locations] * 3),
    )[1][1],
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_calling_is_the_same(way, implementation):
    inputs = cases.case("rig clustered")
    call = partial(jda.deformable_aggregation, implementation=implementation)
    direct, other = call(*inputs), WAYS[way](call, inputs)
    judged = cases.judged_case("rig clustered")
    oracle.assert_within(other, judged.out, judged.out_scale)
    if implementation != "reference":  # which XLA may fuse in several ways
        np.testing.assert_array_equal(direct, other)


def test_index_arrays_are_values_not_shapes(aggregate):
    """One compiled program serves other maps in the same rows."""
    chex.clear_trace_counter()
    program = jax.jit(chex.assert_max_traces(aggregate, n=1))
    inputs = cases.case("two cameras")
    turned = inputs._replace(
        spatial_shape=np.ascontiguousarray(inputs.spatial_shape[..., ::-1])
    )
    for each in (inputs, turned, inputs):
        judged = cases.judge(each)
        oracle.assert_within(program(*each), judged.out, judged.out_scale)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", cases.POISONABLE)
def test_what_no_sample_uses_cannot_hurt(name, bad, aggregate):
    judged = cases.judged_case(name)
    out = jax.jit(aggregate)(*cases.poisoned(cases.case(name), bad))
    oracle.assert_within(out, judged.out, judged.out_scale)


def test_a_bad_feature_spoils_only_the_anchors_that_sample_it(aggregate):
    inputs, judged = cases.case("many anchors"), cases.judged_case("many anchors")
    row = int(np.abs(judged.grads.feature_maps).sum(axis=(0, 2)).argmax())
    ones = np.ones_like(inputs.feature_maps)
    ones[:, row] = 0
    positive = inputs._replace(weight=np.ones_like(inputs.weight))
    everything = positive._replace(feature_maps=np.ones_like(ones))
    without = positive._replace(feature_maps=ones)
    reached = oracle.forward_scale(everything) != oracle.forward_scale(without)
    assert reached.any() and not reached.all()
    features = inputs.feature_maps.copy()
    features[:, row] = np.nan
    out = np.asarray(jax.jit(aggregate)(*inputs._replace(feature_maps=features)))
    np.testing.assert_array_equal(np.isnan(out), reached)
    untouched = ~reached
    oracle.assert_within(
        out[untouched], judged.out[untouched], judged.out_scale[untouched]
    )


def value_and_gradients(aggregate):
    """One program (inputs, cotangent) -> (out, the three gradients)."""

    def both(inputs, cotangent):
        out, pull = jax.vjp(
            lambda f, at, w: aggregate(f, *inputs[1:3], at, w), inputs[0], *inputs[3:]
        )
        return out, pull(cotangent)

    return jax.jit(both)


@st.composite
def problems(draw):
    """Small problems of every make, as (shape, seed)."""
    cameras, scales = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    size = st.integers(1, 9)
    maps = tuple(
        tuple((draw(size), draw(size)) for _ in range(scales)) for _ in range(cameras)
    )
    groups = draw(st.integers(1, 5))
    shape = cases.Shape(
        maps,
        batch=draw(st.integers(1, 3)),
        anchors=draw(st.integers(0, 5)),
        points=draw(st.sampled_from([0, 1, 2, 5, 70])),
        channels=groups * draw(st.sampled_from([1, 2, 3, 5, 8, 16, 33])),
        groups=groups,
        locate=draw(st.sampled_from(cases.LOCATORS)),
        layout=draw(st.sampled_from(["packed", "shared", "gaps"])),
    )
    return shape, draw(st.integers(0, 2**32 - 1))


@given(problems())
@settings(max_examples=15)
def test_any_problem(aggregate, problem):
    """Values and gradients of one program."""
    inputs = cases.make(*problem)
    judged = cases.judge(inputs)
    out, grads = value_and_gradients(aggregate)(inputs, judged.cotangent)
    oracle.assert_within(out, judged.out, judged.out_scale)
    cases.assert_gradients_within(grads, judged)


ISA_FLAGS = {
    "baseline": set(),
    "avx2": {"avx2", "fma"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
}


@pytest.mark.parametrize("isa", ISA_FLAGS)
def test_zoo_on_each_instruction_set(isa, aggregate, implementation):
    if implementation != "cpu":
        pytest.skip("only the native kernels choose an instruction set")
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    missing = ISA_FLAGS[isa] - flags
    if missing:
        pytest.skip(f"this processor lacks {', '.join(sorted(missing))}")
    program = f"from tests import test_values; test_values.judge_isa({isa!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"JDA_CPU_ISA": isa},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def judge_isa(isa):
    """In a process of its own: the whole zoo on one instruction set."""
    library = ctypes.CDLL(str(resources.files("jda.ffi") / "libjda_cpu.so"))
    library.jda_cpu_isa.restype = ctypes.c_char_p
    assert library.jda_cpu_isa().decode() == isa

    both = value_and_gradients(
        partial(jda.deformable_aggregation, implementation="cpu")
    )
    for name in cases.ZOO:
        judged = cases.judged_case(name)
        out, grads = both(cases.case(name), judged.cotangent)
        oracle.assert_within(out, judged.out, judged.out_scale)
        cases.assert_gradients_within(grads, judged)
