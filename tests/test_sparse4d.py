"""Sparse4D's functions in JAX: names, switches, transformations, errors."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from jda import sparse4d
from jda.sparse4d import instance_bank, names
from tests.support import pages

LAYER = sparse4d.LayerConfig(
    embed_dims=16, num_groups=2, num_levels=2, num_cams=3, num_learnable_pts=2
)
CONFIG = sparse4d.DecoderConfig(
    layer=LAYER,
    num_classes=4,
    num_anchor=12,
    num_temp_instances=5,
    num_decoder=3,
    anchor_embed_dims=(4, 4, 4, 4),
    num_heads=4,
    feedforward_channels=32,
)
SIZES = ((6, 9), (3, 5))
B = 2


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype("f")


def pyramid(batch: int = B, cameras: int = 3, sizes=SIZES, c: int = 16) -> list:
    return [normal(batch, cameras, c, *size) for size in sizes]


PACKED = jda.pack_feature_maps(pyramid())


def metas(seed: int = 0, **motion) -> sparse4d.Metas:
    """Cameras that see about half of what is in front of them."""
    matrix = np.array([[300, 0, 300, 0], [0, 300, 100, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    matrices = matrix * (1 + 0.1 * normal(B, 3, 4, 4, seed=seed))
    sizes = np.tile(np.float32([600, 200]), (B, 3, 1))
    still = {"time_interval": np.zeros(B), "T_temp2cur": np.tile(np.eye(4), (B, 1, 1))}
    given = {"projection_mat": matrices, "image_wh": sizes} | still | motion
    return sparse4d.Metas(**{k: jnp.asarray(v, "float32") for k, v in given.items()})


def near(params):
    """With anchors in front of the cameras, and weights that are not uniform."""
    anchor = normal(CONFIG.num_anchor, 11) + np.eye(11, dtype="f")[2] * 4
    feature = jnp.asarray(0.3 * normal(CONFIG.num_anchor, 16))
    params["instance_bank"] |= {
        "anchor": jnp.asarray(anchor),
        "instance_feature": feature,
    }
    for one in params["layers"].values():
        if "weights_fc" in one:
            shape = one["weights_fc"]["weight"].shape
            one["weights_fc"]["weight"] = jnp.asarray(0.3 * normal(*shape))
    return params


PARAMS = near(sparse4d.decoder.init(jax.random.key(0), CONFIG))
step = jax.jit(sparse4d.decoder.apply, static_argnames=("config", "training"))


def assert_trees_close(found, wanted, tolerance=1e-5):
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    for x, y in leaves:
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


# The operator under Sparse4D's names.


def locations_and_weights(points: int, cameras: int = 3) -> tuple:
    locations = np.random.default_rng(1).uniform(-0.2, 1.2, (B, 4, points, cameras, 2))
    return locations.astype("f"), normal(B, 4, points, cameras, 2, 2)


def test_operator_takes_x_first():
    locations, weights = locations_and_weights(3)
    found = sparse4d.deformable_aggregation_function(*PACKED, locations, weights)
    wanted = jda.deformable_aggregation(*PACKED, locations[..., ::-1], weights)
    np.testing.assert_array_equal(found, wanted)


def test_rows_of_no_map():
    features, shapes, starts = PACKED
    padded = jnp.pad(features, ((0, 0), (3, 4), (0, 0)), constant_values=np.nan)
    rest = (shapes, starts + np.int32(3), *locations_and_weights(3))
    found = sparse4d.deformable_aggregation_function(padded, *rest)
    wanted = sparse4d.deformable_aggregation_function(*PACKED, *rest[2:])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("traced", [False, True])
def test_operator_of_v2(traced):
    """A camera axis; one result for each point, which v3's operator adds up."""
    locations, weights = locations_and_weights(3)
    flat = [x.reshape(B, 12, *x.shape[3:]) for x in (locations, weights)]
    rows = jnp.asarray(PACKED.feature_maps).reshape(B, 3, -1, 16)
    index = np.int32(SIZES), np.int32([0, 54])
    call = sparse4d.deformable_aggregation_function_v2
    found = (jax.jit(call) if traced else call)(rows, *index, *flat)
    wanted = sparse4d.deformable_aggregation_function(*PACKED, locations, weights)
    summed = found.reshape(B, 4, 3, 16).sum(axis=2)
    np.testing.assert_allclose(summed, wanted, rtol=1e-5, atol=1e-5)


