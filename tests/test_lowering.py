"""The promise: one kernel call each way, on the platform that a call is lowered for.

Programs are lowered for platforms that are not here; nothing of them runs.
"""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

import jda
from tests.support import cases, lowered
from tests.support.cases import FLOATS
from tests.support.implementations import require
from tests.support.lowered import gradient, targets

INPUTS = cases.case("two cameras")


def operator(*inputs, **keywords):
    return jda.deformable_aggregation(*inputs, **keywords)


lower = functools.partial(lowered.lower, inputs=INPUTS)


@pytest.fixture
def _cpu_kernels():
    require("cpu")


@pytest.mark.usefixtures("_cpu_kernels")
@pytest.mark.parametrize("name", [None, "cpu"])
@pytest.mark.parametrize("differentiation", ["reverse", "both"])
def test_one_call_each_way_on_the_cpu(name, differentiation):
    keywords = {"implementation": name, "differentiation": differentiation}
    forward = lower(lambda *x: operator(*x, **keywords), "cpu")
    assert targets(forward) == ["jda_cpu_forward"]
    both = lower(lambda *x: gradient(*x, **keywords), "cpu")
    assert targets(both) == ["jda_cpu_forward", "jda_cpu_backward"]


@pytest.mark.usefixtures("_cpu_kernels")
def test_nothing_but_the_call():
    text = lower(operator, "cpu")
    assert len(re.findall(r"stablehlo\.", text)) == 1
    assert "while" not in text and "gather" not in text


@pytest.mark.usefixtures("_cpu_kernels")
def test_a_linear_loss_needs_no_forward_call():
    linear = jax.grad(lambda *x: operator(*x).sum(), FLOATS)
    assert targets(lower(linear, "cpu")) == ["jda_cpu_backward"]


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu", "npu"])
def test_other_platforms_are_served_by_the_reference(platform):
    for function in (operator, gradient):
        text = lower(function, platform)
        assert targets(text) == []
        assert "stablehlo.gather" in text


def test_the_reference_when_asked_for():
    for function in (operator, gradient):
        text = lower(lambda *x, f=function: f(*x, implementation="reference"), "cpu")
        assert targets(text) == []
        assert "stablehlo.gather" in text


@pytest.mark.usefixtures("_cpu_kernels")
def test_one_program_for_several_platforms():
    text = lower(operator, "cpu", "cuda")
    assert targets(text) == ["jda_cpu_forward"]
    assert "stablehlo.gather" in text


@pytest.mark.usefixtures("_cpu_kernels")
@pytest.mark.parametrize("platforms", [("cuda",), ("ascend",), ("cpu", "tpu")])
def test_an_implementation_for_another_platform_fails(platforms):
    for function in (operator, gradient):
        with pytest.raises(RuntimeError, match="'cpu' serves the platforms cpu, but"):
            lower(lambda *x, f=function: f(*x, implementation="cpu"), *platforms)


@pytest.mark.usefixtures("_cpu_kernels")
@pytest.mark.parametrize("differentiation", ["reverse", "both"])
@pytest.mark.parametrize("wanted", [(0,), (3,), (4,), (0, 3), (0, 4), (3, 4), FLOATS])
def test_only_wanted_gradients_have_elements(wanted, differentiation):
    def loss(*inputs):
        return jnp.square(operator(*inputs, differentiation=differentiation)).sum()

    text = lower(jax.grad(loss, wanted), "cpu")
    (line,) = [line for line in text.splitlines() if "@jda_cpu_backward" in line]
    results = re.findall(r"tensor<([\dx]+)f32>", line.split("->")[-1])
    assert len(results) == 3
    for position, shape in zip(FLOATS, results, strict=True):
        whole = "".join(f"{size}x" for size in INPUTS[position].shape)
        assert shape == (whole if position in wanted else "0x")


@pytest.mark.usefixtures("_cpu_kernels")
@pytest.mark.parametrize(("order", "y_axis"), [("yx", 0), ("xy", 1)])
def test_the_coordinate_order_reaches_both_kernels(order, y_axis):
    text = lower(lambda *x: gradient(*x, coordinate_order=order), "cpu")
    assert text.count(f"y_axis = {y_axis} : i64") == 2


def test_the_call_leaves_a_flat_jaxpr():
    text = str(jax.make_jaxpr(lambda *x: operator(*x, differentiation="both"))(*INPUTS))
    assert "deformable_aggregation_forward" in text
    assert "jit" not in text and "custom_vjp" not in text


def test_tracing_once_for_equal_shapes(implementation):
    count = 0

    @jax.jit
    def call(*inputs):
        nonlocal count
        count += 1
        return operator(*inputs, implementation=implementation)

    for _ in range(3):
        call(*INPUTS)
    assert count == 1
