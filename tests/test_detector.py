"""The promise: the detector of the examples sees what is there, and learns it."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scene
from detector import metric, world

from jda import sparse4d
from jda.sparse4d import instance_bank
from jda.sparse4d.projection import project_points
from tests.support.implementations import ROOT

optimize = pytest.importorskip("scipy.optimize")
train_detector = pytest.importorskip("train_detector")
from detector import losses, model, picture, training  # noqa: E402 (needs optax too)


@pytest.fixture(autouse=True, scope="module")
def usual_promotion():
    """The examples are written for JAX as most have it."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def frames() -> world.Frame:
    return world.see(world.draw_scenes(5, range(4)))


# What stands there, and what is seen of it.


@pytest.mark.parametrize("camera", scene.camera_rig(), ids=lambda camera: camera.name)
def test_every_pixel_of_a_box_lies_on_its_surface(camera):
    boxes = scene.traffic(np.random.default_rng(1))
    seen = jax.tree.map(np.asarray, scene.look(*camera[1:], boxes, 8))
    v, u = np.nonzero(seen.box >= 0)
    assert len(v) > 50
    pixel = np.stack([8 * u + 4, 8 * v + 4, np.ones_like(u)], -1)
    rays = pixel @ np.linalg.inv(camera.intrinsics).T @ camera.rotation
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    spot = camera.position + seen.distance[v, u, None] * rays
    box = scene.Boxes(*(field[seen.box[v, u]] for field in boxes))
    offset = np.stack(scene.into_box(box, spot - box.centre), -1)
    np.testing.assert_allclose(np.abs(2 * offset / box.size).max(-1), 1, atol=1e-3)
    yx, depth = scene.project(camera, spot)
    there = np.stack([v + 0.5, u + 0.5], -1) * 8 / [scene.HEIGHT, scene.WIDTH]
    np.testing.assert_allclose(yx, there, atol=1e-4)
    assert (depth > 0).all()


def test_the_matrices_project_as_the_cameras_do():
    points = np.random.default_rng(2).uniform([-20, -20, 0], [20, 20, 3], (50, 3))
    matrices = world.projection_matrices()[None]
    size = jnp.tile(jnp.float32([scene.WIDTH, scene.HEIGHT]), (1, len(world.RIG), 1))
    xy = project_points(jnp.asarray(points[None, :, None], jnp.float32), matrices, size)
    for k, camera in enumerate(world.RIG):
        yx, depth = scene.project(camera, points)
        ahead = depth > 1
        assert ahead.any()
        np.testing.assert_allclose(xy[0, ahead, 0, k, ::-1], yx[ahead], atol=1e-4)


def test_a_scene_is_known_by_seed_and_number():
    alone = world.draw_scenes(3, range(1, 2))
    among = world.draw_scenes(3, range(3))
    for one, three in zip(*map(jax.tree.leaves, (alone, among)), strict=True):
        np.testing.assert_array_equal(one[0], three[1])
    other = world.draw_scenes(4, range(1, 2))
    assert not np.array_equal(other.boxes.centre, alone.boxes.centre)


def test_boxes_move_by_their_velocity_and_that_of_the_car(frames):
    before, after = (jax.tree.map(lambda x, i=i: x[i], frames.truth) for i in (0, 1))
    moved = instance_bank.move(
        before.anchor, frames.metas.T_temp2cur[1], frames.metas.time_interval[1], False
    )
    apart = np.abs(moved[:, :, None] - after.anchor[:, None]).max(-1)
    are = (before.label[:, :, None] == after.label[:, None]) & (before.label >= 0)[
        :, :, None
    ]
    found = (np.where(are, apart, np.inf).min(-1) < 1e-3).sum()
    assert found > 0.7 * (before.label >= 0).sum() > 20


def test_only_what_can_be_seen_is_sought(frames):
    is_box = np.asarray(frames.truth.label) >= 0
    centre = np.asarray(frames.truth.anchor)[..., :2]
    distance = np.linalg.norm(centre, axis=-1)
    assert (distance[is_box] < world.RANGE).all()
    in_order = np.where(is_box, distance, np.inf)
    assert (in_order[..., 1:] >= in_order[..., :-1]).all()
    # A box alone is sought, and one right behind it, as large, is not.
    scenes = world.draw_scenes(0, range(1))
    boxes = jax.tree.map(np.zeros_like, scenes.boxes)
    boxes.centre[0, :2] = (8, 0, 1), (11, 0, 0.8)
    boxes.size[0, :2] = [[2.0] * 3, [1.0] * 3]
    still = jax.tree.map(np.zeros_like, (scenes.speed, scenes.ego, scenes.ego_speed))
    label = np.full_like(scenes.label, world.NOTHING)
    label[0, :2] = 1, 0
    truth = world.see(world.Scenes(boxes, label, *still)).truth
    assert np.asarray(truth.label)[:, 0, :2].tolist() == [[1, world.NOTHING]] * 2


