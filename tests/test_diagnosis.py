"""The promise: silent mistakes are told, and nothing is said of right arguments."""

import html
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda

MAPS = np.array([(64, 176), (32, 88), (16, 44), (8, 22)])
WIDTH, HEIGHT = 704, 256
CAM, ANCHOR, GROUP, C = 6, 60, 2, 4


def test_visible():
    locations = np.array(
        [[0.5, 0.5], [0, 0.5], [0.5, 1], [np.nan, 0.5], [-1, 2], [0.1, np.inf]]
    )
    right = [True, False, False, False, False, False]
    for found in (jda.visible(locations), jax.jit(jda.visible)(locations)):
        assert found.dtype == bool and found.tolist() == right
    # The rule is the operator's.
    weight = np.ones((1, len(right), 1, 1, 1, 1), np.float32)
    at = locations[None, :, None, None].astype(np.float32)
    out = jda.deformable_aggregation(
        np.ones((1, 12, 1), np.float32), [[[3, 4]]], [[0]], at, weight
    )
    assert (np.asarray(out).ravel() != 0).tolist() == right
    message = re.escape("locations has shape (3,), expected [..., 2]")
    with pytest.raises(ValueError, match=f"^{message}$"):
        jda.visible(np.zeros(3))
    with pytest.raises(TypeError, match=r"^locations has dtype complex64, allowed are"):
        jda.visible(np.full((3, 2), 0.5 + 1j, np.complex64))