def test_format_of_groups():
    """Cameras of three sizes: maps of later groups start behind the earlier ones."""
    groups = [pyramid(cameras=2), pyramid(cameras=1, sizes=((4, 4), (2, 2)))]
    groups.append(pyramid(cameras=3, sizes=((2, 7), (1, 3))))
    packed = sparse4d.feature_maps_format(groups)
    ends = np.cumsum(packed.spatial_shape.prod(axis=-1).ravel())
    starts = packed.scale_start_index.ravel().tolist()
    assert starts == [0, *ends[:-1].tolist()]
    back = sparse4d.feature_maps_format(packed, inverse=True)
    assert_trees_close(back, groups, tolerance=0)


def test_format_of_one_group():
    packed = sparse4d.feature_maps_format(pyramid())
    assert_trees_close(packed, PACKED, tolerance=0)
    assert_trees_close(
        sparse4d.feature_maps_format(packed, inverse=True), [pyramid()], tolerance=0
    )


# The layer.


def layer_inputs() -> tuple:
    anchor = PARAMS["instance_bank"]["anchor"][None].repeat(B, axis=0)
    instances = jnp.asarray(normal(B, CONFIG.num_anchor, 16))
    return instances, anchor, 0.5 * instances, PACKED, *metas()[:2]


def layer_params(config=LAYER, seed: int = 0):
    return sparse4d.layer.init(jax.random.key(seed), config)


def test_batch_and_vmap():
    """A vmap over elements gives what the batch gives."""
    params = PARAMS["layers"]["0"]
    inputs = layer_inputs()
    wanted = sparse4d.layer.apply(params, LAYER, *inputs)
    alone = jax.tree.map(lambda x: x[:, None], inputs)
    found = jax.vmap(partial(sparse4d.layer.apply, params, LAYER))(*alone)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5, atol=1e-5)


def test_samples_are_what_the_layer_aggregates():
    params, config = PARAMS["layers"]["0"], replace(LAYER, residual_mode="none")
    feature, anchor, embed, packed, *geometry = layer_inputs()
    locations, weight = sparse4d.layer.samples(
        params, config, feature, anchor, embed, *geometry
    )
    sampled = jda.deformable_aggregation(
        *packed, locations, weight, coordinate_order="xy"
    )
    project = params["output_proj"]
    wanted = sampled @ project["weight"].T + project["bias"][None, None]
    found = sparse4d.layer.apply(params, config, *layer_inputs())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_drop_out_of_pairs():
    """What is dropped is a whole pair of camera and key point; the mean stays."""
    config = replace(LAYER, attn_drop=0.5, residual_mode="none")
    apply = partial(
        sparse4d.layer.apply, PARAMS["layers"]["0"], config, *layer_inputs()
    )
    keys = jax.random.split(jax.random.key(0), 2000)
    found = jax.lax.map(lambda key: apply(key=key), keys, batch_size=100)
    wanted = apply()
    error = np.abs(found.mean(axis=0) - wanted) / (found.std(axis=0) + 1e-6)
    assert error.max() < 6 / np.sqrt(len(keys))
    assert found.std(axis=0).max() > 0.01


def test_nothing_visible_gives_no_nan():
    config = replace(LAYER, mask_invisible=True)
    params = layer_params(config)
    feature, anchor, *rest = layer_inputs()
    behind = anchor.at[..., 2].set(-5.0).at[..., 3:6].set(-2.0)

    def loss(params, feature, anchor):
        out = sparse4d.layer.apply(params, config, feature, anchor, *rest)
        return jnp.square(out).sum()

    gradients = jax.grad(loss, argnums=(0, 1, 2))(params, feature, behind)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_depth_of_zero_gives_no_nan():
    params = PARAMS["layers"]["0"]
    feature, anchor, *rest = layer_inputs()

    def loss(anchor):
        return sparse4d.layer.apply(params, LAYER, feature, anchor, *rest).sum()

    on_plane = anchor.at[..., 2].set(0.0).at[..., 3:6].set(-100.0)
    assert np.isfinite(jax.grad(loss)(on_plane)).all()


# The whole head.


def test_frozen_parameters():
    """No gradient reaches what upstream does not train, and all the rest gets some."""

    def loss(params):
        outputs, _ = step(params, CONFIG, PACKED, metas(), training=True)
        leaves = jax.tree.leaves(outputs)
        return sum(jnp.vdot(x, normal(*x.shape, seed=7)) for x in leaves)

    trained = sparse4d.trainable(PARAMS)
    gradients = jax.grad(loss)(PARAMS)
    for name, x in sparse4d.state_dict_from_params(gradients).items():
        if name.endswith(("fix_scale", "instance_feature")):
            assert not x.any(), name
        elif "attn" not in name and "quality" not in name:
            assert x.any(), name
    assert not trained["instance_bank"]["instance_feature"]
    assert trained["instance_bank"]["anchor"]


