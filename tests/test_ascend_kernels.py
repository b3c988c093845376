"""The promise: the Ascend C kernels compute the operator in whatever order things run.

No NPU is involved: the kernels are compiled for the host and run under the emulator in
emulator/, which also judges every access and every flag. The strictest mode is
used: no synchronisation is inserted for the kernels.
"""

import functools
import itertools
import re
import shutil
import subprocess
import sys
from typing import NamedTuple
from zlib import crc32

import ml_dtypes
import numpy as np
import pytest

from benchmarks.ascend import problems
from benchmarks.ascend import run as benchmark
from tests.ascend import emulated, limits
from tests.support import cases, oracle

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

CORES = (1, 2, 3, 8, 40, 48)
BFLOAT16, FLOAT16 = ml_dtypes.bfloat16, np.float16
half = pytest.mark.parametrize("dtype", (BFLOAT16, FLOAT16))
weights = pytest.mark.parametrize("weights", (None, np.float32))
MODES = ("forward", "backward", "deterministic")


def orders(name: str) -> tuple[int, ...]:
    """Program order, and four others that differ from case to case."""
    return (0, *(crc32(name.encode()) + k for k in range(4)))


@pytest.fixture(scope="module")
def library():
    return emulated.library()


def assert_forward(library, inputs, judged, **options):
    run = emulated.emulate(library, inputs, **options)
    assert not run.findings
    oracle.assert_right(run.results[0], judged.out, judged.out_scale)
    return run


def assert_backward(library, inputs, judged, **options):
    cotangent = judged.cotangent.astype(inputs.feature_maps.dtype)
    run = emulated.emulate(library, inputs, cotangent, **options)
    assert not run.findings
    cases.assert_gradients_within(run.results, judged)
    return run


def assert_mode(library, mode, inputs, judged, **options):
    if mode == "forward":
        return assert_forward(library, inputs, judged, **options)
    deterministic = int(mode == "deterministic")
    options |= {"deterministic": deterministic}
    return assert_backward(library, inputs, judged, **options)


