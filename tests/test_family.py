"""The promise: relatives of the operator compute what the models' own kernels do.

``data/variants_golden.npz`` is what the public kernels of GaussianFormer (per point)
and BIP3D (with depth), compiled as C++ in float64, gave for random inputs.
"""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from jda import family, sparse4d

GOLDEN = np.load(Path(__file__).parent / "data" / "variants_golden.npz")
MAPS = GOLDEN["maps.spatial_shape"], GOLDEN["maps.start"]
pytestmark = pytest.mark.usefixtures("float64")


def assert_close(ours, right, tolerance=1e-12):
    assert ours.shape == right.shape
    scale = np.abs(right).max()
    np.testing.assert_allclose(ours, right, rtol=0, atol=tolerance * scale)


def golden(name):
    """Differentiable arguments, cotangent, result and gradients."""
    of = {k.removeprefix(f"{name}."): v for k, v in GOLDEN.items() if name in k}
    names = ["features", "locations", "weight"]
    if name == "with_depth":
        names.append("depth_prob")
    grads = [of[f"grad.{each}"] for each in names]
    return [of[each] for each in names], of["cotangent"], of["result"], grads


def function(name, implementation):
    def per_point(features, locations, weight):
        return family.deformable_aggregation_func(
            features, *MAPS, locations, weight, implementation=implementation
        )

    def with_depth(features, locations, weight, depth_prob):
        return family.deformable_aggregation_func(
            features,
            *MAPS,
            locations[..., :2],
            weight,
            depth_prob,
            locations[..., 2:],
            implementation=implementation,
        )

    return {"per_point": per_point, "with_depth": with_depth}[name]


@pytest.mark.parametrize("name", ["per_point", "with_depth"])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_what_public_kernels_gave(name, transform, implementation):
    arguments, cotangent, result, grads = golden(name)

    def pull_back(arguments, cotangent):
        out, back = jax.vjp(function(name, implementation), *arguments)
        return out, back(cotangent)

    out, found = transform(pull_back)(arguments, cotangent)
    assert_close(out, result)
    for ours, right in zip(found, grads, strict=True):
        assert_close(ours, right)


@pytest.mark.parametrize("name", ["per_point", "with_depth"])
def test_vmap(name, implementation):
    arguments, cotangent, result, grads = golden(name)

    def of_one(cotangent, *arguments):
        arguments = [x[None] for x in arguments]
        out, back = jax.vjp(function(name, implementation), *arguments)
        return out[0], [x[0] for x in back(cotangent[None])]

    out, found = jax.vmap(of_one)(cotangent, *arguments)
    assert_close(out, result)
    for ours, right in zip(found, grads, strict=True):
        assert_close(ours, right)


def test_points_that_are_summed():
    """With depth, and of several key points an anchor: the sum over its points."""
    (features, locations, weight, depth_prob), _, result, _ = golden("with_depth")
    bs, cam, rows, c = features.shape
    shape = np.broadcast_to(MAPS[0], (cam, *MAPS[0].shape))
    start = MAPS[1] + rows * np.arange(cam)[:, None]

    def anchors(array):
        return array.reshape(bs, 10, 5, *array.shape[2:])

    arguments = (
        features.reshape(bs, -1, c),
        shape,
        start,
        anchors(locations[..., 1::-1]),
        anchors(weight),
        depth_prob.reshape(bs, cam * rows, -1),
        anchors(locations[..., 2]),
    )
    out = family.deformable_aggregation_with_depth(*arguments, coordinate_order="yx")
    assert_close(out, anchors(result).sum(axis=2))


def test_what_is_no_number_contributes_nothing(implementation):
    (features, locations, weight, depth_prob), *_ = golden("with_depth")
    spoilt = locations.copy()
    spoilt[:, ::3, :, 2] = np.nan
    spoilt[:, 1::3, :, 0] = np.inf
    outside = locations.copy()
    outside[:, np.arange(50) % 3 != 2, :, 2] = -1  # the border is not within

    def pull_back(locations):
        call = function("with_depth", implementation)
        out, back = jax.vjp(call, features, locations, weight, depth_prob)
        return out, back(jnp.ones_like(out))

    for ours, right in zip(
        jax.tree.leaves(pull_back(spoilt)),
        jax.tree.leaves(pull_back(outside)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64])
