"""The promise: aggregation with depth is the same by native kernels and in jax.numpy.

What it computes is tested against public kernels in ``test_family.py``. The number of
threads and of devices is set when jax starts: this file run as a program prints what
comes out, in bits.
"""

import hashlib
import os
import re
import subprocess
import sys
from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from jda import family
from tests.support.implementations import ROOT, enable_x64, require

WANTED = (0, 3, 4, 5, 6)  # the differentiable arguments
NAMES = ("feature_maps", "sample_locations", "weight", "depth_prob", "depth")


def problem(seed, dtype=np.float64, **given):
    """Arguments of any sizes, with much that does not count, and a cotangent."""
    rng = np.random.default_rng(seed)
    cam, scale, group = (int(rng.integers(1, 4)) for _ in range(3))
    sizes = {
        "bs": int(rng.integers(1, 4)),
        "anchor": int(rng.integers(0, 9)),
        "pts": int(rng.integers(0, 8)),
        "bins": int(rng.integers(0, 6)),
    } | given
    bs, anchor, pts, bins = sizes.values()
    shapes = rng.integers(1, 6, (cam, scale, 2))
    areas = shapes.prod(axis=-1)
    # Maps may share rows, and rows may belong to no map.
    most = int(areas.max()) + int(rng.integers(0, int(areas.sum())))
    starts = rng.integers(0, most - areas + 1)
    points = bs, anchor, pts, cam
    locations = rng.uniform(-0.3, 1.3, (*points, 2))
    depth = rng.uniform(-1.5, bins + 0.5, points)
    for odd, array in ((np.nan, locations), (np.inf, locations), (np.nan, depth)):
        array[rng.random(array.shape) < 0.05] = odd
    depth[rng.random(depth.shape) < 0.2] = rng.integers(-1, bins + 1)  # a bin itself
    c = group * int(rng.integers(1, 5))
    arrays = (
        rng.standard_normal((bs, most, c)),
        shapes,
        starts,
        locations,
        rng.standard_normal((*points, scale, group)),
        rng.random((bs, most, bins)),
        depth,
    )
    cast = [x if i in (1, 2) else x.astype(dtype) for i, x in enumerate(arrays)]
    return cast, rng.standard_normal((bs, anchor, c)).astype(dtype)


def pull_back(arguments, cotangent, wanted=WANTED, **options):
    """The result, and the gradients of the wanted arguments."""

    def of_wanted(*values):
        some = dict(zip(wanted, values, strict=True))
        every = [some.get(i, x) for i, x in enumerate(arguments)]
        return family.deformable_aggregation_with_depth(*every, **options)

    out, back = jax.vjp(of_wanted, *[arguments[i] for i in wanted])
    return [out, *back(cotangent)]


def assert_close(found, right, tolerance=1e-12):
    for ours, theirs in zip(found, right, strict=True):
        theirs = np.asarray(theirs, np.float64)
        scale = max(1.0, float(np.abs(theirs).max(initial=0)))
        assert ours.shape == theirs.shape
        ours = np.asarray(ours, np.float64)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


def call(implementation, arguments, **options):
    return family.deformable_aggregation_with_depth(
        *arguments, implementation=implementation, **options
    )


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.usefixtures("float64")
def test_native_kernels_compute_what_jax_numpy_does(seed):
    require("cpu")
    arguments, cotangent = problem(seed)
    order = {"coordinate_order": ("xy", "yx")[seed % 2]}
    found, right = (
        pull_back(arguments, cotangent, implementation=each, **order)
        for each in ("cpu", "reference")
    )
    assert np.isfinite(np.concatenate([np.ravel(x) for x in right])).all()
    assert_close(found, right)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, jnp.float16])
def test_narrow_types(dtype):
    require("cpu")
    arguments, cotangent = problem(3, np.float32, anchor=9, pts=7, bins=5)
    arguments[0] = arguments[0].astype(dtype)
    cotangent = cotangent.astype(dtype)
    found = pull_back(arguments, cotangent, implementation="cpu")
    assert found[0].dtype == found[1].dtype == dtype
    assert all(x.dtype == np.float32 for x in found[2:])
    with enable_x64():
        wide = [x if i in (1, 2) else np.float64(x) for i, x in enumerate(arguments)]
        right = pull_back(wide, np.float64(cotangent), implementation="reference")
    assert_close(found[2:], right[2:], 1e-5)
    assert_close(found[:2], right[:2], 2 * float(jnp.finfo(dtype).eps) + 1e-5)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.usefixtures("float64")
def test_gradients_of_some_arguments(count):
    arguments, cotangent = problem(5, anchor=6, pts=4, bins=4)
    every = dict(zip(WANTED, pull_back(arguments, cotangent)[1:], strict=True))
    for wanted in combinations(WANTED, count):
        some = jax.jit(partial(pull_back, arguments, wanted=wanted))(cotangent)[1:]
        assert_close(some, [every[i] for i in wanted])
    # Of those that are asked for and then not used, too.
    one = jax.jit(lambda bar: pull_back(arguments, bar)[4])(cotangent)
    assert_close([one], [every[5]])


