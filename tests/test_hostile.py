"""The promise: whatever is passed, an error names the argument, and nothing crashes.

The border of the native library itself is tried by native/border_fuzz.cc.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jda
from tests.support import cases
from tests.support.implementations import require

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


INPUTS = cases.case("two cameras")
PACKED = jax.ShapeDtypeStruct((1, 4, 3), jnp.float32)
RESULT = jax.ShapeDtypeStruct(
    (*INPUTS.weight.shape[:2], INPUTS.feature_maps.shape[2]), jnp.float32
)
TARGETS = ("jda_cpu_forward", "jda_cpu_pack")
CHECKS = [jax.export.DisabledSafetyCheck.custom_call(name) for name in TARGETS]
ORDER = {"y_axis": np.int64(0)}
HOSTILE = {
    "y_axis must be 0 or 1": ("jda_cpu_forward", INPUTS, {"y_axis": np.int64(2**40)}),
    "too few or many arguments": ("jda_cpu_forward", INPUTS[:4], ORDER),
    "too few or many results": ("jda_cpu_forward", INPUTS, ORDER),
    "must agree in their sizes": (
        "jda_cpu_forward",
        INPUTS._replace(weight=INPUTS.weight[:, :1]),
        ORDER,
    ),
}
PLACES = {"channels_last": True, "stride": np.array([4], np.int64)}
for first in (-1, 2**62, 2**63 - 1):
    HOSTILE[f"maps must lie within the rows; first={first}"] = (
        "jda_cpu_pack",
        [np.zeros((1, 1, 4, 3), np.float32)],
        PLACES | {"first": np.array([first], np.int64)},
    )


@pytest.mark.parametrize("message", HOSTILE)
def test_exported_programs_that_nobody_meant(message: str) -> None:
    """A program from a file may call the kernels with anything."""
    require("cpu")
    target, arrays, attributes = HOSTILE[message]
    results = [RESULT if target == "jda_cpu_forward" else PACKED]
    results *= 2 if message.endswith("results") else 1

    def program(*arrays: jax.Array) -> list[jax.Array]:
        return list(jax.ffi.ffi_call(target, results)(*arrays, **attributes))

    exported = jax.export.export(jax.jit(program), disabled_checks=CHECKS)(*arrays)
    loaded = jax.export.deserialize(exported.serialize())
    with pytest.raises(jax.errors.JaxRuntimeError, match=message.split(";")[0]):
        jax.block_until_ready(loaded.call(*arrays))