def scene(seed=0, points=7):
    """Boxes around six cameras, projected to (x, y), and a softmax of weights."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform([-40, -40, -1], [40, 40, 1], (ANCHOR, 1, 3))
    spread = rng.uniform(-0.5, 0.5, (ANCHOR, points, 3)) * [4, 1.9, 1.7]
    at = centre + spread
    pixels = []
    for yaw in np.arange(CAM) * np.pi / 3:
        forward = at @ [np.cos(yaw), np.sin(yaw), 0]
        right = at @ [np.sin(yaw), -np.cos(yaw), 0]
        depth = np.maximum(forward, 1e-5)
        x = 560 * right / depth + WIDTH / 2
        y = 560 * (1.5 - at[..., 2]) / depth + 110
        pixels.append(np.stack([x, y], axis=-1))
    locations = np.stack(pixels, axis=2)[None] / [WIDTH, HEIGHT]
    logits = rng.normal(size=(1, ANCHOR, points * CAM * len(MAPS), GROUP))
    weight = jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=2)
    weight = weight.reshape(1, ANCHOR, points, CAM, len(MAPS), GROUP)
    pyramid = [rng.normal(size=(1, CAM, C, h, w)).astype(np.float32) for h, w in MAPS]
    packed = jda.pack_feature_maps(pyramid)
    return [*packed, locations.astype(np.float32), np.array(weight)]


def diagnose(arguments, order="xy"):
    return jda.diagnose(*arguments, coordinate_order=order)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("points", [1, 6, 13])
def test_nothing_is_said_of_right_arguments(seed, points):
    arguments = scene(seed, points)
    assert diagnose(arguments).findings == ()
    arguments[3] = arguments[3][..., ::-1]
    report = diagnose(arguments, "yx")
    assert report.findings == ()
    assert str(report).endswith("nothing looks wrong")
    assert "nothing looks wrong" in report._repr_html_()


def test_nothing_is_said_of_the_example_of_the_page():
    rng = np.random.default_rng(0)
    report = jda.diagnose(
        np.ones((1, 2816, 8), np.float32),
        np.array([[[32, 88]]], np.int32),
        np.array([[0]], np.int32),
        rng.uniform(size=(1, 10, 50, 1, 2)).astype(np.float32),
        rng.normal(size=(1, 10, 50, 1, 1, 8)).astype(np.float32),
    )
    assert report.findings == ()


MISTAKES = {}  # functions that change right arguments, and what is told of it


def told(argument, start):
    def remember(mistake):
        MISTAKES[mistake] = argument, start
        return mistake

    return remember


@told("sample_locations", "look like pixels")
def pixels(arguments):
    arguments[3] = arguments[3] * np.float32([WIDTH, HEIGHT])


@told("sample_locations", "look like those of grid_sample")
def grid(arguments):
    arguments[3] = 2 * np.clip(arguments[3], 0, 1) - 1


@told("sample_locations", "the order of the coordinates looks exchanged")
def other_order(arguments):
    arguments[3] = arguments[3][..., ::-1]


@told("sample_locations", "axes of points and cameras look exchan")
def points_and_cameras(arguments):
    arguments[3] = arguments[3].swapaxes(2, 3)


@told("sample_locations", "2 of 4320 values are NaN")
def nan_locations(arguments):
    arguments[3][0, 0, 0, 0] = np.nan


@told("weight", "288 of 17280 values are NaN")
def nan_weight(arguments):
    arguments[4][0, 3] = np.nan


@told("feature_maps", "4 of 359040 values are NaN or infinite")
def infinite_features(arguments):
    features = np.array(arguments[0])
    features[0, 5] = np.inf
    arguments[0] = features


@told("weight", "none is negative, as after a softmax, but for 100")
def softmax_over_scales(arguments):
    arguments[4] = arguments[4] / arguments[4].sum(axis=4, keepdims=True)


@told("spatial_shape", "[2, 1] is (88, 32) and [2, 0] is (64, 176)")
def exchanged_size(arguments):
    arguments[1] = arguments[1].copy()
    arguments[1][2, 1] = arguments[1][2, 1, ::-1]


@told("scale_start_index", "the map from row ")
def overlap(arguments):
    arguments[2] = arguments[2] - np.where(np.arange(CAM) == 2, 7, 0)[:, None].astype(
        np.int32
    )


@told("result", "all zero: no sample is visible; locations lie within -3 ")
def far_outside(arguments):
    arguments[3] = arguments[3] * 0 - 3


@told("result", "all zero: no location is a number")
def no_number(arguments):
    arguments[3] = arguments[3] * np.float32(np.nan)


@told("result", "all zero: all weights of visible samples are zero")
def no_weight(arguments):
    arguments[4] = arguments[4] * 0


@told("result", "all zero: feature_maps is all zero")
def no_feature(arguments):
    arguments[0] = arguments[0] * 0


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__)
def test_mistakes_are_told(mistake):
    argument, start = MISTAKES[mistake]
    arguments = scene(points=6)
    mistake(arguments)
    report = diagnose(arguments)
    told = [str(finding) for finding in report.findings]
    assert any(text.startswith(f"{argument}: {start}") for text in told), told
    assert len(told) <= 2, told
    for text in told:
        assert f"\n- {text}" in str(report)
        assert html.escape(text) in report._repr_html_()


@pytest.mark.parametrize("seed", range(5))
def test_the_other_order_is_told_in_every_scene(seed):
    for points in (6, 13):
        arguments = scene(seed, points)
        other_order(arguments)
        (finding,) = diagnose(arguments).findings
        assert "pass coordinate_order='yx'?" in finding.text


def test_the_table():
    arguments = scene(points=6)
    arguments[4][:, :, :, 1, 2] = 0
    report = diagnose(arguments)
    shares = np.asarray(jda.visible(arguments[3])).mean(axis=(0, 1, 2))
    right = np.broadcast_to(shares[:, None], (CAM, len(MAPS))).copy()
    right[1, 2] = 0
    np.testing.assert_allclose(report.counted, right)
    assert f"camera 1: 64 × 176: {shares[1]:.1%}, 32 × 88:" in str(report)
    assert f"<td>8 × 22: {shares[5]:.1%}</td>" in report._repr_html_()


@pytest.mark.parametrize("axis", range(4))
def test_sizes_of_zero(axis):
    arguments = scene()
    for i in (3, 4):
        arguments[i] = np.take(arguments[i], [], axis=axis)
    if axis == 0:
        arguments[0] = arguments[0][:0]
    if axis == 3:
        arguments[1], arguments[2] = arguments[1][:0], arguments[2][:0]
    (finding,) = diagnose(arguments).findings
    assert str(finding) == "result: all zero: an argument has a size of zero"


def test_traced_arguments():
    with pytest.raises(
        TypeError, match=r"^feature_maps is traced; call jda.diagnose out"
    ):
        jax.jit(lambda *x: diagnose(x))(*scene())