@pytest.mark.parametrize("mapped", [(3,), (3, 4, 6), (5,), (0, 5), WANTED, (6, 2)])
@pytest.mark.usefixtures("float64")
def test_vmap(mapped, implementation):
    arguments, cotangent = problem(7, anchor=5, pts=3, bins=4)
    several = list(arguments)
    axes = [None] * 7
    for i in mapped:
        axes[i] = 1 if i in (3, 5) else 0  # somewhere in the array
        moved = arguments[i] if i == 2 else arguments[i] * 0.75
        several[i] = np.stack([arguments[i], moved], axis=axes[i])

    def one(*arguments):
        return pull_back(arguments, cotangent, implementation=implementation)

    together = jax.jit(jax.vmap(one, in_axes=axes))(*several)
    for n in range(2):
        chosen = [
            x if axis is None else np.take(x, n, axis)
            for x, axis in zip(several, axes, strict=True)
        ]
        assert_close([x[n] for x in together], one(*chosen))


@pytest.mark.usefixtures("float64")
def test_second_order():
    arguments, cotangent = problem(9, bs=2, anchor=4, pts=3, bins=4)

    def squares(implementation, *values):
        some = dict(zip(WANTED, values, strict=True))
        every = [some.get(i, x) for i, x in enumerate(arguments)]
        first = jax.grad(
            lambda *x: (call(implementation, x) * cotangent).sum(), argnums=WANTED
        )(*every)
        return sum((x**2).sum() for x in first)

    values = [arguments[i] for i in WANTED]
    found, right = (
        jax.jit(jax.grad(partial(squares, each), argnums=range(5)))(*values)
        for each in ("cpu", "reference")
    )
    assert any(np.asarray(x).any() for x in right)
    assert_close(found, right, 1e-10)


def test_forward_mode_says_what_it_is():
    arguments, _ = problem(9, np.float32, anchor=4, pts=3, bins=4)
    for moving in (0, 5):

        def of_one(value, moving=moving):
            return call("cpu", [*arguments[:moving], value, *arguments[moving + 1 :]])

        with pytest.raises(TypeError, match="does not allow forward mode"):
            jax.jvp(of_one, [arguments[moving]], [arguments[moving]])


def test_maps_beyond_the_rows_are_errors_or_nothing():
    arguments, _ = problem(11, np.float32, anchor=4, pts=3, bins=4)
    for start in (-1, 2**31 - 1):
        starts = np.full_like(arguments[2], start)

        def traced(starts, implementation):
            return call(implementation, [*arguments[:2], starts, *arguments[3:]])

        jitted = jax.jit(traced, static_argnums=1)
        assert not np.asarray(jitted(starts, "reference")).any()
        with pytest.raises(Exception, match=r"scale_start_index\[0, 0\]"):
            jax.block_until_ready(jitted(starts, "cpu"))


def test_what_a_program_calls():
    require("cpu")
    arguments, cotangent = problem(13, np.float32, anchor=4, pts=3, bins=4)

    def targets(implementation):
        both = jax.jit(partial(pull_back, implementation=implementation))
        text = both.lower(list(map(jnp.asarray, arguments)), cotangent).as_text()
        return sorted(set(re.findall(r"jda_cpu_\w+", text)))

    of_operator = ["jda_cpu_backward", "jda_cpu_forward"]
    of_corners = ["jda_cpu_corners", "jda_cpu_corners_backward"]
    assert targets(None) == targets("cpu") == sorted(of_operator + of_corners)
    assert targets("reference") == []
    assert {*of_corners} < {*jda.CUSTOM_CALLS}


def printed(*arguments, **environment):
    """What this file prints when it runs as a program."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.test_depth", *arguments],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


def test_bits_do_not_depend_on_threads():
    require("cpu")
    alone = printed(NPROC="1")
    assert alone.count("\n") == 6
    assert printed(NPROC="2") == printed(NPROC="5") == alone


def test_devices():
    flags = "--xla_force_host_platform_device_count=4"
    assert printed("4", XLA_FLAGS=flags).strip() == "the same"


def main():
    # More than a pass of the backward takes, of more than one chunk each.
    arguments, cotangent = problem(15, np.float32, bs=2, anchor=3000, pts=20, bins=7)
    for out in jax.jit(pull_back)(arguments, cotangent):
        print(hashlib.sha256(np.asarray(out).tobytes()).hexdigest())


def main_on_devices(count):
    with enable_x64():
        arguments, cotangent = problem(17, bs=count, anchor=8, pts=3, bins=4)
        right = pull_back(arguments, cotangent)
        for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit):
            mesh = jax.make_mesh((count,), ("x",), axis_types=(kind,))
            for axis in (0, 1):
                given = spread(mesh, axis, arguments, cotangent)
                assert_close(jax.jit(pull_back)(*given), right)
    print("the same")


def spread(mesh, axis, arguments, cotangent):
    """Split by batch elements or by anchors; what has no such axis is everywhere."""
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    spec = jax.sharding.PartitionSpec(*[None] * axis, "x")
    split = jax.sharding.NamedSharding(mesh, spec)
    by_anchor = [3, 4, 6]
    put = [
        jax.device_put(
            x,
            split if i in by_anchor or (axis == 0 and i not in (1, 2)) else whole,
        )
        for i, x in enumerate(arguments)
    ]
    return put, jax.device_put(cotangent, split)


if __name__ == "__main__":
    main_on_devices(int(sys.argv[1])) if sys.argv[1:] else main()