def assert_equal(run, first):
    for got, expected in zip(run.results, first.results, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", cases.ON_A_CARD)
def test_zoo(library, name, mode):
    """On any number of cores, in any order, where casts and flags do their worst."""
    inputs, judged = cases.case(name), cases.judged_case(name)
    for cores in CORES:
        first = None
        for seed in orders(name):
            options = {"cores": cores, "seed": seed}
            run = assert_mode(library, mode, inputs, judged, **options)
            first = first or run
            if mode != "backward":
                assert_equal(run, first)


@half
@weights
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", cases.ON_A_CARD)
def test_zoo_of_16_bits(library, name, mode, dtype, weights):
    """Rounded once, from sums in float32."""
    inputs, _, judged = cases.half_case(name, dtype, weights)
    of_every_run = None
    for cores in CORES if mode == "forward" else (1, 3, 48):
        of_these_cores = None
        for seed in orders(name)[:3]:
            options = {"cores": cores, "seed": seed}
            run = assert_mode(library, mode, inputs, judged, **options)
            of_these_cores = of_these_cores or run
            of_every_run = of_every_run or run
            if mode != "backward":
                assert_equal(run, of_these_cores)
            if mode == "deterministic":
                assert_equal(run, of_every_run)


@half
@pytest.mark.parametrize("name", limits.SHAPES)
def test_corners_of_the_limits_in_16_bits(library, name, dtype):
    inputs, judged = limits.half_case(name, dtype)
    for options in ({"cores": 1}, {"cores": 3, "seed": 1}, {}, {"seed": 2}):
        assert_forward(library, inputs, judged, **options)
        assert_backward(library, inputs, judged, **options)
    assert_mode(library, "deterministic", inputs, judged, cores=3)


# c that a block of 32 bytes divides or not, in groups of odd and even sizes.
@half
@weights
@pytest.mark.parametrize("groups", (1, 2, 3))
@pytest.mark.parametrize("each", (1, 2, 7, 8, 15, 16, 17, 31, 33, 48, 65))
def test_rows_of_any_size_in_16_bits(library, each, groups, dtype, weights):
    """Where the last row of all ends, memory does: nothing is read behind it."""
    shape = cases.Shape(
        (((3, 4), (1, 2)),),
        anchors=3,
        points=4,
        channels=each * groups,
        groups=groups,
        locate=cases.inside,
    )
    narrow = cases.narrowed(cases.make(shape), dtype, weights)
    inputs, _, judged = cases.judge_widened(narrow)
    for options in ({"cores": 1}, {"cores": 2, "seed": 1}):
        for mode in MODES:
            assert_mode(library, mode, inputs, judged, **options)


@half
@pytest.mark.parametrize("bad", (np.nan, np.inf))
@pytest.mark.parametrize("name", cases.POISONABLE)
def test_what_no_sample_uses_stays_out_in_16_bits(library, name, bad, dtype):
    clean = cases.case(name)
    inputs = cases.narrowed(cases.poisoned(clean, bad), dtype)
    _, _, judged = cases.half_case(name, dtype)
    for mode in MODES:
        assert_mode(library, mode, inputs, judged)


def pixel_inputs(values, weights, dtype):
    """A map of one pixel with such channels, and one key point for each weight."""
    points = len(weights)
    return cases.Inputs(
        np.asarray(values).astype(dtype).reshape(1, 1, -1),
        np.int32([[[1, 1]]]),
        np.int32([[0]]),
        np.full((1, 1, points, 1, 2), 0.5, np.float32),
        np.asarray(weights).astype(dtype).reshape(1, 1, points, 1, 1, 1),
    )


def one_pixel(library, values, weights, dtype):
    """The sum of weights times a pixel's channels."""
    inputs = pixel_inputs(values, weights, dtype)
    run = emulated.emulate(library, inputs, cores=1)
    assert not run.findings
    return run.results[0].ravel()


def one_pixel_gradients(library, values, weights, cotangent, dtype, **options):
    """Of the pixel: weights times cotangent. Of a weight: pixel times cotangent."""
    inputs = pixel_inputs(values, weights, dtype)
    bar = np.asarray(cotangent).astype(dtype).reshape(1, 1, -1)
    run = emulated.emulate(library, inputs, bar, **options)
    assert not run.findings
    return run.results[0].ravel(), run.results[2].ravel()


@half
def test_ties_go_to_even_numbers(library, dtype):
    """Of n and n + 2, which are neighbours, n + 1 lies in the middle."""
    n = int(2 / ml_dtypes.finfo(dtype).eps)
    call = functools.partial(one_pixel, library, [1.0, -1.0], dtype=dtype)
    assert call([n, 1]).tolist() == [n, -n]
    assert call([n + 2, 1]).tolist() == [n + 4, -n - 4]
    rounded_on_the_way = one_pixel(library, [1.0], [n] + 64 * [1], dtype)
    assert rounded_on_the_way.tolist() == [n + 64]


@half
@pytest.mark.parametrize("deterministic", (0, 1))
def test_ties_of_gradients_go_to_even_numbers(library, dtype, deterministic):
    n = int(2 / ml_dtypes.finfo(dtype).eps)
    for cores in (1, 3):
        call = functools.partial(
            one_pixel_gradients,
            library,
            dtype=dtype,
            deterministic=deterministic,
            cores=cores,
        )
        for even, right in ((n, n), (n + 2, n + 4)):
            of_pixel, _ = call([0.0, 0.0], [even, 1], [1.0, -1.0])
            assert of_pixel.tolist() == [right, -right]
            _, of_weights = call([even, 1.0], [0.0, 0.0], [1.0, 1.0])
            assert of_weights.tolist() == [right, right]
        # Sums of many, on many cores: no part of them is rounded.
        of_pixel, _ = call([0.0], [n] + 640 * [1], [1.0])
        assert of_pixel.tolist() == [n + 640]


@half
def test_largest_numbers_and_infinity(library, dtype):
    largest = float(ml_dtypes.finfo(dtype).max)
    values = [largest, -largest, np.inf, -np.inf, np.nan]
    for weight, right in ([1.0], values), ([2.0], [np.inf, -np.inf, *values[2:]]):
        got = one_pixel(library, values, weight, dtype)
        np.testing.assert_array_equal(got.astype(np.float32), right)


def test_float16_may_leave_its_range_on_the_way(library):
    got = one_pixel(library, [65504, -65504], [2.0, -1.0], FLOAT16)
    assert got.tolist() == [65504, -65504]


@half
def test_every_number_of_16_bits_comes_out_as_it_went_in(library, dtype):
    values = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    values = values[np.isfinite(values.astype(np.float32))]
    # 255 at a time, that c is odd.
    for part in np.array_split(values[: len(values) // 255 * 255], 255):
        got = one_pixel(library, part, [1.0], dtype)
        np.testing.assert_array_equal(got.astype(np.float32), part.astype(np.float32))


@pytest.mark.parametrize("mode", MODES)
def test_more_batch_elements_than_cores(library, mode):
    inputs = cases.make(cases.Shape(cases.TWO_CAMERAS, batch=100, anchors=1, points=2))
    judged = cases.judge(inputs)
    for options in ({}, {"seed": 3}, {"cores": 7}, {"cores": 7, "seed": 4}):
        assert_mode(library, mode, inputs, judged, **options)


@pytest.mark.parametrize("name", limits.SHAPES)
def test_corners_of_the_limits(library, name):
    inputs, judged = limits.case(name)
    for options in (
        *({"cores": cores} for cores in (1, 2, 3, 40, 48)),
        *({"cores": cores, "seed": cores} for cores in (2, 3, 40, 48)),
    ):
        assert_forward(library, inputs, judged, **options)
        assert_backward(library, inputs, judged, **options)
    assert_mode(library, "deterministic", inputs, judged, cores=3)


@half
@pytest.mark.parametrize("mode", MODES)
def test_blocks_of_more_pairs_than_an_instruction_repeats(library, mode, dtype):
    """In one scale, the 512 pairs of a chunk are two blocks, of 256 each."""
    shape = cases.Shape(
        cases.ONE, anchors=1, points=1100, channels=8, groups=1, locate=cases.inside
    )
    narrow = cases.narrowed(cases.make(shape), dtype)
    inputs, _, judged = cases.judge_widened(narrow)
    assert_mode(library, mode, inputs, judged, cores=1)


@half
@pytest.mark.parametrize("channels", (2032, 2033))
def test_widest_groups_in_16_bits(library, channels, dtype):
    """Of 2032 channels: of 2033 a row would take more than 255 blocks of float32."""
    shape = cases.Shape(cases.TWO_CAMERAS, channels=2 * channels, groups=2)
    inputs = cases.narrowed(cases.make(shape), dtype)
    if channels > 2032:
        with pytest.raises(ValueError, match="c / group=2033 on Ascend"):
            emulated.emulate(library, inputs)
        return
    inputs, _, judged = cases.judge_widened(inputs)
    for options in ({}, {"cores": 2, "seed": 1}):
        assert_forward(library, inputs, judged, **options)
        assert_backward(library, inputs, judged, **options)


@pytest.mark.parametrize("dtype", (np.float32, BFLOAT16, FLOAT16))
def test_one_anchor_in_two_tiles_of_a_core(library, dtype):
    """The second tile needs the cotangent of the same anchor again."""
    shape = cases.Shape(cases.TWO_CAMERAS, anchors=1, channels=4064, groups=2)
    wide = cases.make(shape)
    narrow = wide if dtype == np.float32 else cases.narrowed(wide, dtype)
    inputs, _, judged = cases.judge_widened(narrow)
    assert_backward(library, inputs, judged, cores=1, deterministic=1)


@pytest.mark.parametrize("deterministic", (0, 1))
def test_sums_of_a_large_batch_take_turns(library, deterministic):
    """Elements with 48 MiB of sums each: of three, two go into one launch.

    It leaves zeros for the other one.
    """
    shape = cases.Shape((((128, 384),),), batch=3, anchors=40, channels=256, groups=8)
    inputs = cases.narrowed(cases.make(shape), FLOAT16)
    cotangent = cases.make_cotangent(inputs)
    assert 4 * inputs.feature_maps[0].size == 48 << 20
    options = {"cores": 1 + 2 * deterministic, "seed": deterministic}
    options["deterministic"] = deterministic
    run = emulated.emulate(library, inputs, cotangent, **options)
    assert not run.findings
    for i in range(3):
        one = inputs._replace(
            feature_maps=inputs.feature_maps[i : i + 1],
            sample_locations=inputs.sample_locations[i : i + 1],
            weight=inputs.weight[i : i + 1],
        )
        alone = emulated.emulate(library, one, cotangent[i : i + 1], **options)
        for got, right in zip(run.results, alone.results, strict=True):
            np.testing.assert_array_equal(got[i : i + 1], right)


def test_groups_of_seven_blocks(library):
    """The widest groups of which a repeat has a block in each of eight samples."""
    shape = cases.Shape(cases.TWO_CAMERAS, channels=2 * 56, groups=2)
    inputs = cases.make(shape)
    assert_forward(library, inputs, cases.judge(inputs), cores=1)


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
@pytest.mark.parametrize("name", ("rig", "odd channels", "batch of five"))
def test_only_wanted_gradients(library, name, wants):
    inputs, judged = cases.case(name), cases.judged_case(name)
    for cores, seed, deterministic in itertools.product((1, 2, 3, 48), (0, 1), (0, 1)):
        options = {"cores": cores, "seed": seed, "deterministic": deterministic}
        run = emulated.emulate(
            library, inputs, judged.cotangent, wants=wants, **options
        )
        assert not run.findings
        filled = [
            right.astype(np.float32) if got is None else got
            for got, right in zip(run.results, judged.grads, strict=True)
        ]
        cases.assert_gradients_within(filled, judged)


@half
@weights
@pytest.mark.parametrize("wants", WANTED)
@pytest.mark.parametrize("name", ("rig", "odd channels", "batch of five"))
def test_only_wanted_gradients_in_16_bits(library, name, wants, dtype, weights):
    inputs, cotangent, judged = cases.half_case(name, dtype, weights)
    like = (inputs.feature_maps, inputs.sample_locations, inputs.weight)
    for cores, seed, deterministic in itertools.product((1, 3), (0, 1), (0, 1)):
        options = {"cores": cores, "seed": seed, "deterministic": deterministic}
        run = emulated.emulate(library, inputs, cotangent, wants=wants, **options)
        assert not run.findings
        filled = [
            right.astype(x.dtype) if got is None else got
            for got, right, x in zip(run.results, judged.grads, like, strict=True)
        ]
        cases.assert_gradients_within(filled, judged)


@pytest.mark.parametrize("bad", (np.nan, np.inf))
@pytest.mark.parametrize("name", cases.POISONABLE)
def test_what_no_sample_uses_stays_out(library, name, bad):
    inputs = cases.poisoned(cases.case(name), bad)
    judged = cases.judged_case(name)
    assert_forward(library, inputs, judged)
    assert_backward(library, inputs, judged)


@pytest.mark.parametrize("kind", cases.BAD_MAPS)
def test_an_invalid_map_contributes_nothing(library, kind):
    """And never reaches memory: the emulator would report it."""
    inputs, judged = cases.bad_maps(kind)
    assert_forward(library, inputs, judged)
    assert_backward(library, inputs, judged)


@pytest.mark.parametrize("maps", (cases.RIG, cases.RIG[:1] * 6), ids=("own", "equal"))
@pytest.mark.parametrize("scale", (0, 1))
def test_one_invalid_map_among_valid_ones(library, maps, scale):
    """Cameras whose maps have equal sizes share tables: not with an invalid one."""
    inputs = cases.make(cases.Shape(maps, batch=2, channels=16))
    shape, start = inputs.spatial_shape.copy(), inputs.scale_start_index.copy()
    if maps is cases.RIG:
        shape[2, scale] = 10**6
    else:
        start[2, scale] = inputs.feature_maps.shape[1] - 1
    weight = inputs.weight.copy()
    weight[:, :, :, 2, scale] = 0
    judged = cases.judge(inputs._replace(weight=weight))
    run = emulated.emulate(
        library, inputs._replace(spatial_shape=shape, scale_start_index=start)
    )
    assert not run.findings
    oracle.assert_within(run.results[0], judged.out, judged.out_scale)


@pytest.mark.parametrize("side", (2**24, 2**24 + 63))
@pytest.mark.parametrize("tall", (False, True))
def test_sides_that_a_float_cannot_hold(library, side, tall):
    """Sizes are rounded down there, a little: no corner lies behind the map."""
    nearly = np.float32(1) - np.finfo(np.float32).eps / 2
    along = np.float32([nearly, nearly, 0.75, 0.5, 1e-9, 2 / side])
    across = np.full_like(along, 0.5)
    places = np.stack([along, across] if tall else [across, along], axis=-1)
    maps = (((side, 1) if tall else (1, side),),)
    shape = cases.Shape(maps, anchors=len(along), points=1, channels=1, groups=1)
    inputs = cases.make(shape)
    inputs.sample_locations[0, :, 0, 0] = places
    inputs.feature_maps[0, :, 0] = np.arange(side)  # so that a sample says where it is
    inputs.weight[...] = 1
    run = emulated.emulate(library, inputs)
    assert not run.findings
    pixels = np.clip(along.astype(np.float64) * side - 0.5, 0, side - 1)
    off = 1 if side == 2**24 else 6
    np.testing.assert_allclose(run.results[0].ravel(), pixels, rtol=0, atol=off)
    run = emulated.emulate(library, inputs, np.ones_like(run.results[0]))
    assert not run.findings
    np.testing.assert_allclose(run.results[0].sum(), len(along), rtol=0.1)


@pytest.mark.parametrize("name", ("Sparse4D, a quarter visible", "page's example"))
def test_modelled_forward_is_near_the_floor(library, name):
    """A model of time, not a measurement: what the corner rows alone would take.

    Two meetings of all cores, of a microsecond and a half each, are in it.
    """
    shape = problems.PROBLEMS[name]
    inputs = cases.make(shape)
    locations, scales = inputs.sample_locations, inputs.spatial_shape.shape[1]
    visible = ((locations > 0) & (locations < 1)).all(axis=-1).sum()
    floor = problems.floor_microseconds(int(visible) * scales, shape.channels)
    run = emulated.emulate(library, inputs)
    assert not run.findings
    assert run.answer.microseconds <= 1.6 * floor


def test_the_naive_kernels_of_the_benchmark():
    """What ours are compared with computes the same."""
    naive, inputs = benchmark.build(), cases.case("page channels")
    judged = cases.judged_case("page channels")
    options = {"naive": 1, "automatic_sync": 1}
    forward = emulated.emulate(naive, inputs, **options)
    assert "(error)" not in forward.findings
    oracle.assert_within(forward.results[0], judged.out, judged.out_scale)
    backward = emulated.emulate(naive, inputs, judged.cotangent, **options)
    cases.assert_gradients_within(backward.results, judged)


class Hang(NamedTuple):
    """What once could hang a card: lines of today, and what stood in their place."""

    source: str
    header: str
    today: str
    before: str
    case: str
    mode: str
    flag: str


LOAD = "    const uint32_t at = static_cast<uint32_t>(first * kInt64Lanes);\n"
FENCE = (
    "    PipeBarrier<PIPE_ALL>();  "
    "// flags of an earlier run are down, everything is initialised\n"
)
START = "    kernel.OnStart();\n"
HANGS = {
    "a flag that SyncAll still holds": Hang(
        source="deformable_aggregation.cpp",
        header="shares.h",
        today=LOAD,
        before="    SetFlag<HardEvent::S_MTE2>(0);\n"
        "    WaitFlag<HardEvent::S_MTE2>(0);\n" + LOAD,
        case="rig",
        mode="forward",
        flag="SetFlag S_MTE2(0)",
    ),
    "flags of the unit before": Hang(
        source="deformable_aggregation_grad.cpp",
        header="schedule.h",
        today=FENCE + START,
        before=START + FENCE,
        case="batch of five",
        mode="deterministic",
        flag="SetFlag MTE3_V(2)",
    ),
}


@pytest.mark.parametrize("place", HANGS)
def test_what_once_hung_is_found(place, tmp_path):
    """Reverted alone: a finding that names the flag, and a hang in some order."""
    hang = HANGS[place]
    kernels = tmp_path / "ascend"
    shutil.copytree(emulated.KERNELS, kernels)
    text = (kernels / hang.header).read_text()
    assert text.count(hang.today) == 1
    (kernels / hang.header).write_text(text.replace(hang.today, hang.before))
    reverted = emulated.library_of(kernels, tmp_path / "build")
    inputs, judged = cases.case(hang.case), cases.judged_case(hang.case)
    cotangent = None if hang.mode == "forward" else judged.cotangent
    options = {"cores": 2, "deterministic": int(hang.mode == "deterministic")}
    found = [
        emulated.emulate(reverted, inputs, cotangent, seed=seed, **options).findings
        for seed in range(20)
    ]
    assert all("flag-early" in text and hang.flag in text for text in found)
    assert any("deadlock" in text for text in found)


@pytest.mark.parametrize(
    "kernel", sorted(emulated.KERNELS.glob("*.cpp")), ids=lambda path: path.stem
)
def test_flattened_source_is_self_contained(kernel, tmp_path):
    """What run-time compilation gets: one text, with no include of ours."""
    script = emulated.ASCEND / "flatten.py"
    text = subprocess.check_output([sys.executable, script, kernel], text=True)
    included = [line for line in text.splitlines() if line.startswith('#include "')]
    assert included == ['#include "kernel_operator.h"']
    core = emulated.EMULATOR
    target = tmp_path / "kernel.cpp"
    target.write_text(text)
    flags = ["-std=c++17", "-fsyntax-only", f"-I{core}", f"-I{core / 'api'}"]
    for form in ((), ("-DJDA_PROJECT_BUILD",)):
        subprocess.run(["g++", *flags, *form, target], check=True)


@pytest.mark.parametrize("project_build", (False, True))
def test_kernels_say_that_they_run_on_vector_cores(project_build, tmp_path):
    """With the compiler's word, or with the macro that older toolkits look for."""
    (tmp_path / "kernel_operator.h").touch()  # leaves the toolkit's words as they are
    source = emulated.ASCEND / "launcher" / "kernels.cpp"
    script = emulated.ASCEND / "flatten.py"
    kernels = tmp_path / "kernels.cpp"
    kernels.write_bytes(subprocess.check_output([sys.executable, script, source]))
    define = ["-DJDA_PROJECT_BUILD"] if project_build else []
    command = ["g++", "-E", "-P", f"-I{tmp_path}", *define, str(kernels)]
    text = " ".join(subprocess.check_output(command, text=True).split())
    entry = r'extern "C" __global__ (\w+) void (\w+)\([^)]*\) \{ (\w+)'
    entries = re.findall(entry, text)
    said = "__aicore__" if project_build else "__vector__"
    first = "KERNEL_TASK_TYPE_DEFAULT" if project_build else "static_assert"
    assert entries == [
        (said, "deformable_aggregation", first),
        (said, "deformable_aggregation_grad", first),
    ]
