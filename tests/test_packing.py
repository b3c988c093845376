"""The promise: pyramids go into the packed arrays and come back as they were."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import jda

SIZES = ((5, 6), (2, 3), (1, 1))
RAGGED = (((5, 6), (2, 3)), ((4, 7), (1, 2)), ((1, 1), (3, 3)))
BS, CAM, C = 2, 3, 4


def pyramid(layout, seed=0):
    """Cameras of equal sizes, one array for each scale."""
    rng = np.random.default_rng(seed)
    axes = {"b": BS, "k": CAM, "c": C}
    shapes = [[(axes | {"h": h, "w": w})[axis] for axis in layout] for h, w in SIZES]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def ragged(layout, seed=0):
    """Cameras of different sizes, for each camera one array for each scale."""
    rng = np.random.default_rng(seed)
    axes = {"b": BS, "c": C}
    return [
        [
            rng.standard_normal(
                [(axes | {"h": h, "w": w})[axis] for axis in layout]
            ).astype(np.float32)
            for h, w in camera
        ]
        for camera in RAGGED
    ]


MAPS = {"bkchw": pyramid, "bkhwc": pyramid, "bchw": ragged, "bhwc": ragged}


def assert_same(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize("layout", MAPS)
def test_round_trip(layout):
    maps = MAPS[layout](layout)
    assert_same(
        jda.unpack_feature_maps(jda.pack_feature_maps(maps, layout), layout), maps
    )


@pytest.mark.parametrize("layout", MAPS)
def test_rows_lie_camera_by_camera_then_scale_by_scale(layout):
    maps = MAPS[layout](layout)
    packed = jda.pack_feature_maps(maps, layout)
    row = 0
    for k in range(CAM):
        for s in range(packed.spatial_shape.shape[1]):
            scale = maps[s][:, k] if "k" in layout else maps[k][s]
            scale = np.moveaxis(scale, layout.replace("k", "").index("c"), -1)
            h, w = packed.spatial_shape[k, s]
            assert (h, w) == scale.shape[1:3]
            assert packed.scale_start_index[k, s] == row
            for i, j in np.ndindex(h, w):
                np.testing.assert_array_equal(
                    packed.feature_maps[:, row], scale[:, i, j]
                )
                row += 1
    assert packed.feature_maps.shape == (BS, row, C)


def test_index_arrays_are_static_numpy_int32():
    @jax.jit
    def pack(maps):
        packed = jda.pack_feature_maps(maps)
        for array in packed[1:]:
            assert isinstance(array, np.ndarray) and array.dtype == np.int32
        return packed.feature_maps

    maps = pyramid("bkchw")
    expected = jda.pack_feature_maps(maps).feature_maps
    np.testing.assert_array_equal(pack(maps), expected)


@pytest.mark.parametrize("layout", MAPS)
def test_the_triple_goes_straight_into_the_operator(layout, implementation):
    rng = np.random.default_rng(1)
    packed = jda.pack_feature_maps(MAPS[layout](layout), layout)
    scales = packed.spatial_shape.shape[1]
    locations = rng.uniform(-0.2, 1.2, (BS, 5, 2, CAM, 2)).astype(np.float32)
    weight = rng.standard_normal((BS, 5, 2, CAM, scales, 2)).astype(np.float32)
    result = jda.deformable_aggregation(
        *packed, locations, weight, implementation=implementation
    )
    expected = oracle.forward(*map(np.asarray, packed), locations, weight, "yx")
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_maps():
    maps = list(map(jnp.asarray, pyramid("bkchw")))
    packed = jda.pack_feature_maps(maps)
    factor = jnp.arange(packed.feature_maps.size, dtype=jnp.float32)
    factor = factor.reshape(packed.feature_maps.shape)

    def loss(maps):
        return jnp.vdot(jda.pack_feature_maps(maps).feature_maps, factor)

    expected = jda.unpack_feature_maps(packed._replace(feature_maps=factor))
    assert_same(jax.jit(jax.grad(loss))(maps), expected)


def test_maps_in_another_order_that_share_rows_unpack():
    features = np.arange(2 * 9 * 1, dtype=np.float32).reshape(2, 9, 1)
    packed = (features, [[[2, 2], [1, 3]]], [[5, 4]])
    first, second = jda.unpack_feature_maps(packed, "bkhwc")
    np.testing.assert_array_equal(first, features[:, 5:9].reshape(2, 1, 2, 2, 1))
    np.testing.assert_array_equal(second, features[:, 4:7].reshape(2, 1, 1, 3, 1))


def fails(error, message, function, *arguments):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        function(*arguments)


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


WRONG = {
    "layout='bkc' is unknown, allowed are 'bkchw', 'bkhwc', 'bchw', 'bhwc'": (
        [ones(1, 1, 1, 1, 1)],
        "bkc",
    ),
    "maps is empty, at least one feature map is needed": ([], "bkchw"),
    "maps[1] has 1 scales but maps[0] has 2, all cameras must have the same number": (
        [[ones(1, 1, 2, 2), ones(1, 1, 1, 1)], [ones(1, 1, 2, 2)]],
        "bchw",
    ),
    "maps[0] has shape (1, 1, 2, 2), expected [bs, cam, c, h, w]": (
        [ones(1, 1, 2, 2)],
        "bkchw",
    ),
    "maps[0][0] has shape (1, 1, 1, 2, 2), expected [bs, h, w, c]": (
        [[ones(1, 1, 1, 2, 2)]],
        "bhwc",
    ),
    "maps[1] has bs=2 but the first map has bs=1, they must be equal": (
        [ones(1, 1, 1, 2, 2), ones(2, 1, 1, 2, 2)],
        "bkchw",
    ),
    "maps[1] has cam=2 but the first map has cam=1, they must be equal": (
        [ones(1, 1, 2, 2, 3), ones(1, 2, 2, 2, 3)],
        "bkhwc",
    ),
    "maps[1][0] has c=2 but the first map has c=1, they must be equal": (
        [[ones(1, 1, 2, 2)], [ones(1, 2, 2, 2)]],
        "bchw",
    ),
    "maps[0] has h=0, maps must have pixels": ([ones(1, 1, 1, 0, 2)], "bkchw"),
}


@pytest.mark.parametrize(("message", "arguments"), WRONG.items(), ids=WRONG)
def test_wrong_maps(message, arguments):
    fails(ValueError, message, jda.pack_feature_maps, *arguments)


def test_maps_of_different_dtypes():
    message = (
        "maps[1] has dtype int32 but the first map has dtype float32, they must be "
        "equal"
    )
    maps = [ones(1, 1, 1, 2, 2), ones(1, 1, 1, 2, 2, dtype=np.int32)]
    fails(TypeError, message, jda.pack_feature_maps, maps)


def test_ragged_cameras_do_not_unpack_to_one_array():
    packed = jda.pack_feature_maps(ragged("bhwc"), "bhwc")
    message = (
        "layout='bkhwc' needs cameras of equal sizes, but spatial_shape has different "
        "ones; use 'bhwc'"
    )
    fails(ValueError, message, jda.unpack_feature_maps, packed, "bkhwc")


def test_a_map_outside_does_not_unpack():
    packed = jda.pack_feature_maps(pyramid("bkchw"))
    packed = packed._replace(scale_start_index=packed.scale_start_index + 1)
    message = re.escape("ends at row 112, but feature_maps has num_feat=111")
    with pytest.raises(ValueError, match=message):
        jda.unpack_feature_maps(packed)


def test_traced_index_arrays_do_not_unpack():
    packed = jda.pack_feature_maps(pyramid("bkchw"))
    with pytest.raises(TypeError, match=r"^spatial_shape is traced"):
        jax.jit(jda.unpack_feature_maps)(packed)
