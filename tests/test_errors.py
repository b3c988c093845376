"""The promise: a wrong argument is named, with what was got and what is allowed."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda

OPERATORS = {
    "operator": jda.deformable_aggregation,
    "reference": jda.reference.deformable_aggregation,
}
GOOD = {  # bs 2, num_feat 14, c 8, cam 2, scale 1, anchor 3, pts 4, group 2
    "feature_maps": np.zeros((2, 14, 8), np.float32),
    "spatial_shape": np.array([[[2, 4]], [[2, 3]]], np.int32),
    "scale_start_index": np.array([[0], [8]], np.int32),
    "sample_locations": np.zeros((2, 3, 4, 2, 2), np.float32),
    "weight": np.zeros((2, 3, 4, 2, 1, 2), np.float32),
}


@pytest.fixture(params=OPERATORS)
def operator(request):
    return OPERATORS[request.param]


def floats(*shape):
    return np.zeros(shape, np.float32)


def fails(operator, error, message, keywords=None, **changed):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        operator(**(GOOD | changed), **(keywords or {}))


def test_good_arguments_pass(operator):
    assert operator(**GOOD).shape == (2, 3, 8)


SHAPES = {
    "feature_maps has shape (14, 8), expected [bs, num_feat, c]": {
        "feature_maps": floats(14, 8)
    },
    "spatial_shape has shape (2, 2), expected [cam, scale, 2]": {
        "spatial_shape": np.ones((2, 2), np.int32)
    },
    "scale_start_index has shape (2,), expected [cam, scale]": {
        "scale_start_index": np.zeros(2, np.int32)
    },
    "sample_locations has shape (2, 3, 4, 2), expected [bs, anchor, pts, cam, 2]": {
        "sample_locations": floats(2, 3, 4, 2)
    },
    "weight has shape (2, 3, 4, 2, 2), expected [bs, anchor, pts, cam, scale, group]": {
        "weight": floats(2, 3, 4, 2, 2)
    },
    "spatial_shape has shape (2, 1, 3), its last axis must have size 2: (H, W)": {
        "spatial_shape": np.ones((2, 1, 3), np.int32)
    },
    "sample_locations has shape (2, 3, 4, 2, 3), its last axis must have size 2: "
    "(y, x)": {"sample_locations": floats(2, 3, 4, 2, 3)},
    "weight has group=0, at least one channel group is needed": {
        "weight": floats(2, 3, 4, 2, 1, 0)
    },
    "weight has group=6, which does not divide c=8": {
        "weight": floats(2, 3, 4, 2, 1, 6)
    },
}


SIZES = {  # an argument of other sizes, and which size of which argument it contradicts
    "scale_start_index": [
        (np.zeros((3, 1), np.int32), "cam=3 but spatial_shape has cam=2"),
        (np.zeros((2, 2), np.int32), "scale=2 but spatial_shape has scale=1"),
    ],
    "sample_locations": [
        (floats(1, 3, 4, 2, 2), "bs=1 but feature_maps has bs=2"),
        (floats(2, 3, 4, 6, 2), "cam=6 but spatial_shape has cam=2"),
    ],
    "weight": [
        (floats(3, 3, 4, 2, 1, 2), "bs=3 but feature_maps has bs=2"),
        (floats(2, 5, 4, 2, 1, 2), "anchor=5 but sample_locations has anchor=3"),
        (floats(2, 3, 1, 2, 1, 2), "pts=1 but sample_locations has pts=4"),
        (floats(2, 3, 4, 1, 1, 2), "cam=1 but spatial_shape has cam=2"),
        (floats(2, 3, 4, 2, 4, 2), "scale=4 but spatial_shape has scale=1"),
    ],
}
for name, changes in SIZES.items():
    for array, told in changes:
        SHAPES[f"{name} has {told}, they must be equal"] = {name: array}


@pytest.mark.parametrize(("message", "changed"), SHAPES.items(), ids=SHAPES)
def test_shapes(message, changed, operator):
    fails(operator, ValueError, message, **changed)


def test_the_last_axis_is_told_in_the_order_asked_for(operator):
    message = (
        "sample_locations has shape (2, 3, 4, 2, 1), its last axis must have size 2: "
        "(x, y)"
    )
    locations = floats(2, 3, 4, 2, 1)
    order = {"coordinate_order": "xy"}
    fails(operator, ValueError, message, order, sample_locations=locations)


def test_shapes_fail_while_tracing(operator):
    given = GOOD | {"weight": floats(2, 3, 4, 2, 1, 6)}
    with pytest.raises(ValueError, match="weight has group=6"):
        jax.eval_shape(operator, *given.values())


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.float8_e4m3fn])
def test_dtypes_of_no_feature_maps(dtype, operator):
    message = (
        f"feature_maps has dtype {np.dtype(dtype)}, allowed are float32, float64, "
        "bfloat16 and float16"
    )
    fails(operator, TypeError, message, feature_maps=jnp.zeros((2, 14, 8), dtype))


@pytest.mark.parametrize(
    ("of_maps", "of_locations"),
    [
        ("float32", "float32"),
        ("float64", "float64"),
        ("bfloat16", "float32"),
        ("float16", "float32"),
    ],
)
def test_other_dtypes_follow_from_that_of_the_feature_maps(
    of_maps, of_locations, operator, float64
):
    needed = {
        "feature_maps": of_maps,
        "sample_locations": of_locations,
        "weight": of_maps,
    }
    given = {name: jnp.asarray(GOOD[name], dtype) for name, dtype in needed.items()}
    assert operator(**(GOOD | given)).dtype == of_maps
    beside = {of_maps, "float32"} if of_maps.endswith("16") else {of_maps}
    for name, right in (("sample_locations", {of_locations}), ("weight", beside)):
        for wrong in {"float32", "float64", "bfloat16", "int32"} - right:
            allowed = " or ".join(sorted(right))
            message = (
                f"{name} has dtype {wrong}, it must have dtype {allowed} where "
                f"feature_maps has dtype {of_maps}"
            )
            changed = given | {name: jnp.asarray(GOOD[name], wrong)}
            fails(operator, TypeError, message, **changed)


@pytest.mark.parametrize("name", ["spatial_shape", "scale_start_index"])
@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_index_dtypes(name, dtype, operator):
    message = f"{name} has dtype {np.dtype(dtype)}, allowed are integers"
    fails(operator, TypeError, message, **{name: GOOD[name].astype(dtype)})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64, np.uint32])
def test_other_integers_are_cast(dtype, operator):
    floating = ("feature_maps", "sample_locations", "weight")
    given = {name: jnp.asarray(GOOD[name] + np.float32(0.5)) for name in floating}
    given["spatial_shape"] = GOOD["spatial_shape"].astype(dtype)
    given["scale_start_index"] = GOOD["scale_start_index"].astype(dtype)
    np.testing.assert_array_equal(jax.jit(operator)(**given), operator(**given))
    assert operator(**given).any()


def test_nested_lists_are_arrays(operator):
    lists = {
        "spatial_shape": [[[2, 4]], [[2, 3]]],
        "scale_start_index": [[0], [8]],
    }
    assert operator(**(GOOD | lists)).shape == (2, 3, 8)


VALUES = {
    "spatial_shape[1, 0] is (0, 3), both sizes must be positive": {
        "spatial_shape": [[[2, 4]], [[0, 3]]]
    },
    "spatial_shape[0, 0] is (-2, 4), both sizes must be positive": {
        "spatial_shape": [[[-2, 4]], [[2, 3]]]
    },
    "scale_start_index[0, 0] is -1, it must not be negative": {
        "scale_start_index": [[-1], [8]]
    },
    "scale_start_index[1, 0] is 9 and spatial_shape[1, 0] is (2, 3), so that the map "
    "ends at row 15, but feature_maps has num_feat=14": {
        "scale_start_index": [[0], [9]]
    },
}


@pytest.mark.parametrize(("message", "changed"), VALUES.items(), ids=VALUES)
def test_values_of_the_maps(message, changed, operator):
    fails(operator, ValueError, message, **changed)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("coordinate_order", "zyx", "'yx', 'xy'"),
        ("differentiation", "forward", "'reverse', 'both'"),
    ],
)
def test_keywords(name, value, allowed, operator):
    message = f"{name}={value!r} is unknown, allowed are {allowed}"
    fails(operator, ValueError, message, {name: value})


def test_unknown_implementation():
    allowed = "None, 'reference', 'cpu', 'ascend'"
    message = f"implementation='tpu' is unknown, allowed are {allowed}"
    keywords = {"implementation": "tpu"}
    fails(jda.deformable_aggregation, ValueError, message, keywords)


def test_too_many_rows(operator):
    num_feat = 2**31
    given = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in GOOD.values()]
    given[0] = jax.ShapeDtypeStruct((2, num_feat, 8), jnp.float32)
    message = (
        f"feature_maps has num_feat={num_feat}, at most {num_feat - 1} rows can be "
        "addressed by the int32 scale_start_index"
    )
    with pytest.raises(ValueError, match=f"^{message}"):
        jax.eval_shape(operator, *given)
