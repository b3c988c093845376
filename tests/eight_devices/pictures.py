"""The promise: a picture of a placement shows what each device holds.

Run by tests/test_sharding.py in a process with eight devices.
"""

import jax
import matplotlib
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from tests.eight_devices import scene

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from jda import plot


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def filled(axes) -> list[list[float]]:
    """(left, top, right, bottom) of what is filled in a cell."""
    boxes = [shape.get_paths()[0].get_extents() for shape in axes.collections]
    return [[*box.min.tolist(), *box.max.tolist()] for box in boxes]


def test_a_cell_is_filled_with_what_its_device_holds():
    mesh = scene.mesh((2, 4), ("x", "y"))
    whole = np.zeros((2, 3, 8), np.float32)
    specs = (P("x", None, "y"), P(None, None, "x"), P())
    split, halved, shared = scene.put([whole] * 3, specs, mesh)
    alone = jax.device_put(whole, jax.devices()[5])
    figure = plot.placement(
        {"split": split, "halved": halved, "shared": shared, "alone": alone}
    )
    cells = np.reshape(figure.axes, (4, 8))
    titles = [axes.get_title() for axes in cells[0]]
    assert titles == [f"device {n}" for n in range(8)]
    assert cells[1, 0].get_ylabel() == "halved\n[2, 3, 8]"
    for n in range(8):
        row, column = divmod(n, 4)
        corner = [column / 4, row / 2, (column + 1) / 4, (row + 1) / 2]
        assert filled(cells[0, n]) == [corner]
        assert filled(cells[1, n]) == [[0, row / 2, 1, (row + 1) / 2]]
        assert filled(cells[2, n]) == [[0, 0, 1, 1]]
        assert filled(cells[3, n]) == ([[0, 0, 1, 1]] if n == 5 else [])


def test_more_axes_than_a_cell_has():
    mesh = scene.mesh((2, 2, 2), ("x", "y", "z"))
    (array,) = scene.put([np.zeros((2, 2, 2))], [P("x", "y", "z")], mesh)
    message = r"weight is split along axes \[0, 1, 2\], expected two at most"
    with pytest.raises(ValueError, match=message):
        plot.placement({"weight": array})
