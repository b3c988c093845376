"""The promise: whatever is passed, an error names the argument, and nothing crashes.

The border of the native library itself is tried by native/border_fuzz.cc.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jda
from jda._dimensions import FLOATING
from tests.support import cases
from tests.support.implementations import require, require_module

NAMES = cases.Inputs._fields
NO_ARRAYS = (None, "text", b"bytes", object(), {}, [[1], [1, 2]], 1j, True, 3, 0.5, [])
DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool", "complex64", "S3")


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Right arguments, of which some are replaced by anything."""
    found = cases.case("two cameras")._asdict()
    for name in draw(st.sets(st.sampled_from(NAMES), min_size=1)):
        array = np.asarray(found[name])
        kind = draw(st.sampled_from(["other", "dtype", "shape", "axis", "values"]))
        if kind == "other":
            found[name] = draw(st.sampled_from(NO_ARRAYS))
        elif kind == "dtype":
            found[name] = array.astype(draw(st.sampled_from(DTYPES)))
        elif kind == "shape":
            found[name] = np.zeros(draw(st.lists(st.integers(0, 4))), array.dtype)
        elif kind == "axis":
            at = draw(st.integers(0, array.ndim - 1))
            found[name] = array.take([0] * draw(st.integers(0, 3)), axis=at)
        else:
            filled = array.ravel().copy()
            value = draw(st.sampled_from([-(2**31), -1, 0, 1, 7, 2**31 - 1]))
            filled[draw(st.integers(0, filled.size - 1))] = value
            found[name] = filled.reshape(array.shape)
    return found


@settings(max_examples=60)
@given(arguments(), st.booleans())
def test_arguments_are_computed_or_an_error_names_one(given: Any, traced: bool) -> None:
    call = jax.jit(jda.deformable_aggregation) if traced else jda.deformable_aggregation
    try:
        out = call(**given)
    except (TypeError, ValueError) as error:
        told = str(error)
        named = any(re.search(rf"\b{name}\b", told) for name in NAMES)
        refused_by_jax = traced and "is not a valid JAX type" in told
        assert named or refused_by_jax, told
    except jax.errors.JaxRuntimeError as error:
        # Index arrays that are traced are judged when the kernels run.
        assert traced and "jda: " in str(error)
    else:
        shape = (*np.shape(given["weight"])[:2], np.shape(given["feature_maps"])[-1])
        assert out.shape == shape


@settings(max_examples=60)
@given(arguments(), st.sets(st.sampled_from(FLOATING)))
def test_tensors_are_computed_or_an_error_names_one(given: Any, wanted: Any) -> None:
    torch = require_module("torch")
    ours = require_module("jda.torch").deformable_aggregation
    require("cpu")
    for name, value in given.items():
        if isinstance(value, np.ndarray) and value.dtype.kind != "S":
            given[name] = torch.tensor(value)
            if name in wanted and value.dtype.kind == "f":
                given[name].requires_grad_()
    leaves = [x for x in given.values() if torch.is_tensor(x) and x.requires_grad]
    try:
        out = ours(**given)
    except (TypeError, ValueError) as error:
        assert any(re.search(rf"\b{name}\b", str(error)) for name in NAMES), error
        return
    shape = (*given["weight"].shape[:2], given["feature_maps"].shape[-1])
    assert out.shape == shape
    if leaves:
        grads = torch.autograd.grad(out.sum(), leaves)
        assert [x.shape for x in grads] == [x.shape for x in leaves]


# A program from a file may call the kernels with anything.

INPUTS = cases.case("two cameras")
COTANGENT = np.ones((*INPUTS.weight.shape[:2], INPUTS.feature_maps.shape[2]), "f")
GRADIENTS = INPUTS.chosen(FLOATING)
DEPTH = np.ones(INPUTS.sample_locations.shape[:-1], np.float32)
PAIRS, SCALES = INPUTS.weight.shape[:4], INPUTS.weight.shape[4:]
OF_CORNERS = np.ones((*PAIRS[:3], 4, PAIRS[3], *SCALES), np.float32)
CENTRES = np.ones((*OF_CORNERS.shape[:-1], 2), np.float32)
MAPS, PACKED = np.ones((1, 2, 2, 3), np.float32), np.ones((1, 4, 3), np.float32)
ORDER = {"y_axis": np.int64(0)}
PLACES = {"channels_last": True, "first": np.array([0]), "stride": np.array([2])}
CARD = ORDER | {"deterministic": np.int64(0)}
Program = tuple[list[Any], list[Any], dict[str, Any]]
RIGHT: dict[str, Program] = {  # arguments, arrays like the results, attributes
    "jda_cpu_forward": ([*INPUTS], [COTANGENT], ORDER),
    "jda_cpu_tangent": ([*INPUTS, *GRADIENTS], [COTANGENT], ORDER),
    "jda_cpu_backward": ([*INPUTS, COTANGENT], GRADIENTS, ORDER),
    "jda_cpu_corners": ([*INPUTS, DEPTH], [CENTRES, OF_CORNERS], ORDER),
    "jda_cpu_corners_backward": (
        [*INPUTS, DEPTH, OF_CORNERS],
        [*GRADIENTS, DEPTH],
        ORDER,
    ),
    "jda_cpu_pack": ([MAPS], [PACKED], PLACES),
    "jda_cpu_unpack": ([PACKED], [MAPS], PLACES),
    "jda_ascend_forward": ([*INPUTS], [COTANGENT], CARD),
    "jda_ascend_backward": ([*INPUTS, COTANGENT], GRADIENTS, CARD),
}
CHECKS = [jax.export.DisabledSafetyCheck.custom_call(name) for name in RIGHT]


