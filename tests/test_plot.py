"""The promise: pictures of a call show what counts, by camera and by scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from jda import plot  # noqa: E402

MAPS = [np.ones((1, 2, h, w, 4), np.float32) for h, w in [(6, 9), (3, 5)]]
LOCATIONS = np.float32([[[[[0.25, 0.5], [0.5, 0.5]], [[1.5, 0.5], [0.75, 0.25]]]]])


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(axes) -> np.ndarray:
    """The points of the first scatter plot of a panel, as (x, y)."""
    return np.asarray(axes.collections[0].get_offsets())


@pytest.mark.parametrize("order", ["yx", "xy"])
def test_key_points_are_where_they_count(order):
    given = LOCATIONS if order == "yx" else LOCATIONS[..., ::-1]
    figure = plot.key_points(given, coordinate_order=order)
    first, second = figure.axes
    np.testing.assert_allclose(drawn(first), [[0.5, 0.25]])  # (1.5, 0.5) does not count
    np.testing.assert_allclose(drawn(second), [[0.5, 0.5], [0.25, 0.75]])
    assert first.get_ylim() == (1, 0)  # y points down, as in an image


def test_key_points_over_images_with_values():
    images = np.zeros((2, 8, 12, 3))
    values = np.arange(4.0).reshape(1, 2, 2)
    figure = plot.key_points(
        LOCATIONS, images, values=values, label="weight", highlight=[0], names="ab"
    )
    assert [axes.get_title() for axes in figure.axes[:2]] == ["a", "b"]
    assert figure.axes[2].get_ylabel() == "weight"
    np.testing.assert_allclose(figure.axes[1].collections[0].get_array(), [1, 3])


@pytest.mark.parametrize(("dtype", "white"), [(np.float32, 1), (np.uint8, 255)])
def test_grey_images_are_as_bright_as_they_are(dtype, white):
    """Also where one has no black in it, and no white."""
    images = np.full((2, 8, 12), white // 2 + 0.25, dtype)
    for axes in plot.key_points(LOCATIONS, images).axes:
        assert axes.images[0].get_clim() == (0, white)


def test_heat_maps_have_a_row_for_each_scale():
    packed = jda.pack_feature_maps(MAPS, layout="bkhwc")
    figure = plot.heat_maps(packed)
    shown = [np.asarray(axes.images[0].get_array()).shape for axes in figure.axes[:4]]
    assert shown == [(6, 9), (6, 9), (3, 5), (3, 5)]


@pytest.mark.parametrize("log", [False, True])
def test_heat_maps_of_a_gradient(log):
    packed = jda.pack_feature_maps(MAPS, layout="bkhwc")
    weight = jnp.ones((1, 1, 2, 2, 2, 2))

    def total(maps):
        return jda.deformable_aggregation(*maps, LOCATIONS, weight).sum()

    figure = plot.heat_maps(jax.grad(total)(packed), log=log)
    heat = np.ma.filled(figure.axes[0].images[0].get_array(), 0)
    assert 0 < np.count_nonzero(heat) <= 4, "the corners of one sample"


def test_signed_values_have_zero_in_the_middle():
    figure = plot.from_above(
        np.zeros((3, 2)), [-1.0, 0.5, 0.0], arrows=np.eye(3)[:, :2]
    )
    norm = figure.axes[0].collections[0].norm
    assert (norm.vmin, norm.vmax) == (-1, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.key_points(np.zeros((2, 3))), r"locations has shape \(2, 3\)"),
        (lambda: plot.from_above(np.zeros(3)), r"centres has shape \(3,\)"),
        (
            lambda: plot.key_points(LOCATIONS, np.zeros((3, 4, 4))),
            "images has 3 images, but there are cam=2",
        ),
        (
            lambda: plot.key_points(LOCATIONS, coordinate_order="zx"),
            "coordinate_order='zx' is unknown",
        ),
        (lambda: plot.placement({}), "arrays is empty"),
        (
            lambda: plot.key_points(LOCATIONS, names="a"),
            "names has 1 names, but there are cam=2",
        ),
        (
            lambda: plot.key_points(LOCATIONS, element=1),
            "element=1 does not exist, locations has bs=1",
        ),
        (lambda: plot.key_points(LOCATIONS, columns=0), "columns=0, it must be pos"),
        (
            lambda: plot.key_points(LOCATIONS[:, :, :, :0]),
            "locations has cam=0, at least one camera is needed",
        ),
        (
            lambda: plot.heat_maps(jda.pack_feature_maps(MAPS, "bkhwc"), names="abc"),
            "names has 3 names, but there are cam=2",
        ),
        (
            lambda: plot.heat_maps(jda.pack_feature_maps(MAPS, "bkhwc"), element=-1),
            "element=-1 does not exist, packed has bs=1",
        ),
        (
            lambda: plot.heat_maps(jda.pack_feature_maps([MAPS[0][:, :0]], "bkhwc")),
            "packed has cam=0 and scale=1, at least one map is needed",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
