"""The promise: the Ascend C kernels compute the operator in whatever order things run.

No NPU is involved: the kernels are compiled for the host and run under the emulator in
csrc/emulator, which also judges every access and every flag. The strictest mode is
used: no synchronisation is inserted for the kernels.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import cases
import numpy as np
import oracle
import pytest

sys.path.insert(0, str(Path(__file__).parent / "ascend"))
sys.path.append(str(Path(__file__).parents[1] / "benchmarks" / "ascend"))
import emulated
import limits

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

EVERYTHING = tuple(cases.ZOO)
CORES = (1, 40, 48)


@pytest.fixture(scope="module")
def library():
    return emulated.library()


def assert_forward(library, inputs, judged, **options):
    run = emulated.emulate(library, inputs, **options)
    assert not run.findings
    oracle.assert_within(run.results[0], judged.out, judged.out_scale)
    return run


def assert_backward(library, inputs, judged, **options):
    run = emulated.emulate(library, inputs, judged.cotangent, **options)
    assert not run.findings
    cases.assert_gradients_within(run.results, judged)
    return run


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("cores", CORES)
def test_forward_zoo(library, name, cores):
    assert_forward(library, cases.case(name), cases.judged_case(name), cores=cores)


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("cores", CORES)
def test_backward_zoo(library, name, cores):
    assert_backward(library, cases.case(name), cases.judged_case(name), cores=cores)


@pytest.mark.parametrize("name", EVERYTHING)
def test_zoo_in_adversarial_order(library, name):
    inputs, judged = cases.case(name), cases.judged_case(name)
    seed = crc32(name.encode())
    for cores in CORES[1:]:
        options = {"cores": cores, "seed": seed + cores}
        assert_forward(library, inputs, judged, **options)
        assert_backward(library, inputs, judged, **options)


@pytest.mark.parametrize("name", limits.SHAPES)
def test_corners_of_the_limits(library, name):
    inputs, judged = limits.case(name)
    for options in (
        *({"cores": cores} for cores in (1, 2, 40, 48)),
        *({"cores": cores, "seed": cores} for cores in (2, 40, 48)),
    ):
        assert_forward(library, inputs, judged, **options)
        assert_backward(library, inputs, judged, **options)


@pytest.mark.parametrize("channels", (2040, 4080, 100_000))
def test_widest_groups(library, channels):
    """A group of 2040 channels is the widest that one instruction steps over."""
    inputs = cases.make(cases.Shape(cases.TWO_CAMERAS, channels=channels, groups=2))
    cotangent = cases.make_cotangent(inputs)
    if channels > 2 * 2040:
        for gradient in (None, cotangent):
            with pytest.raises(ValueError, match="c / group=50000 on Ascend"):
                emulated.emulate(library, inputs, gradient)
        return
    judged = cases.judge(inputs, cotangent=cotangent)
    for options in ({}, {"cores": 2, "seed": 1}):
        assert_forward(library, inputs, judged, **options)
        assert_backward(library, inputs, judged, **options)


@pytest.mark.parametrize("name", EVERYTHING)
def test_deterministic_gradient_does_not_depend_on_order(library, name):
    inputs, judged = cases.case(name), cases.judged_case(name)
    runs = [
        assert_backward(library, inputs, judged, cores=8, deterministic=1, seed=seed)
        for seed in (0, 1, 2)
    ]
    for run in runs[1:]:
        for got, first in zip(run.results, runs[0].results, strict=True):
            np.testing.assert_array_equal(got, first)


@pytest.mark.parametrize("name", ("rig", "page channels", "300 points and a batch"))
def test_forward_does_not_depend_on_order(library, name):
    inputs, judged = cases.case(name), cases.judged_case(name)
    first = assert_forward(library, inputs, judged)
    for seed in (1, 2, 3):
        run = assert_forward(library, inputs, judged, seed=seed)
        np.testing.assert_array_equal(run.results[0], first.results[0])


@pytest.mark.parametrize("name", cases.BOTH_ORDERS)
def test_other_coordinate_order(library, name):
    inputs, judged = cases.swap_order(cases.case(name)), cases.judged_case(name)
    assert_forward(library, inputs, judged, order="xy")
    run = emulated.emulate(library, inputs, judged.cotangent, order="xy")
    assert not run.findings
    features, locations, weight = run.results
    cases.assert_gradients_within((features, locations[..., ::-1], weight), judged)


WANTED = tuple((bool(i & 1), bool(i & 2), bool(i & 4)) for i in range(1, 7))


@pytest.mark.parametrize("wants", WANTED)
@pytest.mark.parametrize("name", ("rig", "odd channels"))
def test_only_wanted_gradients(library, name, wants):
    inputs, judged = cases.case(name), cases.judged_case(name)
    run = emulated.emulate(library, inputs, judged.cotangent, wants=wants)
    assert not run.findings
    filled = [
        right.astype(np.float32) if got is None else got
        for got, right in zip(run.results, judged.grads, strict=True)
    ]
    cases.assert_gradients_within(filled, judged)


@pytest.mark.parametrize("bad", (np.nan, np.inf))
@pytest.mark.parametrize("name", cases.POISONABLE)
def test_what_no_sample_uses_stays_out(library, name, bad):
    inputs = cases.poisoned(cases.case(name), bad)
    judged = cases.judged_case(name)
    assert_forward(library, inputs, judged)
    assert_backward(library, inputs, judged)


BAD_MAPS = {
    "ends behind the rows": lambda shape, start, rows: (shape, start + rows),
    "one row too many": lambda shape, start, rows: (shape + np.array([1, 0]), start),
    "negative start": lambda shape, start, rows: (shape, start - 1),
    "no rows": lambda shape, start, rows: (shape * [[[0, 1]]], start),
    "negative width": lambda shape, start, rows: (shape * [[[1, -1]]], start),
    "both negative": lambda shape, start, rows: (-shape, start),
    "product overflows": lambda shape, start, rows: (shape * 0 + 2**31 - 1, start),
    "largest start": lambda shape, start, rows: (shape, start * 0 + 2**31 - 1),
}


@pytest.mark.parametrize("kind", BAD_MAPS)
def test_invalid_maps_contribute_nothing(library, kind):
    """And never reach memory: the emulator would report it."""
    good = cases.make(cases.Shape((((5, 7),),), locate=cases.remarkable))
    shape, start = BAD_MAPS[kind](
        good.spatial_shape.astype(np.int64),
        good.scale_start_index.astype(np.int64),
        good.feature_maps.shape[1],
    )
    inputs = good._replace(
        spatial_shape=shape.astype(np.int32), scale_start_index=start.astype(np.int32)
    )
    run = emulated.emulate(library, inputs)
    assert not run.findings
    assert not run.results[0].any()
    run = emulated.emulate(library, inputs, cases.make_cotangent(inputs))
    assert not run.findings
    assert not any(result.any() for result in run.results)


def test_one_invalid_map_among_valid_ones(library):
    inputs = cases.case("rig")
    shape = inputs.spatial_shape.copy()
    shape[2, 1] = 10**6
    run = emulated.emulate(library, inputs._replace(spatial_shape=shape))
    weight = inputs.weight.copy()
    weight[:, :, :, 2, 1] = 0
    judged = cases.judge(inputs._replace(weight=weight))
    assert not run.findings
    oracle.assert_within(run.results[0], judged.out, judged.out_scale)


@pytest.mark.parametrize("name", ("Sparse4D, a quarter visible", "page's example"))
def test_modelled_forward_is_near_the_floor(library, name):
    """A model of time, not a measurement: what the corner rows alone would take."""
    import problems

    shape = problems.PROBLEMS[name]
    inputs = cases.make(shape)
    locations, scales = inputs.sample_locations, inputs.spatial_shape.shape[1]
    visible = ((locations > 0) & (locations < 1)).all(axis=-1).sum()
    floor = problems.floor_microseconds(int(visible) * scales, shape.channels)
    run = emulated.emulate(library, inputs)
    assert not run.findings
    assert run.answer.microseconds <= 1.5 * floor


def test_tiling(tmp_path):
    """Buffers fit UB, nothing overlaps or overflows: checked without any kernel."""
    program = tmp_path / "tiling_test"
    source = emulated.HERE / "tiling_test.cc"
    flags = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined")
    subprocess.run(
        ["g++", *flags, f"-I{emulated.KERNELS}", source, "-o", program], check=True
    )
    run = subprocess.run([program], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_no_synchronisation_is_superfluous_or_unguarded():
    """Every single call that is left out is noticed."""
    # In a process without JAX, whose threads do not go with forks.
    run = subprocess.run(
        [sys.executable, emulated.HERE / "mutation.py"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    count = re.match(r"(\d+) mutants, 0 survive", run.stdout)
    assert count and int(count[1]) > 100, run.stdout


@pytest.mark.parametrize(
    "kernel", emulated.kernel_sources(), ids=lambda path: path.stem
)
def test_flattened_source_is_self_contained(kernel, tmp_path):
    """What run-time compilation gets: one text, with no include of ours."""
    script = emulated.KERNELS / "flatten.py"
    text = subprocess.check_output([sys.executable, script, kernel], text=True)
    included = [line for line in text.splitlines() if line.startswith('#include "')]
    assert included == ['#include "kernel_operator.h"']
    target = tmp_path / "kernel.cpp"
    target.write_text(text)
    flags = (*emulated.FLAGS, "-fsyntax-only", f"-I{emulated.EMULATOR}")
    subprocess.run(["g++", *flags, target], check=True)
