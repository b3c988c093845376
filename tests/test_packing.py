"""The promise: pyramids go into the packed arrays and come back as they were."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from jda import _pack
from tests.support import oracle

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
    expected = oracle.forward((*map(np.asarray, packed), locations, weight), "yx")
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_maps():
    maps = list(map(jnp.asarray, pyramid("bkchw")))
    packed = jda.pack_feature_maps(maps)
    factor = jnp.arange(packed.feature_maps.size, dtype=jnp.float32)
    factor = factor.reshape(packed.feature_maps.shape)

    def loss(maps):
        return jnp.vdot(jda.pack_feature_maps(maps).feature_maps, factor)

    expected = jda.unpack_feature_maps(replace(packed, feature_maps=factor))
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
    "maps[1] has bs=2 but maps[0] has bs=1, they must be equal": (
        [ones(1, 1, 1, 2, 2), ones(2, 1, 1, 2, 2)],
        "bkchw",
    ),
    "maps[1] has cam=2 but maps[0] has cam=1, they must be equal": (
        [ones(1, 1, 2, 2, 3), ones(1, 2, 2, 2, 3)],
        "bkhwc",
    ),
    "maps[1][0] has c=2 but maps[0][0] has c=1, they must be equal": (
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
        "maps[1] has dtype int32 but maps[0] has dtype float32, they must be equal"
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
    packed = replace(packed, scale_start_index=packed.scale_start_index + 1)
    message = re.escape("ends at row 112, but feature_maps has num_feat=111")
    with pytest.raises(ValueError, match=message):
        jda.unpack_feature_maps(packed)


def test_traced_index_arrays_are_refused():
    packed = jda.pack_feature_maps(pyramid("bkchw"))
    for function in (jda.unpack_feature_maps, lambda x: jda.PackedFeatureMaps(*x)):
        with pytest.raises(TypeError, match=r"^spatial_shape is traced"):
            jax.jit(function)(tuple(packed))


# Sparse4D's nested groups, and sizes of zero


@pytest.mark.parametrize("layout", ["bkchw", "bkhwc"])
def test_groups_of_cameras(layout):
    by_camera = ragged("bchw")
    by_camera = [by_camera[0], by_camera[0], by_camera[1], by_camera[2]]
    expected = jda.pack_feature_maps(by_camera, "bchw")

    def group(*cameras):
        scales = [np.stack(scale, axis=1) for scale in zip(*cameras, strict=True)]
        return [np.moveaxis(x, 2, layout.index("c")) for x in scales]

    groups = [group(*by_camera[:2]), group(by_camera[2]), group(by_camera[3])]
    packed = jda.pack_feature_maps(groups, layout)
    for ours, right in zip(packed, expected, strict=True):
        np.testing.assert_array_equal(ours, right)


@pytest.mark.parametrize("layout", MAPS)
@pytest.mark.parametrize("axis", "bkc")
def test_sizes_of_zero(layout, axis):
    if axis not in layout:
        return
    maps = jax.tree.map(
        lambda x: np.take(x, [], axis=layout.index(axis)), MAPS[layout](layout)
    )
    packed = jda.pack_feature_maps(maps, layout)
    rows = 0 if axis == "k" else int(packed.spatial_shape.prod(-1).sum())
    bs, c = 0 if axis == "b" else BS, 0 if axis == "c" else C
    assert packed.feature_maps.shape == (bs, rows, c)
    assert packed.scale_start_index.shape == packed.spatial_shape.shape[:-1]
    if axis == "k":
        message = "spatial_shape has cam=0, so that no scale has a size"
        fails(ValueError, message, jda.unpack_feature_maps, packed, layout)
    else:
        assert_same(jda.unpack_feature_maps(packed, layout), maps)


# The pytree


@pytest.fixture
def packed():
    return jda.pack_feature_maps(list(map(jnp.asarray, pyramid("bkchw"))))


def test_the_feature_maps_are_the_only_leaf(packed):
    (leaf,) = jax.tree.leaves(packed)
    assert leaf is packed.feature_maps
    ((path, _),), _ = jax.tree_util.tree_flatten_with_path(packed)
    assert jax.tree_util.keystr(path) == ".feature_maps"
    again = jax.tree.unflatten(jax.tree.structure(packed), [leaf])
    for ours, right in zip(again, packed, strict=True):
        np.testing.assert_array_equal(ours, right)
    assert all(not index.flags.writeable for index in again[1:])


def test_it_prints_shapes_and_dtypes(packed):
    text = (
        "PackedFeatureMaps(feature_maps=float32[2, 111, 4], "
        "spatial_shape=int32[3, 3, 2], scale_start_index=int32[3, 3])"
    )
    assert repr(packed) == text
    of_specs = jax.tree.map(lambda _: "split", packed)
    assert repr(of_specs).startswith("PackedFeatureMaps(feature_maps='split', ")


def test_a_notebook_shows_a_row_for_each_camera(packed):
    shown = packed._repr_html_()
    assert "<caption>feature_maps: float32[2, 111, 4]</caption>" in shown
    for k, (sizes, starts) in enumerate(zip(*packed[1:], strict=True)):
        cells = [
            f"<td>{h} × {w} from row {start}</td>"
            for (h, w), start in zip(sizes, starts, strict=True)
        ]
        assert f"<tr><th>camera {k}</th>{''.join(cells)}</tr>" in shown


def operands():
    rng = np.random.default_rng(2)
    locations = rng.uniform(0, 1, (BS, 5, 2, CAM, 2)).astype(np.float32)
    return locations, rng.standard_normal((BS, 5, 2, CAM, 3, 2)).astype(np.float32)


def test_grad_and_jit(packed):
    def loss(packed):
        assert all(type(index) is np.ndarray for index in packed[1:])
        return (jda.deformable_aggregation(*packed, *operands()) ** 2).sum()

    def of_features(features):
        out = jda.deformable_aggregation(features, *packed[1:], *operands())
        return (out**2).sum()

    right = jax.grad(of_features)(packed.feature_maps)
    for function in (jax.grad(loss), jax.jit(jax.grad(jax.checkpoint(loss)))):
        found = function(packed)
        assert isinstance(found, jda.PackedFeatureMaps)
        # On a GPU, XLA adds in no fixed order.
        np.testing.assert_allclose(found.feature_maps, right, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found.spatial_shape, packed.spatial_shape)
    stepped = jax.tree.map(lambda x, g: x - 0.1 * g, packed, jax.grad(loss)(packed))
    np.testing.assert_allclose(
        stepped.feature_maps, packed.feature_maps - 0.1 * right, 1e-5, 1e-5
    )


def test_equal_indices_are_one_compilation(packed):
    count = 0

    @jax.jit
    def double(packed):
        nonlocal count
        count += 1
        return jax.tree.map(lambda x: 2 * x, packed)

    double(packed)
    double(jax.tree.map(jnp.array, packed))
    assert count == 1
    double(replace(packed, scale_start_index=packed.scale_start_index[::-1]))
    assert count == 2


def test_casts_and_vmap(packed):
    cast = jax.tree.map(lambda x: x.astype(jnp.bfloat16), packed)
    assert cast.feature_maps.dtype == jnp.bfloat16
    stack = jax.tree.map(lambda *x: jnp.stack(x), packed, packed)
    out = jax.vmap(lambda p: jda.deformable_aggregation(*p, *operands()))(stack)
    right = jda.deformable_aggregation(*packed, *operands())
    np.testing.assert_allclose(out, np.stack([right, right]), rtol=1e-5, atol=1e-6)


def test_donation_and_shardings(packed):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    right = 2 * packed.feature_maps
    moved = jax.device_put((packed, 1.0), (device, device))[0]
    doubled = jax.jit(lambda p: jax.tree.map(lambda x: 2 * x, p), donate_argnums=0)(
        moved
    )
    assert moved.feature_maps.is_deleted()
    np.testing.assert_array_equal(doubled.feature_maps, right)


def test_wrong_indices(packed):
    for wrong, error, message in [
        (None, TypeError, "spatial_shape is None, it must be an array"),
        (
            [[[2.0, 3.0]]],
            TypeError,
            "spatial_shape has dtype float64, allowed are integers",
        ),
        (
            [[[2, 2**31]]],
            ValueError,
            "spatial_shape has the value 2147483648, allowed are those of int32",
        ),
    ]:
        fails(error, message, lambda x: replace(packed, spatial_shape=x), wrong)


def test_more_rows_than_int32_can_count():
    message = (
        "maps have num_feat=3221225472, at most 2147483647 rows can be addressed by "
        "the int32 scale_start_index"
    )
    maps = [np.zeros((0, 3, 1, 2**15, 2**15))]
    fails(ValueError, message, jda.pack_feature_maps, maps)


@pytest.mark.parametrize(
    ("value", "start"),
    [
        (None, "maps[1] is None, it must be an array"),
        ("text", "maps[1] is 'text', it must be an array"),
        ([[1.0], [1.0, 2.0]], "maps[1] is a list of which no array can be made: "),
        (object(), "maps[1] is a object of which no array can be made: "),
    ],
    ids=["none", "text", "ragged", "object"],
)
def test_what_is_no_array(value, start):
    with pytest.raises(TypeError, match=f"^{re.escape(start)}"):
        jda.pack_feature_maps([ones(1, 1, 1, 2, 2), value])


def test_a_tensor_that_requires_gradients():
    torch = pytest.importorskip("torch")
    tensor = torch.ones((1, 1, 1, 2, 2), requires_grad=True)
    with pytest.raises(TypeError, match=r"^maps\[0\] is a Tensor .* tensor.detach"):
        jda.pack_feature_maps([tensor])


def test_forgetting_to_unpack(packed):
    message = (
        "feature_maps is a PackedFeatureMaps, which stands for three arguments; unpack "
        "it: deformable_aggregation(*packed, ...)"
    )
    for function in (jda.deformable_aggregation, jda.reference.deformable_aggregation):
        fails(TypeError, message, function, packed, *operands())


# The native copies, in blocks of 256 pixels and squares of 64 bytes a side


SHAPES = {
    "blocks": (1, 2, 32, [(17, 31), (16, 32)]),
    "ragged": (2, 3, 19, [(9, 31), (1, 1)]),
    "past the caches": (1, 2, 128, [(64, 128), (5, 7)]),
    "small": (3, 1, 1, [(2, 3)]),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "int32"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["bkchw", "bkhwc"])
def test_every_element_arrives(layout, shape, dtype):
    bs, cam, c, sizes = SHAPES[shape]
    rng = np.random.default_rng(0)
    maps = [
        jnp.asarray(rng.integers(-100, 100, (bs, cam, c, h, w)), dtype)
        for h, w in sizes
    ]
    rows = [np.asarray(x).reshape(bs, cam, c, -1).swapaxes(2, 3) for x in maps]
    right = np.concatenate(rows, axis=2).reshape(bs, -1, c)
    maps = [jnp.moveaxis(x, 2, layout.index("c")) for x in maps]
    packed = jda.pack_feature_maps(maps, layout)
    np.testing.assert_array_equal(packed.feature_maps, right)
    transposed = jax.linear_transpose(lambda x: jda.pack_feature_maps(x, layout), maps)
    if jnp.issubdtype(maps[0].dtype, jnp.floating):
        assert_same(transposed(packed)[0], maps)


def test_float64(float64):
    maps = [jnp.asarray(x, "float64") + 1e-12 for x in pyramid("bkchw")]
    packed, back = jax.vjp(jda.pack_feature_maps, maps)
    assert_same(jda.unpack_feature_maps(packed), maps)
    assert_same(back(packed)[0], maps)


@pytest.mark.parametrize("layout", MAPS)
def test_transformations_of_packing(layout):
    maps = jax.tree.map(jnp.asarray, MAPS[layout](layout))
    other = jax.tree.map(jnp.asarray, MAPS[layout](layout, 1))

    def pack(maps):
        return jda.pack_feature_maps(maps, layout).feature_maps

    first, second = pack(maps), pack(other)
    for forward in (jax.jvp, jax.jit(jax.jvp, static_argnums=0)):
        out, tangent = forward(pack, (maps,), (other,))
        np.testing.assert_array_equal(out, first)
        np.testing.assert_array_equal(tangent, second)
    stacked = jax.tree.map(lambda *x: jnp.stack(x, 1), maps, other)
    out = jax.vmap(pack, 1)(stacked)
    np.testing.assert_array_equal(out, np.stack([first, second]))
    grads = jax.vmap(jax.grad(lambda x: jnp.vdot(pack(x), second)), 1)(stacked)
    right = jax.tree.map(lambda x: jnp.stack([x, x]), other)
    assert_same(grads, right)
    one = jax.vmap(lambda x: pack([x, *maps[1:]]))
    shared = one(jax.tree.map(lambda x: jnp.stack([x, x]), maps[0]))
    np.testing.assert_array_equal(shared, np.stack([first, first]))
    hessian = jax.hessian(
        lambda t: (pack(jax.tree.map(lambda x: t * x, maps)) ** 2).sum()
    )
    np.testing.assert_allclose(hessian(1.0), 2 * (first**2).sum(), rtol=1e-5)


def test_packing_as_numpy_does_it():
    """What other platforms, and programs of many devices, compute."""
    flat = [jnp.asarray(x.reshape(BS, CAM, C, -1)) for x in pyramid("bkchw")]
    last = [jnp.swapaxes(x, 2, 3) for x in flat]
    for arrays, is_last in ((flat, False), (last, True)):
        params = {"channels_last": is_last, "scales": len(SIZES)}
        (rows,) = _pack._in_numpy(*arrays, **params)
        np.testing.assert_array_equal(rows, _pack.pack(*arrays, **params)[0])
        of = _pack.sizes(arrays, is_last)
        assert_same(_pack._back_in_numpy(rows, of=of, **params), arrays)
        assert_same(_pack.unpack(rows, of=of, **params), arrays)


def test_packing_is_one_native_call(implementation):
    if implementation != "cpu":
        return
    text = jax.jit(jda.pack_feature_maps).lower(pyramid("bkchw")).as_text()
    assert text.count("jda_cpu_pack") == 1 and "stablehlo.transpose" not in text
