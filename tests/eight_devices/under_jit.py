"""The promise: under jit, arrays that are split stay split, and reductions are few.

Run by tests/test_sharding.py in a process with eight devices.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jda
from tests.eight_devices import scene
from tests.eight_devices.scene import (
    COTANGENT,
    INPUTS,
    SPLITS,
    forward,
    pull_back,
    push_forward,
    put,
    run,
)
from tests.support import cases, oracle

MAPS = (((4, 3), (2, 2)), ((3, 3), (1, 5)))

# Reductions of the forward (and the tangent), and of the backward.
COUNTS = {
    "batch": (0, 0),
    "anchor": (0, 1),  # gradient of the features
    "group": (0, 1),  # gradient of the locations
    "point": (1, 1),
    "camera": (1, 1),
}


@pytest.mark.parametrize("axis", SPLITS)
def test_one_axis(axis):
    mesh = scene.mesh((8,), ("x",))
    inputs = put(INPUTS, SPLITS[axis]("x"), mesh)
    once, back = COUNTS[axis]

    out, found = run(forward, inputs)
    assert found == scene.reductions(once)
    assert out.sharding.is_equivalent_to(
        NamedSharding(mesh, scene.RESULTS[axis]("x")), 3
    )
    scene.assert_forward(out)

    grads, found = run(pull_back, inputs)
    assert found == scene.reductions(back)
    for i, grad in zip(cases.FLOATS, grads, strict=True):
        assert grad.sharding.is_equivalent_to(inputs[i].sharding, grad.ndim)
    scene.assert_gradients(grads)

    tangent, found = run(push_forward, inputs)
    assert found == scene.reductions(once)
    scene.assert_tangent(tangent)


GROUP = (None, None, None)
SEVERAL = {
    "batch, anchor, group": (
        (P("x", None, "z"), P(), P(), P("x", "y"), P("x", "y", *GROUP, "z")),
        (0, 2),
    ),
    "batch, anchor, camera": (
        (P("x"), P("z"), P("z"), P("x", "y", None, "z"), P("x", "y", None, "z")),
        (1, 1),
    ),
    "point over two, camera": (
        (P(), P("y"), P("y"), *2 * [P(None, None, ("z", "x"), "y")]),
        (1, 1),
    ),
    "batch over three": (
        (P(("y", "z", "x")), P(), P(), *2 * [P(("y", "z", "x"))]),
        (0, 0),
    ),
    "group over two": (
        (P(None, None, ("x", "z")), P(), P(), P(), P(*5 * [None], ("x", "z"))),
        (0, 1),
    ),
    "scale": ((P(), P(None, "x"), P(None, "x"), P(), P(*4 * [None], "x")), (1, 1)),
    "scale of the weight": ((*4 * [P()], P(*4 * [None], "x")), (1, 1)),
    "camera, all maps known": (
        (*3 * [P()], *2 * [P(*GROUP, ("x", "y", "z"))]),
        (1, 1),
    ),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_axes(name):
    specs, (once, back) = SEVERAL[name]
    inputs = put(INPUTS, specs, scene.mesh((2, 2, 2), ("x", "y", "z")))
    out, found = run(forward, inputs)
    assert found == scene.reductions(once)
    scene.assert_forward(out)
    grads, found = run(pull_back, inputs)
    assert found == scene.reductions(back)
    scene.assert_gradients(grads)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5, 6, 7), (7, 2, 4, 0, 1, 6, 3, 5)])
def test_any_order_of_the_devices(order):
    devices = np.array(jax.devices())[list(order)].reshape(2, 4).T
    mesh = jax.sharding.Mesh(devices, ("x", "y"))
    specs = (P("y", None, "x"), P(), P(), P("y"), P("y", *4 * [None], "x"))
    grads, found = run(pull_back, put(INPUTS, specs, mesh))
    assert found == scene.reductions(1)
    scene.assert_gradients(grads)


ALONE = {
    "anchors of the weight": (*4 * [P()], P(None, "x")),
    "groups of the weight": (*4 * [P()], P(*5 * [None], "x")),
    "channels of the features": (P(None, None, "x"), *4 * [P()]),
    "batch of the features": (P("x"), *4 * [P()]),
}


@pytest.mark.parametrize("name", ALONE)
def test_one_array_that_is_split_is_enough(name):
    inputs = put(INPUTS, ALONE[name], scene.mesh((8,), ("x",)))
    out, found = run(forward, inputs)
    assert found == {}
    assert not out.sharding.is_fully_replicated
    scene.assert_forward(out)


def test_where_shardings_disagree_the_values_are_right():
    """The same devices split the batch of the features and the anchors of the rest."""
    specs = (P("x"), P(), P(), P(None, "x"), P(None, None, "x"))
    inputs = put(INPUTS, specs, scene.mesh((8,), ("x",)))
    scene.assert_forward(run(forward, inputs)[0])
    scene.assert_gradients(run(pull_back, inputs)[0])


def test_rows_of_the_features_are_gathered_once():
    mesh = scene.mesh((8,), ("x",))
    rows = INPUTS.feature_maps.shape[1]
    more = np.pad(INPUTS.feature_maps, [(0, 0), (0, -rows % 8), (0, 0)])
    inputs = put([more, *INPUTS[1:]], (P(None, "x"), *4 * [P()]), mesh)
    out, found = run(forward, inputs)
    assert found == {"all-gather": 1}
    scene.assert_forward(out)
    grads, found = run(pull_back, inputs)
    assert found == {"all-gather": 1}
    scene.assert_gradients([grads[0][:, :rows], *grads[1:]])


def test_coordinates_are_gathered_once():
    specs = (*3 * [P()], P(*4 * [None], "x"), P())
    inputs = put(INPUTS, specs, scene.mesh((2,), ("x",)))
    for function, check in (
        (forward, scene.assert_forward),
        (pull_back, scene.assert_gradients),
    ):
        result, found = run(function, inputs)
        assert found == {"all-gather": 1}
        check(result)


def test_what_is_not_wanted_is_not_reduced():
    """Of split groups, the gradient of the locations alone is a sum over devices."""
    inputs = put(INPUTS, SPLITS["group"]("x"), scene.mesh((8,), ("x",)))

    def of_features(features, *rest):
        return jax.vjp(lambda f: forward(f, *rest), features)[1](jnp.asarray(COTANGENT))

    (grad,), found = run(of_features, inputs)
    assert found == {}
    right, scale = scene.judged().grads, scene.judged().grad_scales
    oracle.assert_within(grad, right.feature_maps, scale.feature_maps)


def test_a_result_can_ask_for_the_split():
    sharding = NamedSharding(scene.mesh((8,), ("x",)), P(None, "x"))
    out = jax.jit(forward, out_shardings=sharding)(*INPUTS)
    assert out.sharding == sharding
    scene.assert_forward(out)


def test_an_eager_call_keeps_the_split():
    inputs = put(INPUTS, SPLITS["anchor"]("x"), scene.mesh((8,), ("x",)))
    out = forward(*inputs)
    assert out.sharding.is_equivalent_to(inputs[3].sharding, 2)
    scene.assert_forward(out)


def test_the_reference_is_split_as_well():
    inputs = put(INPUTS, SPLITS["camera"]("x"), scene.mesh((8,), ("x",)))
    out, found = run(lambda *x: forward(*x, implementation="reference"), inputs)
    assert found == scene.reductions(1)
    scene.assert_forward(out)


# Channels are one axis of the features and two of the sampling: groups and what is in
# one. A split of the channels may be a split of groups, within groups, or across them.


@pytest.mark.parametrize(
    ("channels", "groups"), [(8, 1), (16, 2), (24, 3), (8, 8), (24, 6)]
)
@pytest.mark.parametrize("sizes", [(8,), (2, 4), (3, 2), (6,)], ids=str)
def test_channels_and_groups(channels, groups, sizes):
    shape = cases.Shape(MAPS, batch=1, anchors=2, channels=channels, groups=groups)
    inputs = cases.make(shape, seed=channels)
    judged = cases.judge(inputs)
    names = ("x", "y")[: len(sizes)]
    mesh = scene.mesh(sizes, names)
    for of_features, of_weight in (
        (names, None),
        ("x", "x"),
        (names, "x"),
        (None, "x"),
    ):
        specs = (P(None, None, of_features), *3 * [P()], P(*5 * [None], of_weight))
        try:
            split = put(inputs, specs, mesh)
        except ValueError:  # Their number does not divide by that of the devices.
            continue
        out = jax.jit(forward)(*split)
        oracle.assert_within(out, judged.out, judged.out_scale)
        grads = jax.jit(lambda *x: pull_back(*x, bar=judged.cotangent))(*split)
        cases.assert_gradients_within(grads, judged)


def test_channels_within_a_group():
    """Both gradients that are sums over channels are reduced together."""
    inputs = cases.make(cases.Shape(MAPS, batch=2, anchors=2, channels=16, groups=1))
    judged = cases.judge(inputs)
    split = put(inputs, (P(None, None, "x"), *4 * [P()]), scene.mesh((8,), ("x",)))
    assert run(forward, split)[1] == {}
    grads, found = run(lambda *x: pull_back(*x, bar=judged.cotangent), split)
    assert found == scene.reductions(1)
    cases.assert_gradients_within(grads, judged)


@pytest.mark.parametrize("devices", [8, 6])
def test_a_split_that_goes_through_a_reshape(devices):
    """Part of the mesh axis splits the points, the rest of it the cameras."""
    shape = cases.Shape(3 * MAPS, points=4 if devices == 8 else 3, batch=1, anchors=2)
    inputs = cases.make(shape)
    flat = inputs.weight.reshape(*inputs.weight.shape[:2], -1)

    def of_flat(features, spatial_shape, start, locations, flat):
        weight = flat.reshape(inputs.weight.shape)
        return forward(features, spatial_shape, start, locations, weight)

    specs = (*4 * [P()], P(None, None, "x"))
    split = put([*inputs[:4], flat], specs, scene.mesh((devices,), ("x",)))
    out, found = run(of_flat, split)
    assert found == scene.reductions(1)
    judged = cases.judge(inputs)
    oracle.assert_within(out, judged.out, judged.out_scale)


def test_parts_of_different_sizes():
    def some(features, spatial_shape, start, locations, weight):
        return forward(features, spatial_shape, start, locations[:, :5], weight[:, :5])

    inputs = put(INPUTS, SPLITS["anchor"]("x"), scene.mesh((8,), ("x",)))
    out = jax.jit(some)(*inputs)
    right, scale = (x[:, :5] for x in (scene.judged().out, scene.judged().out_scale))
    oracle.assert_within(out, right, scale)


def test_empty_arrays():
    inputs = cases.make(cases.Shape(MAPS, batch=8, points=0, channels=16, groups=8))
    inputs = put(inputs, SPLITS["group"]("x"), scene.mesh((8,), ("x",)))
    assert not np.asarray(jax.jit(forward)(*inputs)).any()


def test_in_float64(float64):
    wide = [x.astype(np.float64) if x.dtype == np.float32 else x for x in INPUTS]
    inputs = put(wide, SPLITS["camera"]("x"), scene.mesh((8,), ("x",)))
    out = jax.jit(forward)(*inputs)
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, scene.judged().out, rtol=0, atol=1e-12)


# Inside other transformations.


def test_vmap_over_a_split_axis():
    sets = np.stack([INPUTS.sample_locations] * 8)
    specs = (P(), P(), P(), P("x"), P())
    inputs = put([*INPUTS[:3], sets, INPUTS.weight], specs, scene.mesh((8,), ("x",)))
    outs, found = run(jax.vmap(forward, (None, None, None, 0, None)), inputs)
    assert found == {}
    for out in outs:
        scene.assert_forward(out)


def test_vmap_over_examples():
    """A function of one example, mapped over the batch, which is split."""

    def one(features, spatial_shape, start, locations, weight):
        arrays = features[None], spatial_shape, start, locations[None], weight[None]
        return forward(*arrays)[0]

    inputs = put(INPUTS, SPLITS["batch"]("x"), scene.mesh((8,), ("x",)))
    out, found = run(jax.vmap(one, (0, None, None, 0, 0)), inputs)
    assert found == {}
    scene.assert_forward(out)


def test_scan_and_checkpoint():
    inputs = put(INPUTS, SPLITS["batch"]("x"), scene.mesh((8,), ("x",)))

    def three_times(*inputs):
        def add(total, _):
            return total + jax.checkpoint(forward)(*inputs), None

        return jax.lax.scan(add, jnp.zeros_like(COTANGENT), None, length=3)[0]

    grads, found = run(lambda *x: pull_back(*x, operator=three_times), inputs)
    assert found == {}
    scene.assert_gradients([grad / 3 for grad in grads])


def test_second_order():
    inputs = put(INPUTS, SPLITS["camera"]("x"), scene.mesh((8,), ("x",)))
    scene.assert_curvature(jax.jit(scene.curvature)(*inputs))


def test_programs_that_differ_have_different_texts():
    """Or the persistent compilation cache could take one for another."""
    inputs = put(INPUTS, SPLITS["camera"]("x"), scene.mesh((8,), ("x",)))

    def text(**keywords):
        lowered = jax.jit(lambda *x: forward(*x, **keywords)).lower(*inputs).as_text()
        assert "CustomSPMDPartitioning" in lowered
        return re.sub(r'backend_config = "\d+"', "", lowered)

    assert text() == text(coordinate_order="yx")
    assert text() != text(coordinate_order="xy")
    assert text() != text(implementation="reference")


# Programs of one device, and programs without devices.


def test_one_of_many_devices_pays_nothing():
    inputs = put(INPUTS, SPLITS["camera"]("x"), scene.mesh((1,), ("x",)))
    text = jax.jit(forward).lower(*inputs).as_text()
    assert "Partitioning" not in text
    if jda.implementations()["cpu"].available:
        assert text.count("stablehlo.custom_call @jda_cpu_forward") == 1


def test_two_meshes_in_one_program():
    first, second = scene.mesh((8,), ("x",)), scene.mesh((2, 4), ("u", "v"))

    def both(features, spatial_shape, start, locations, weight):
        sharding = NamedSharding(second, P(None, ("u", "v")))
        locations = jax.lax.with_sharding_constraint(locations, sharding)
        return forward(features, spatial_shape, start, locations, weight)

    out, found = run(both, put(INPUTS, SPLITS["anchor"]("x"), first))
    assert found == {}
    scene.assert_forward(out)


def test_lowering_without_devices():
    mesh = AbstractMesh((16,), ("x",))
    shapes = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, P()))
        for x in INPUTS
    ]
    lowered = jax.jit(forward).trace(*shapes).lower(lowering_platforms=("cpu",))
    assert "sdy.sharding_rule" in lowered.as_text()


def test_arrays_on_two_devices():
    first, second = jax.devices()[:2]
    arrays = [jax.device_put(x, first) for x in INPUTS]
    arrays[-1] = jax.device_put(arrays[-1], second)
    message = (
        f"weight is on {second} but feature_maps is on {first}; put them on the same "
        "devices by jax.device_put"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        jda.deformable_aggregation(*arrays)
    with_numpy = [*arrays[:1], *map(np.asarray, arrays[1:])]  # which goes anywhere
    assert jda.deformable_aggregation(*with_numpy).devices() == {first}


@pytest.mark.parametrize("spec", [P("x"), P(None, "x"), P()], ids=str)
def test_packing_keeps_maps_where_they_are(spec):
    rng = np.random.default_rng(0)
    sizes = [(6, 5), (3, 2)]
    maps = [rng.normal(size=(8, 8, 4, h, w)).astype(np.float32) for h, w in sizes]
    right = np.asarray(jda.pack_feature_maps(maps).feature_maps)
    split = jax.device_put(maps, NamedSharding(scene.mesh((8,), ("x",)), spec))
    pack = jax.jit(lambda maps: jda.pack_feature_maps(maps).feature_maps)
    out, found = run(pack, (split,))
    np.testing.assert_array_equal(out, right)
    assert found == {} and out.sharding.is_equivalent_to(
        NamedSharding(scene.mesh((8,), ("x",)), spec), 3
    )
    grads = jax.jit(jax.grad(lambda maps: jnp.sum(pack(maps) ** 2)))(split)
    for grad, scale in zip(grads, maps, strict=True):
        np.testing.assert_array_equal(grad, 2 * scale)