def attribute(name: str, value: Any) -> Callable[..., Program]:
    """A program whose attribute has another value."""

    def changed(arguments: Any, results: Any, attributes: Any) -> Program:
        like = attributes[name]
        other = np.full(like.shape, value)[()]  # a scalar where it is one
        return arguments, results, attributes | {name: other}

    return changed


FAULTS: dict[str, Callable[..., Program]] = {
    "an argument too few": lambda a, r, k: (a[:-1], r, k),
    "an argument too many": lambda a, r, k: ([*a, a[-1]], r, k),
    "a result too many": lambda a, r, k: (a, [*r, r[-1]], k),
    "an argument that is too small": lambda a, r, k: ([*a[:-1], a[-1][:, 1:]], r, k),
    "an argument of another rank": lambda a, r, k: ([a[0][0], *a[1:]], r, k),
    "a result that is too small": lambda a, r, k: (a, [*r[:-1], r[-1][..., 1:]], k),
    "a result that is too large": lambda a, r, k: (
        a,
        [*r[:-1], np.repeat(r[-1], 2, axis=1)],
        k,
    ),
    "an argument of another dtype": lambda a, r, k: ([np.int8(a[0]), *a[1:]], r, k),
    "a result of another dtype": lambda a, r, k: (a, [*r[:-1], np.int8(r[-1])], k),
    "maps outside of the rows": lambda a, r, k: (
        [a[0], a[1], a[2] + np.int32(2**30), *a[3:]],
        r,
        k,
    ),
    "maps without pixels": lambda a, r, k: ([a[0], a[1] * 0, *a[2:]], r, k),
    "maps that overflow": lambda a, r, k: (
        [a[0], np.full_like(a[1], 2**31 - 1), *a[2:]],
        r,
        k,
    ),
} | {
    f"{name}={value}": attribute(name, value)
    for name, values in {
        "y_axis": (-1, 2, 2**40),
        "first": (-1, 1, 2**62, 2**63 - 1),
        "stride": (-1, 3, 2**62),
    }.items()
    for value in values
}
LEGAL = {"an argument that is too small", "a result that is too large"}  # for pack


def applies(target: str, fault: str) -> bool:
    """Whether it is one; rows that belong to no map are none."""
    name, is_attribute, _ = fault.partition("=")
    if is_attribute:
        return name in RIGHT[target][2]
    if target == "jda_cpu_pack" and fault in LEGAL:
        return False
    return "pack" not in target or not fault.startswith("maps ")


def run(target: str, program: Program) -> None:
    """As it comes back from a file."""
    require("ascend" if "ascend" in target else "cpu")
    arguments, results, attributes = program
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in results]

    def called(*arrays: jax.Array) -> list[jax.Array]:
        return list(jax.ffi.ffi_call(target, shapes)(*arrays, **attributes))

    exported = jax.export.export(jax.jit(called), disabled_checks=CHECKS)(*arguments)
    loaded = jax.export.deserialize(exported.serialize())
    jax.block_until_ready(loaded.call(*arguments))


@pytest.mark.parametrize("target", RIGHT)
def test_exported_programs_as_they_are_meant(target: str) -> None:
    run(target, RIGHT[target])


@pytest.mark.parametrize(
    ("target", "fault"), [(t, f) for t in RIGHT for f in FAULTS if applies(t, f)]
)
def test_exported_programs_that_nobody_meant(target: str, fault: str) -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="jda: "):
        run(target, FAULTS[fault](*RIGHT[target]))


def test_centres_of_corners_without_a_group() -> None:
    """Sizes that fit where the number of groups, zero, is a factor of both sides."""
    arguments, (centres, weights), attributes = RIGHT["jda_cpu_corners"]
    arguments = [*arguments[:4], arguments[4][..., :0], DEPTH]
    results = [centres[:, :1], weights[..., :0]]
    with pytest.raises(jax.errors.JaxRuntimeError, match="jda: the centres of corners"):
        run("jda_cpu_corners", (arguments, results, attributes))