def test_thawed_layer():
    inputs = layer_inputs()

    def loss(params, config):
        return sparse4d.layer.apply(params, config, *inputs).sum()

    for freeze in (True, False):
        config = replace(LAYER, freeze=freeze)
        gradient = jax.grad(loss)(PARAMS["layers"]["0"], config)
        assert gradient["kps_generator"]["fix_scale"].any() != freeze


def test_training_says_everything():
    outputs, state = step(PARAMS, CONFIG, PACKED, metas(), training=True)
    assert all(x is not None for x in (*outputs.classification, *outputs.quality))
    assert outputs.instance_id is None
    alone, _ = step(PARAMS, CONFIG, PACKED, metas())
    assert [x is None for x in alone.classification] == [False, True, False]
    np.testing.assert_allclose(outputs.prediction[-1], alone.prediction[-1], atol=1e-5)
    assert (state.instance_id == instance_bank.NO_ID).all()


def test_drop_out_needs_a_key():
    apply = partial(step, PARAMS, CONFIG, PACKED, metas(), training=True)
    plain = apply()[0].prediction[-1]
    one, same, other = (
        apply(key=jax.random.key(seed))[0].prediction[-1] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (np.asarray(one) != other).any()
    assert (np.asarray(one) != plain).any()


def frames(number: int, **motion) -> sparse4d.Metas:
    each = [metas(seed, **motion) for seed in range(number)]
    return jax.tree.map(lambda *x: jnp.stack(x), *each)


def test_scan_and_gradient():
    """A sequence in one scan is the frames one by one; gradients stay in a frame."""
    many = frames(3, time_interval=np.full(B, 0.5))

    def scanned(params):
        def body(state, one):
            outputs, state = sparse4d.decoder.apply(params, CONFIG, PACKED, one, state)
            return state, outputs.prediction[-1]

        return jax.lax.scan(body, sparse4d.init_state(CONFIG, B), many)

    state, found = scanned(PARAMS)
    here = None
    for frame in range(3):
        outputs, here = step(
            PARAMS, CONFIG, PACKED, jax.tree.map(lambda x, f=frame: x[f], many), here
        )
        np.testing.assert_allclose(
            found[frame], outputs.prediction[-1], rtol=1e-3, atol=1e-3
        )
    assert_trees_close(state, here, tolerance=2e-3)
    gradient = jax.grad(lambda params: scanned(params)[1].sum())(PARAMS)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    cached = jax.grad(lambda params: scanned(params)[0].feature.sum())(PARAMS)
    assert not any(x.any() for x in jax.tree.leaves(cached))


def second_frame(config=CONFIG, elements=None, **motion):
    first, state = step(PARAMS, config, PACKED, metas())
    if elements is not None:
        state = sparse4d.reset(state, jnp.asarray(elements))
    second, _ = step(PARAMS, config, PACKED, metas(1, **motion), state)
    return first, second


def fresh():
    return step(PARAMS, CONFIG, PACKED, metas(1))[0]


def test_reset_of_one_element():
    """It is a first frame for that element alone; ids go on."""
    first, second = second_frame(elements=[True, False])
    wanted = fresh().prediction[-1]
    np.testing.assert_allclose(second.prediction[-1][0], wanted[0], atol=1e-4)
    assert np.abs(second.prediction[-1][1] - wanted[1]).max() > 1e-2
    assert second.instance_id[0].min() > first.instance_id.max()
    assert (
        len(set(second.instance_id[1].tolist()) & set(first.instance_id[1].tolist()))
        == 5
    )


@pytest.mark.parametrize("reset_on_gap", [False, True])
def test_gap(reset_on_gap):
    """Upstream still attends to what it cached before a gap; the switch does not."""
    config = replace(CONFIG, reset_on_gap=reset_on_gap)
    _, second = second_frame(config, time_interval=np.array([900.0, 0.5]))
    difference = np.abs(second.prediction[-1] - fresh().prediction[-1]).max(axis=(1, 2))
    assert (difference[0] < 1e-4) == reset_on_gap
    assert difference[1] > 1e-2
    assert second.instance_id[0].min() >= 2 * CONFIG.num_anchor


def test_swap_of_sine_and_cosine():
    """Without motion the switch is all that changes a cached anchor."""
    anchor = jnp.asarray(normal(B, 5, 11))
    still = jnp.tile(jnp.eye(4), (B, 1, 1)), jnp.zeros(B)
    right = instance_bank.move(anchor, *still, swap_yaw=False)
    np.testing.assert_allclose(right, anchor, rtol=1e-6)
    swapped = instance_bank.move(anchor, *still, swap_yaw=True)
    np.testing.assert_allclose(swapped[..., 6:8], anchor[..., [7, 6]], rtol=1e-6)


def test_single_frame():
    """Without cached instances there is no state, and no id."""
    config = replace(CONFIG, num_temp_instances=0, num_single_frame_decoder=3)
    assert "temp_gnn" not in config.operations
    params = sparse4d.decoder.init(jax.random.key(0), config)
    outputs, state = step(params, config, PACKED, metas())
    assert (state, outputs.instance_id) == (None, None)


def test_times_and_poses_in_float64():
    """Seconds since 1970 and coordinates of a city: differences keep their digits."""
    pose = np.tile(np.eye(4), (2, 1, 1, 1))
    pose[:, 0, :3, 3] = [[600_000.25, 4_000_000, 0], [600_000.75, 4_000_000, 0]]
    times = np.array([[1_532_402_927.6], [1_532_402_928.1]])
    motion = sparse4d.sequence_motion(times, pose)
    np.testing.assert_allclose(motion.time_interval[:, 0], [0, 0.5], atol=1e-6)
    np.testing.assert_allclose(motion.T_temp2cur[1, 0, :3, 3], [-0.5, 0, 0], atol=1e-6)
    alone = sparse4d.ego_motion(times[1], pose[1], times[0], pose[0])
    assert_trees_close(alone, jax.tree.map(lambda x: x[1], motion), tolerance=0)
    assert alone.T_temp2cur.dtype == np.float32


# Boxes.


def decoded(ids: bool = True, **switches):
    prediction, classes = normal(B, 12, 11), normal(B, 12, 4)
    quality = 3 * normal(B, 12, 2)
    instance_id = jnp.arange(B * 12).reshape(B, 12) if ids else None
    arrays = map(jnp.asarray, (prediction, classes, quality))
    found = sparse4d.decode(*arrays, instance_id, num_output=6, **switches)
    return prediction, 1 / (1 + np.exp(-classes)), 1 / (1 + np.exp(-quality)), found


@pytest.mark.parametrize("sort_cls_scores", [False, True])
def test_decoded_boxes(sort_cls_scores):
    """Upstream's class scores are those of the boxes only with the switch."""
    prediction, classes, quality, found = decoded(sort_cls_scores=sort_cls_scores)
    row = np.asarray(found.instance_ids) % 12
    for b in range(B):
        own = classes[b, row[b], found.labels_3d[b]]
        np.testing.assert_allclose(
            found.scores_3d[b], own * quality[b, row[b], 0], rtol=1e-5
        )
        assert (np.diff(found.scores_3d[b]) <= 0).all()
        shown = own if sort_cls_scores else np.sort(own)[::-1]
        np.testing.assert_allclose(found.cls_scores[b], shown, rtol=1e-5)
        sizes = np.exp(prediction[b, row[b], 3:6])
        np.testing.assert_allclose(found.boxes_3d[b, :, 3:6], sizes, rtol=1e-5)
    assert (np.asarray(found.cls_scores[0]) != np.sort(found.cls_scores[0])).any()


def test_decoded_without_ids():
    """Any number of classes of one instance are candidates."""
    _, classes, quality, found = decoded(ids=False)
    fused = classes * quality[..., :1]
    candidates = np.argsort(-classes.reshape(B, -1), axis=1)[:, :6]
    wanted = np.take_along_axis(fused.reshape(B, -1), candidates, axis=1)
    np.testing.assert_allclose(found.scores_3d, -np.sort(-wanted), rtol=1e-5)
    assert found.instance_ids is None


# Errors.


def test_errors_of_configurations():
    with pytest.raises(ValueError, match="num_groups=3 does not divide embed_dims=16"):
        replace(LAYER, num_groups=3)
    with pytest.raises(ValueError, match="residual_mode='both' is unknown"):
        replace(LAYER, residual_mode="both")
    with pytest.raises(ValueError, match="add up to 17"):
        replace(CONFIG, anchor_embed_dims=(4, 4, 4, 5))
    with pytest.raises(ValueError, match="num_temp_instances=13"):
        replace(CONFIG, num_temp_instances=13)
    with pytest.raises(ValueError, match="operation_order has 0 refinements"):
        replace(CONFIG, operation_order=("norm",))
    with pytest.raises(ValueError, match="operation_order='sum' is unknown"):
        replace(CONFIG, operation_order=("sum", "refine"))
    with pytest.raises(ValueError, match=r"^attn_drop=1\.0, it must be in \[0, 1\)$"):
        replace(LAYER, attn_drop=1.0)
    with pytest.raises(ValueError, match=r"^proj_drop=-0\.5, "):
        replace(LAYER, proj_drop=-0.5)
    with pytest.raises(ValueError, match=r"^dropout=nan, "):
        replace(CONFIG, dropout=float("nan"))
    with pytest.raises(ValueError, match=r"^num_learnable_pts=-1, it must not be nega"):
        replace(LAYER, num_learnable_pts=-1)
    message = "^num_single_frame_decoder=3, allowed are -1 to num_decoder=2$"
    with pytest.raises(ValueError, match=message):
        sparse4d.DecoderConfig(num_decoder=2, num_single_frame_decoder=3)


@pytest.mark.parametrize(("ids", "candidates"), [(None, 12), (np.arange(4)[None], 4)])
def test_more_boxes_than_candidates(ids, candidates):
    logits = np.zeros((1, 4, 3)), None, ids
    decode = partial(sparse4d.boxes.decode, np.zeros((1, 4, 11)), *logits)
    assert decode(num_output=candidates).scores_3d.shape == (1, candidates)
    message = f"^num_output=300, allowed are 0 to the {candidates} candidates$"
    with pytest.raises(ValueError, match=message):
        decode()


def test_half_of_a_motion():
    for name in ("previous_timestamp", "previous_T_global"):
        given = {"previous_timestamp": [0.0], "previous_T_global": [np.eye(4)]}
        del given[name]
        with pytest.raises(ValueError, match=f"^{name} is missing: give both"):
            sparse4d.ego_motion([1.0], [np.eye(4)], **given)


@pytest.mark.parametrize("dtype", [bool, int, np.uint8])
def test_elements_to_reset(dtype):
    state = sparse4d.init_state(CONFIG, 3)
    state = state._replace(valid=jnp.ones(3, bool), next_id=jnp.int32(5))
    found = sparse4d.reset(state, np.array([0, 1, 0], dtype))
    assert found.valid.dtype == bool
    assert found.valid.tolist() == [True, False, True]
    assert found.next_id == 5


def test_errors_of_state_dicts():
    given = sparse4d.state_dict_from_params(layer_params())
    read = partial(sparse4d.params_from_state_dict, config=LAYER)
    bias = given.pop("output_proj.bias")
    with pytest.raises(ValueError, match=r"state_dict lacks output_proj\.bias"):
        read(given)
    with pytest.raises(ValueError, match=r"unknown output_proj\.scale"):
        read({**given, "output_proj.bias": bias, "output_proj.scale": bias})
    with pytest.raises(ValueError, match=r"bias'\] has shape \(2,\), .* needs \(16,\)"):
        read({**given, "output_proj.bias": bias[:2]})
    with pytest.raises(TypeError, match="float64"):
        read({**given, "output_proj.bias": bias.astype(np.float64)})


def test_state_needs_motion():
    alone = sparse4d.Metas(*metas()[:2])
    with pytest.raises(ValueError, match="metas has no time_interval"):
        step(PARAMS, CONFIG, PACKED, alone, sparse4d.init_state(CONFIG, B))


def test_start_of_training():
    """Softmax uniform, classes rare, offsets in the box, the table as configured."""
    params = sparse4d.decoder.init(jax.random.key(3), CONFIG)
    layer = params["layers"]["0"]
    assert not layer["weights_fc"]["weight"].any()
    np.testing.assert_allclose(layer["kps_generator"]["fix_scale"], LAYER.fix_scale)
    refinement = params["layers"]["3"]
    rare = jax.nn.sigmoid(refinement["cls_layers"]["6"]["bias"])
    np.testing.assert_allclose(rare, 0.01, rtol=1e-5)
    np.testing.assert_array_equal(refinement["layers"]["11"]["scale"], 1)
    shapes = names.of_decoder(CONFIG)
    found = sparse4d.state_dict_from_params(params)
    assert {name: x.shape for name, x in found.items()} == shapes


def test_the_guide_runs(capsys):
    found = pages.run("docs/sparse4d.md", strict=True)
    assert found["boxes"].boxes_3d.shape == (3, 1, 5, 10)
    assert sorted(found["layer_params"]) == sorted(found["params"]["layers"]["0"])
