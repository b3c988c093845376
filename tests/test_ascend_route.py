"""The promise: `implementation="ascend"` is a route from JAX to the Ascend C kernels.

Lowering needs no driver and is checked for the platform of a card. What runs, runs on
the CPU platform through the emulated driver: the kernels as they are, on no hardware.
"""

import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import enable_x64
from jax import export

import jda

FLOATS = (0, 3, 4)
INPUTS = cases.case("two cameras")
CARDS = ("ascend", "ASCEND")
TARGETS = ("jda_ascend_forward", "jda_ascend_cotangent")


def operator(*inputs, **keywords):
    return jda.deformable_aggregation(*inputs, **keywords)


def gradient(*inputs, wanted=FLOATS, **keywords):
    def loss(*inputs):
        return jnp.square(operator(*inputs, **keywords)).sum()

    return jax.grad(loss, wanted)(*inputs)


def lower(function, *platforms, inputs=INPUTS):
    traced = jax.jit(function).trace(*map(jnp.asarray, inputs))
    return traced.lower(lowering_platforms=platforms).as_text()


def calls(text):
    """(target, types of the operands, types of the results) of our custom calls."""
    found = re.findall(r"custom_call @(jda\w+)\(.*\} : \((.*)\) -> (.*)", text)
    return [
        (target, *(re.findall(r"tensor<([^>]+)>", types) for types in (left, right)))
        for target, left, right in found
    ]


def type_of(array, dtype=None):
    name = {"float32": "f32", "int32": "i32"}[dtype or array.dtype.name]
    return "".join(f"{size}x" for size in array.shape) + name


OPERANDS = [type_of(array) for array in INPUTS]
RESULT = type_of(np.empty((2, 5, 8), np.float32))
GRADIENTS = [OPERANDS[i] for i in FLOATS]
FORWARD = (TARGETS[0], OPERANDS, [RESULT])
COTANGENT = (TARGETS[1], [*OPERANDS, RESULT], GRADIENTS)


@pytest.mark.parametrize("platform", CARDS)
@pytest.mark.parametrize("name", [None, "ascend"])
@pytest.mark.parametrize("differentiation", ["reverse", "both"])
def test_one_call_each_way(platform, name, differentiation):
    keywords = {"implementation": name, "differentiation": differentiation}
    forward = lower(lambda *x: operator(*x, **keywords), platform)
    assert calls(forward) == [FORWARD]
    assert len(re.findall(r"stablehlo\.", forward)) == 1, "nothing but the call"
    both = lower(lambda *x: gradient(*x, **keywords), platform)
    assert calls(both) == [FORWARD, COTANGENT]


def test_a_linear_loss_needs_no_forward_call():
    linear = jax.grad(lambda *x: operator(*x).sum(), FLOATS)
    assert calls(lower(linear, "ascend")) == [COTANGENT]


@pytest.mark.parametrize("wanted", [(0,), (3,), (4,), (0, 4), (3, 4)])
def test_only_wanted_gradients_have_elements(wanted):
    text = lower(lambda *x: gradient(*x, wanted=wanted), "ascend")
    results = [OPERANDS[i] if i in wanted else "0xf32" for i in FLOATS]
    assert calls(text) == [FORWARD, (*COTANGENT[:2], results)]


@pytest.mark.parametrize(("order", "y_axis"), [("yx", 0), ("xy", 1)])
def test_the_coordinate_order_reaches_both_kernels(order, y_axis):
    text = lower(lambda *x: gradient(*x, coordinate_order=order), "ascend")
    assert text.count(f"y_axis = {y_axis} : i64") == 2


@pytest.mark.parametrize(("value", "flag"), [(None, 0), ("0", 0), ("1", 1)])
def test_determinism_is_asked_for_when_a_program_is_lowered(value, flag, monkeypatch):
    monkeypatch.delenv("JDA_ASCEND_DETERMINISTIC", raising=False)
    if value is not None:
        monkeypatch.setenv("JDA_ASCEND_DETERMINISTIC", value)
    text = lower(lambda *x: gradient(*x), "ascend")  # JAX remembers old functions
    assert text.count(f"deterministic = {flag} : i64") == 2


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_converted_at_the_border(dtype):
    narrow = INPUTS._replace(
        feature_maps=jnp.asarray(INPUTS.feature_maps, dtype),
        weight=jnp.asarray(INPUTS.weight, dtype),
    )
    text = lower(gradient, "ascend", inputs=narrow)
    assert calls(text) == [FORWARD, COTANGENT]
    assert text.count("stablehlo.convert") >= 4


def test_float64_has_no_kernels():
    """Asked for by name they are refused; otherwise the reference serves."""
    with enable_x64():
        inputs = cases.case("two cameras", np.float64)
        text = lower(gradient, "ascend", inputs=inputs)
        assert calls(text) == [] and "stablehlo.gather" in text
        with pytest.raises(TypeError, match="dtype float64, implementation='ascend'"):
            lower(
                lambda *x: operator(*x, implementation="ascend"),
                "ascend",
                inputs=inputs,
            )


def test_a_mapped_axis_becomes_one_call():
    locations = jnp.stack([INPUTS.sample_locations] * 3)
    mapped = jax.vmap(operator, (None, None, None, 0, None))
    text = lower(mapped, "ascend", inputs=(*INPUTS[:3], locations, INPUTS.weight))
    ((target, operands, results),) = calls(text)
    assert target == TARGETS[0]
    assert operands[0] == OPERANDS[0], "shared feature maps are not copied"
    assert operands[3] == "2x15x3x2x2xf32" and results == ["2x15x8xf32"]


def test_an_exported_program_holds_the_calls():
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in TARGETS]
    exporter = export.export(
        jax.jit(gradient), platforms=("ascend",), disabled_checks=checks
    )
    exported = exporter(*map(jnp.asarray, INPUTS))
    assert exported.platforms == ("ascend",)
    assert calls(exported.mlir_module()) == [FORWARD, COTANGENT]


def test_one_program_for_cpu_and_card():
    text = lower(gradient, "cpu", "ascend")
    assert FORWARD in calls(text) and COTANGENT in calls(text)
    on_card = [target for target, *_ in calls(text) if target in TARGETS]
    assert on_card == list(TARGETS), "one call each, for the card alone"


@pytest.mark.parametrize("platforms", [("cuda",), ("tpu",), ("ascend", "rocm")])
def test_other_platforms_are_refused(platforms):
    message = "'ascend' serves the platforms ascend, ASCEND, cpu, but"
    for function in (operator, gradient):
        with pytest.raises(RuntimeError, match=message):
            lower(lambda *x, f=function: f(*x, implementation="ascend"), *platforms)