# Matching and losses.


def some_predictions(rng, b=3, n=30, m=8):
    prediction = rng.normal(0, 10, (b, n, 11)).astype(np.float32)
    logits = rng.normal(0, 2, (b, n, 3)).astype(np.float32)
    label = rng.integers(-1, 3, (b, m))
    anchor = rng.normal(0, 10, (b, m, 11)).astype(np.float32)
    return prediction, logits, world.Truth(anchor, label)


def test_no_matching_costs_less_than_ours():
    some = some_predictions(np.random.default_rng(0))
    cost, instance = np.asarray(losses.costs(*some)), np.asarray(losses.match(*some))
    for costs, ours in zip(cost, instance, strict=True):
        assert len(set(ours.tolist())) == len(ours)
        best = costs[optimize.linear_sum_assignment(costs)].sum()
        np.testing.assert_allclose(costs[np.arange(len(ours)), ours].sum(), best, 1e-5)


def outputs_of(prediction, logits) -> sparse4d.Outputs:
    """Of one decoder and one frame."""
    return sparse4d.Outputs((prediction[None],), (logits[None],), (None,), None)


def test_losses_by_hand():
    """Two instances that say 1/2 for all classes, and one box near the second."""
    prediction = np.zeros((1, 2, 11), np.float32)
    prediction[0, 0, :3] = 30
    anchor = np.zeros((1, 2, 11), np.float32)
    anchor[0, 0, 0], anchor[0, 0, 8], anchor[0, 0, 10] = 1, 3, 99
    truth = world.Truth(anchor[None], np.array([[[1, world.NOTHING]]]))
    outputs = outputs_of(prediction, np.zeros((1, 2, 3), "f"))
    classes, boxes = losses.detection_losses(outputs, truth)
    np.testing.assert_allclose(boxes, 2 * 1 + 3, 1e-6)
    share = np.log(2) / 4  # of each class: -log(p) (1 - p)²
    np.testing.assert_allclose(classes, share * (0.25 + 5 * 0.75), 1e-6)


def test_the_loss_of_the_distance_by_hand():
    """Of 2 x 4 pixels; at half the size, the middle of four is the lower right one."""
    distance = np.array([[1, 1, 1, 1], [1, 10, 1, 100]], np.float32)
    fine, coarse = np.zeros((2, 4), np.float32), np.zeros((1, 2), np.float32)
    found = losses.distance_loss([jnp.asarray(fine), jnp.asarray(coarse)], distance)
    ten = np.log(10)  # what is 100 m away is too far to count
    np.testing.assert_allclose(found, (ten / 7 + ten) / 2, 1e-6)


def test_a_frame_without_boxes_has_a_loss():
    prediction, logits, truth = some_predictions(np.random.default_rng(1))
    truth = world.Truth(truth.anchor[None], np.full_like(truth.label, -1)[None])

    def total(prediction, logits):
        return sum(losses.detection_losses(outputs_of(prediction, logits), truth))

    gradients = jax.grad(total, (0, 1))(jnp.asarray(prediction), jnp.asarray(logits))
    assert not np.any(gradients[0])
    assert np.all(np.isfinite(gradients[1])) and np.any(gradients[1])


# The metric.


def said(*boxes: tuple[float, float, int, float]) -> metric.Found:
    rows = np.array(boxes).reshape(-1, 4)
    return metric.Found(rows[:, :2], rows[:, 2].astype(int), rows[:, 3])


def there(*boxes: tuple[float, float, int]) -> metric.Right:
    rows = np.array(boxes).reshape(-1, 3)
    return metric.Right(rows[:, :2], rows[:, 2].astype(int))


@pytest.mark.parametrize(
    ("found", "right", "expected"),
    [
        (said((0, 0, 0, 0.9)), there((1.9, 0, 0)), 1),
        (said((0, 0, 0, 0.9)), there((2.1, 0, 0)), 0),
        (said((0, 0, 1, 0.9)), there((0, 0, 0)), 0),  # another class
        (said(), there((0, 0, 0)), 0),
        # A box is found once; what says it again, less confident, costs nothing here.
        (said((0, 0, 0, 0.9), (0, 0, 0, 0.5)), there((0, 0, 0)), 1),
        # The wrong one first: precision 0, 1/2, 2/3, the best from there on counts.
        (
            said((50, 0, 0, 0.9), (0, 0, 0, 0.8), (9, 0, 0, 0.7)),
            there((0, 0, 0), (9, 0, 0)),
            2 / 3,
        ),
        # Half of the boxes found.
        (said((0, 0, 0, 0.9)), there((0, 0, 0), (9, 0, 0)), 1 / 2),
        # The nearest is taken, so that the second finds the other one.
        (said((0, 0, 0, 0.9), (1, 0, 0, 0.8)), there((0.4, 0, 0), (2, 0, 0)), 1),
    ],
)
def test_average_precision_by_hand(found, right, expected):
    assert metric.average_precision([found], [right], 0) == pytest.approx(expected)