@pytest.mark.parametrize("traced", [False, True])
def test_dtypes_of_indices(dtype, traced):
    """What counts rows of all cameras does not fit into the dtype of one's."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1, 3, 256, 4))
    locations = rng.uniform(size=(1, 5, 3, 2))
    weight = rng.standard_normal((1, 5, 3, 1, 2))

    def call(shape, start):
        return family.deformable_aggregation_func(
            features, shape, start, locations, weight
        )

    indices = np.array([[16, 16]]), np.array([0])
    right = call(*[x.astype(np.int32) for x in indices])
    of_last = family.deformable_aggregation_func(
        features[:, 2:], *indices, locations[:, :, 2:], weight[:, :, 2:]
    )
    assert not np.allclose(right, of_last)
    transform = jax.jit if traced else lambda f: f
    out = transform(call)(*[x.astype(dtype) for x in indices])
    np.testing.assert_array_equal(out, right)


def test_traced_indices_beyond_int32(implementation):
    """They wrap into no map: one that has no samples, or an error of the kernel."""
    features, locations = np.ones((1, 1, 4, 2)), np.full((1, 1, 1, 2), 0.5)
    weight = np.ones((1, 1, 1, 1, 1))

    @jax.jit
    def call(start):
        return family.deformable_aggregation_func(
            features, [[2, 2]], start, locations, weight, implementation=implementation
        )

    np.testing.assert_array_equal(call(np.uint64([0])), np.ones((1, 1, 2)))
    wrong = np.uint64([2**32])
    if implementation == "reference":
        np.testing.assert_array_equal(call(wrong), np.zeros((1, 1, 2)))
    else:
        with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match="start"):
            jax.block_until_ready(call(wrong))


@pytest.mark.parametrize("name", ["per_point", "with_depth"])
@pytest.mark.parametrize("axis", [0, 1], ids=["bs", "pts"])
def test_sizes_of_zero(name, axis):
    arguments, _, result, _ = golden(name)
    pts = {1, 2}
    none = [
        np.take(x, [], axis=axis) if axis == 0 or i in pts else x
        for i, x in enumerate(arguments)
    ]
    out = function(name, None)(*none)
    assert out.shape == np.take(result, [], axis=axis).shape


# Multi-scale deformable attention


LEVELS = np.array([[6, 5], [3, 4], [1, 1]])
STARTS = np.array([0, 30, 42])


def attention_inputs():
    rng = np.random.default_rng(0)
    bs, queries, heads, dim, points = 2, 7, 3, 4, 5
    value = rng.standard_normal((bs, 43, heads, dim))
    # Beyond the border on all sides, by less and by more than half a pixel.
    locations = rng.uniform(-0.3, 1.3, (bs, queries, heads, len(LEVELS), points, 2))
    weight = rng.standard_normal((bs, queries, heads, len(LEVELS), points))
    return value, locations, weight, rng.standard_normal((bs, queries, heads * dim))


def attention_by_grid_sample(value, locations, weight):
    torch = pytest.importorskip("torch")
    bs, _, heads, dim = value.shape
    total: Any = 0
    for level, ((height, width), start) in enumerate(zip(LEVELS, STARTS, strict=True)):
        rows = value[:, start : start + height * width]
        maps = rows.permute(0, 2, 3, 1).reshape(bs * heads, dim, height, width)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        sampled = torch.nn.functional.grid_sample(maps, grid, align_corners=False)
        of_level = weight[:, :, :, level].transpose(1, 2).flatten(0, 1)
        total = total + (sampled * of_level[:, None]).sum(-1)
    out = total.reshape(bs, heads, dim, -1).permute(0, 3, 1, 2)
    return out.reshape(bs, -1, heads * dim)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_multi_scale_deformable_attention(transform, implementation):
    torch = pytest.importorskip("torch")
    *arguments, cotangent = attention_inputs()
    tensors = [torch.tensor(x, requires_grad=True) for x in arguments]
    right = attention_by_grid_sample(*tensors)
    right.backward(torch.tensor(cotangent))

    def attend(value, locations, weight):
        return family.multi_scale_deformable_attn(
            value, LEVELS, STARTS, locations, weight, implementation=implementation
        )

    def pull_back(arguments, cotangent):
        out, back = jax.vjp(attend, *arguments)
        return out, back(cotangent)

    out, found = transform(pull_back)(arguments, cotangent)
    assert_close(out, right.detach().numpy())
    for ours, tensor in zip(found, tensors, strict=True):
        assert_close(ours, tensor.grad.numpy())
    one_by_one = jax.vmap(lambda *x: attend(*[each[None] for each in x])[0])
    assert_close(one_by_one(*arguments), right.detach().numpy())


def fails(error, message, function, *arguments, **keywords):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        function(*arguments, **keywords)


def test_errors_have_the_names_of_the_models():
    (features, locations, weight, depth_prob), *_ = golden("with_depth")
    call = family.deformable_aggregation_func
    fails(
        ValueError,
        "sampling_location has shape (2, 50, 3, 3), expected [bs, pts, cam, 2]",
        *(call, features, *MAPS, locations, weight),
    )
    fails(
        ValueError,
        "weights has pts=49 but sampling_location has pts=50, they must be equal",
        *(call, features, *MAPS, locations[..., :2], weight[:, 1:]),
    )
    fails(
        ValueError,
        "depth is missing: give both depth_prob and depth, or none",
        *(call, features, *MAPS, locations[..., :2], weight, depth_prob),
    )
    value, locations, weight, _ = attention_inputs()
    fails(
        ValueError,
        "value_level_start_index has 42 and value_spatial_shapes (2, 1), but value has "
        "num_keys=43",
        *(family.multi_scale_deformable_attn, value, [[6, 5], [3, 4], [2, 1]], STARTS),
        *(locations, weight),
    )
    assert jda.family is family


def test_dtypes_and_values_have_the_names_of_the_models():
    (features, locations, weight, depth_prob), *_ = golden("with_depth")
    call, locations = family.deformable_aggregation_func, locations[..., :2]
    depth = locations[..., :1]
    fails(
        TypeError,
        "mc_ms_feat has dtype int32, allowed are float32, float64, bfloat16 and "
        "float16",
        *(call, features.astype(np.int32), *MAPS, locations, weight),
    )
    fails(
        TypeError,
        "sampling_location has dtype float32, it must have dtype float64 where "
        "mc_ms_feat has dtype float64",
        *(call, features, *MAPS, np.float32(locations), weight),
    )
    fails(
        ValueError,
        f"weights has group=3, which does not divide c={features.shape[-1]}",
        *(call, features, *MAPS, locations, weight[..., [0, 0, 0]]),
    )
    fails(
        TypeError,
        "scale_start_index has dtype float64, allowed are integers",
        *(call, features, MAPS[0], MAPS[1] + 0.0, locations, weight),
    )
    fails(
        TypeError,
        "spatial_shape is None, it must be an array",
        *(call, features, None, MAPS[1], locations, weight),
    )
    fails(
        TypeError,
        "depth_prob has dtype complex128, allowed are floats and integers",
        *(call, features, *MAPS, locations, weight, depth_prob + 0j, depth),
    )
    fails(
        TypeError,
        "depth has dtype bool, allowed are floats and integers",
        *(call, features, *MAPS, locations, weight, depth_prob, depth > 0),
    )
    value, locations, weight, _ = attention_inputs()
    attend = family.multi_scale_deformable_attn
    fails(
        TypeError,
        "attention_weights has dtype float32, it must have dtype float64 where value "
        "has dtype float64",
        *(attend, value, LEVELS, STARTS, locations, np.float32(weight)),
    )
    fails(
        ValueError,
        "value_spatial_shapes[1] is (0, 16), both sizes must be positive",
        *(attend, value, [[6, 5], [0, 16], [1, 1]], STARTS, locations, weight),
    )


def test_packed_maps_are_to_be_unpacked():
    packed = jda.pack_feature_maps([np.ones((1, 1, 2, 3, 4))])
    arrays = [np.ones(1)] * 4
    for call, count in (
        (family.deformable_aggregation_with_depth, 4),
        (sparse4d.deformable_aggregation_function, 2),
    ):
        with pytest.raises(TypeError, match=rf"unpack it: {call.__name__}\(\*packed"):
            call(packed, *arrays[:count])