def test_frames_are_ranked_together_and_matched_apart():
    found = [said((0, 0, 0, 0.2)), said((0, 0, 0, 0.8))]
    right = [there((0, 0, 0)), there((9, 0, 0))]
    assert metric.average_precision(found, right, 0) == pytest.approx(1 / 2 / 2)


def test_the_mean_is_of_the_classes_that_are_there():
    found, right = [said((0, 0, 0, 0.9))], [there((0, 0, 0), (5, 5, 2))]
    mean, each = metric.mean_average_precision(found, right, 3)
    assert mean == pytest.approx(1 / 2)
    assert (each[0], each[2]) == (1, 0) and np.isnan(each[1])


# Learning. Everything is as small as it can be: compiling takes most of the time.

TINY = {
    "channels": 16,
    "stem": (4, 8),
    "groups": 2,
    "anchors": 24,
    "kept": 12,
    "decoders": 2,
    "levels": 2,
}
SHORT = {"steps": 100, "batch": 2, "warm_up": 4}
STEPS = 16


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Some steps of a training, and where its checkpoints are."""
    folder = tmp_path_factory.mktemp("trained")
    return run(folder, until=STEPS), folder


def run(folder, **keywords):
    config, how = model.ModelConfig(**TINY), training.TrainConfig(**SHORT)
    return train_detector.train(config, how, folder, save_every=6, **keywords)


def test_some_steps_lower_the_loss(trained):
    state, folder = trained
    total = train_detector.losses_of(folder).sum(axis=1)
    assert int(state.step) == len(total) == STEPS
    assert total[-4:].mean() < 0.9 * total[:4].mean()


def test_what_upstream_does_not_train_stays_as_it_is(trained):
    now = trained[0].params["head"]
    fresh = sparse4d.decoder.init(jax.random.key(1), model.ModelConfig(**TINY).head)
    points = ("layers", "0", "kps_generator", "fix_scale")
    for part in points:
        now, fresh = now[part], fresh[part]
    np.testing.assert_array_equal(now, fresh)


def test_a_run_resumes_bit_by_bit(trained, tmp_path):
    state, folder = trained
    run(tmp_path, until=STEPS - 5)
    resumed = run(tmp_path, until=STEPS, resume=True)
    for one, other in zip(*map(jax.tree.leaves, (state, resumed)), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(*map(train_detector.losses_of, (folder, tmp_path)))


def test_checkpoints_are_not_overwritten(trained):
    with pytest.raises(SystemExit, match="holds checkpoints: --resume"):
        run(trained[1], until=STEPS)


def test_two_devices_learn_as_one(trained, tmp_path):
    program = f"""
        import jax
        jax.config.update("jax_num_cpu_devices", 2)
        import pathlib, sys
        sys.path[:0] = ["examples", "."]
        from tests import test_detector
        test_detector.run(pathlib.Path({str(tmp_path)!r}), until=4, devices=2)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=True
    )
    one, two = map(train_detector.losses_of, (trained[1], tmp_path))
    np.testing.assert_allclose(two, one[:4], rtol=1e-4)


@pytest.mark.parametrize("number", [2, 3])
def test_devices_that_cannot_share_the_batch_are_refused(number):
    message = rf"devices={number}; allowed are divisors of batch=3 up to 1, which"
    with pytest.raises(ValueError, match=message):
        training.Devices.of(number, training.TrainConfig(batch=3))


def test_the_emulated_card_learns_the_same(trained, tmp_path, books):
    run(tmp_path, until=3, implementation="ascend")
    one, card = map(train_detector.losses_of, (trained[1], tmp_path))
    np.testing.assert_allclose(card, one[:3], rtol=1e-4)


def test_detections_come_with_a_precision_and_a_picture(trained, tmp_path):
    config, params = model.ModelConfig(**TINY), trained[0].params
    mean, each = training.evaluate(params, config, scenes=2, at_once=2)
    assert 0 <= mean <= 1 and len(each) == len(world.CLASSES)
    losses = train_detector.losses_of(trained[1])
    picture.draw(tmp_path / "picture.png", params, config, losses)
    assert (tmp_path / "picture.png").stat().st_size > 50_000
