"""The promise: the launcher of the Ascend C kernels, and XLA's handlers on a card.

Everything runs through the emulated driver and on no hardware. A test that takes a
launcher of its own sees what a new process would: no card and no kernel is known yet.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cases
import jax.ffi
import numpy as np
import oracle
import pytest
from emulated_books import FOLDER, EmulatedDriver

sys.path.append(str(Path(__file__).parent / "launcher"))
from calls import (
    FAILED_PRECONDITION,
    INTERNAL,
    INVALID_ARGUMENT,
    OK,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    Call,
    Launcher,
    OnCard,
    Runtime,
    through_xla,
)

HERE = Path(__file__).parent / "launcher"
DRIVER = Path(str(FOLDER))
LIBRARY = DRIVER.parent / "libjda_ascend.so"
FAULT = 107000  # a code of the runtime

if not (DRIVER / "libacl_rt.so").exists():
    reason = f"no emulated driver in {DRIVER}: build with -DJDA_ASCEND_EMULATED=ON"
    if os.environ.get("JDA_REQUIRE_CPU") == "1":
        pytest.fail(f"JDA_REQUIRE_CPU=1, but {reason}")
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime(DRIVER)


@pytest.fixture
def books(runtime: Runtime) -> Iterator[EmulatedDriver]:
    """The driver, which finds no broken rule, whatever the test does with it."""
    driver = EmulatedDriver()
    driver.reset()
    yield driver
    findings = driver.findings()
    driver.reset()
    assert not findings


@pytest.fixture
def launcher(books: EmulatedDriver, tmp_path: Path) -> Iterator[Callable[[], Launcher]]:
    """Makes launchers of one's own. In the end, nothing of theirs is left."""
    made: list[Launcher] = []

    def make() -> Launcher:
        made.append(Launcher(LIBRARY, tmp_path, DRIVER))
        assert made[-1].opened == OK, made[-1].error()
        return made[-1]

    before = books.live()
    yield make
    for one in made:
        one.trim()
    assert books.live() == before


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """XLA's side of a handler (launcher/frame.cc)."""
    library = tmp_path_factory.mktemp("frame") / "frame.so"
    include = f"-isystem{jax.ffi.include_dir()}"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", include]
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, *flags, HERE / "frame.cc", "-o", library], check=True)
    return ctypes.CDLL(str(library))


def both(name: str, **keywords: object) -> tuple[Call, Call]:
    """The forward and the backward call of a case."""
    inputs, judged = cases.case(name), cases.judged_case(name)
    return Call(inputs), Call(inputs, judged.cotangent, **keywords)


def check(name: str, forward: Call, backward: Call) -> None:
    judged = cases.judged_case(name)
    oracle.assert_within(forward.results[0], judged.out, judged.out_scale)
    cases.assert_gradients_within(backward.results, judged)


def bring_back(arrays: list[OnCard]) -> None:
    for on_card in arrays:
        on_card.fetch()
        on_card.free()


def succeed(launcher: Launcher) -> None:
    calls = both("one map")
    for call in calls:
        assert launcher.compute(call) == OK, launcher.error()
    check("one map", *calls)


# On the card, as XLA calls it.


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("name", ["rig", "300 points at one place", "no points"])
def test_handlers_of_a_card(name, deterministic, frame, launcher, runtime, books):
    one, stream = launcher(), runtime.stream()
    calls = both(name, deterministic=deterministic)
    arrays = [OnCard(runtime, call) for call in calls]
    books.reset()
    for call, on_card in zip(calls, arrays, strict=True):
        told = through_xla(frame, one, "device", call, on_card, stream)
        assert told == (OK, "")
    done = books.calls()
    assert not any("ynchronize" in call or "Memcpy" in call for call in done), done
    assert "kernel" not in books.trace(), "enqueued, not awaited"
    runtime.synchronise(stream)
    bring_back(arrays)
    check(name, *calls)
    one.trim()
    runtime.destroy(stream)


def test_only_wanted_gradients_are_written(frame, launcher, runtime, books):
    one = launcher()
    judged = cases.judged_case("two cameras")
    wanted = (False, True, False)
    call = Call(cases.case("two cameras"), judged.cotangent, wanted)
    on_card = OnCard(runtime, call)
    books.reset()
    assert through_xla(frame, one, "device", call, on_card) == (OK, "")
    runtime.synchronise(None)
    assert books.calls()["aclrtMemsetAsync"] == 1, "the workspace only"
    _, gradient, _ = on_card.fetch()
    settled = judged.settled
    np.testing.assert_allclose(
        gradient[settled], judged.grads[1][settled], rtol=1e-3, atol=1e-4
    )
    on_card.free()


WRONG = {
    "must be float32 on Ascend": lambda x: x._replace(weight=np.float64(x.weight)),
    "must be int32": lambda x: x._replace(spatial_shape=np.float32(x.spatial_shape)),
    "must have 3, 5 and 6 dim": lambda x: x._replace(feature_maps=x.feature_maps[0]),
    "must agree in their sizes": lambda x: x._replace(weight=x.weight[:, :2]),
    "must describe the cameras": lambda x: x._replace(
        spatial_shape=x.spatial_shape[:1]
    ),
    "the map of camera 1, scale 0 has spatial_shape": lambda x: x._replace(
        scale_start_index=x.scale_start_index + [[0], [1000]]
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_refused(message, frame, launcher, books):
    one, right = launcher(), cases.case("two cameras")
    wrong = Call(right)
    wrong.inputs = WRONG[message](right)
    if "map" in message:
        wrong.inputs = wrong.inputs._replace(
            scale_start_index=np.int32(wrong.inputs.scale_start_index)
        )
    code, told = through_xla(frame, one, "host", wrong)
    assert (code, told[:5]) == (INVALID_ARGUMENT, "jda: ")
    assert message in told
    assert "kernel" not in books.trace()


# Threads and streams.


def in_threads(work: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


@pytest.mark.parametrize("shared", [True, False])
def test_threads_enqueue_at_once(shared, launcher, runtime, books):
    """On one stream, whose calls share a workspace, and on streams of their own."""
    one = launcher()
    streams = [runtime.stream() for _ in range(1 if shared else 4)]
    calls = [both("two cameras") for _ in range(4)]
    arrays = [[OnCard(runtime, call) for call in pair] for pair in calls]

    def work(i: int) -> None:
        runtime("aclrtSetDevice", 0)
        for call, on_card in zip(calls[i], arrays[i], strict=True):
            stream = streams[i % len(streams)]
            assert one.enqueue(call, on_card, stream) == OK, one.error()

    in_threads([lambda i=i: work(i) for i in range(4)])
    for stream in streams:
        runtime.synchronise(stream)
    for pair, on_cards in zip(calls, arrays, strict=True):
        bring_back(on_cards)
        check("two cameras", *pair)
    one.trim()
    for stream in streams:
        runtime.destroy(stream)


def test_workspaces_are_bounded(launcher, runtime, books):
    """However many streams: a stream waits on the card for a block, the host does not."""
    one, streams = launcher(), [runtime.stream() for _ in range(20)]
    calls = [Call(cases.case("one map")) for _ in streams]
    arrays = [OnCard(runtime, call) for call in calls]
    before = books.live()["device"]
    books.reset()
    for call, on_card, stream in zip(calls, arrays, streams, strict=True):
        assert one.enqueue(call, on_card, stream) == OK, one.error()
    assert books.live()["device"] - before == 16
    done = books.calls()
    assert done["aclrtStreamWaitEvent"] == 4
    assert not done["aclrtSynchronizeStream"] + done["aclrtSynchronizeEvent"]
    for on_card, stream in zip(arrays, streams, strict=True):
        runtime.synchronise(stream)
        judged = cases.judged_case("one map")
        oracle.assert_within(on_card.fetch()[0], judged.out, judged.out_scale)
        on_card.free()
    one.trim()
    for stream in streams:
        runtime.destroy(stream)


def test_a_stream_has_its_workspace_again(launcher, runtime, books):
    one, stream = launcher(), runtime.stream()
    calls = [Call(cases.case("one map")) for _ in range(5)]
    arrays = [OnCard(runtime, call) for call in calls]
    before = books.live()["device"]
    for call, on_card in zip(calls, arrays, strict=True):
        assert one.enqueue(call, on_card, stream) == OK, one.error()
    assert books.live()["device"] - before == 1
    runtime.synchronise(stream)
    bring_back(arrays)
    one.trim()
    runtime.destroy(stream)


# Calls from the host.


def test_calls_from_many_threads_share_a_few_streams(launcher, books):
    one, calls = launcher(), [both("one map") for _ in range(12)]
    before = books.live()["streams"]

    def work(pair: tuple[Call, Call]) -> None:
        for call in pair:
            assert one.compute(call) == OK, one.error()

    in_threads([lambda pair=pair: work(pair) for pair in calls])
    for pair in calls:
        check("one map", *pair)
    assert 1 <= books.live()["streams"] - before <= 4


def test_what_is_kept_on_the_card_is_bounded(launcher, books):
    books.set(memory=1 << 25)  # a sixteenth of it may be kept: 2 MiB
    one = launcher()
    before = books.live()["device_bytes"]
    small = Call(cases.make(cases.Shape((((32, 32),),), channels=128)))
    large = Call(cases.make(cases.Shape((((64, 96),),), channels=128)))
    for call, kept in ((small, True), (large, False), (small, True)):
        assert one.compute(call) == OK, one.error()
        held = books.live()["device_bytes"] - before
        assert (held > 0) == kept
        assert held <= 1 << 21


def test_chunks_of_a_batch_overlap(launcher, books):
    """Elements of 4 MiB and more: two streams take turns."""
    one = launcher()
    shape = cases.Shape((((64, 64),),), batch=3, anchors=2, channels=256, groups=8)
    inputs = cases.make(shape)
    judged = cases.judge(inputs)
    assert inputs.feature_maps[0].nbytes == 4 << 20
    calls = Call(inputs), Call(inputs, judged.cotangent)
    before = books.live()["streams"]
    for call in calls:
        books.reset()
        assert one.compute(call) == OK, one.error()
        done = [line.split("(")[0] for line in books.trace().splitlines()]
        order = [
            {"aclrtLaunchKernelWithArgsArray": "L", "aclrtSynchronizeStream": "S"}[name]
            for name in done
            if name in ("aclrtLaunchKernelWithArgsArray", "aclrtSynchronizeStream")
        ]
        assert "".join(order) == "LLSLSS"
    assert books.live()["streams"] - before == 2
    oracle.assert_within(calls[0].results[0], judged.out, judged.out_scale)
    cases.assert_gradients_within(calls[1].results, judged)


def test_the_current_card_stays(launcher, runtime, books):
    books.set(devices=2)
    runtime("aclrtSetDevice", 1)
    try:
        succeed(launcher())
        card = ctypes.c_int32(-1)
        runtime("aclrtGetDevice", ctypes.byref(card))
        assert card.value == 1
    finally:
        runtime("aclrtSetDevice", 0)


# What a card can be like.


def test_another_kind_of_card(launcher, books):
    ctypes.CDLL(str(DRIVER / "libacl_rt.so")).jda_emulated_set_soc(b"Ascend310P3")
    one = launcher()
    problem = (
        "the card is Ascend310P3; jda has kernels for Ascend910B only "
        "(Atlas A2, architecture dav-2201)"
    )
    assert one.describe()["problem"] == problem
    assert one.compute(Call(cases.case("one map"))) == FAILED_PRECONDITION
    assert one.error() == problem


def test_fewer_cores(launcher, books):
    books.set(cores=3)
    one = launcher()
    assert one.describe()["cores"] == 3
    call = Call(cases.case("many anchors"))
    assert one.compute(call) == OK, one.error()
    judged = cases.judged_case("many anchors")
    oracle.assert_within(call.results[0], judged.out, judged.out_scale)
    assert "on 3 blocks" in books.trace()


def test_no_card(launcher, books):
    books.set(devices=0)
    one = launcher()
    assert one.compute(Call(cases.case("one map"))) == UNAVAILABLE
    books.set(devices=1)
    succeed(one)


# Any call may fail.


def test_each_call_of_a_first_use_may_fail(launcher, books):
    """From the start of the runtime to the first result: told, nothing lost, then right."""
    books.reset()
    succeed(launcher())
    calls = books.calls()
    assert {"aclInit", "aclrtGetDeviceInfo", "aclrtBinaryLoadFromData"} <= set(calls)
    for function in calls:
        # "No card yet" and "no version" are answers, and what cannot be freed stays.
        if function in ("aclrtGetDevice", "aclsysGetCANNVersion", "aclrtFree"):
            continue
        one = launcher()
        books.reset()
        before = books.live()
        books.fail(function, 1, FAULT)
        told = [one.error() for call in both("one map") if one.compute(call) != OK]
        assert len(told) == 1, function
        assert told[0].startswith(f"{function} failed"), function
        succeed(one)
        one.trim()
        assert books.live() == before, function


def test_each_call_on_a_card_may_fail(launcher, runtime, books):
    one, stream = launcher(), runtime.stream()
    calls = both("one map", deterministic=True)
    arrays = [OnCard(runtime, call) for call in calls]

    def enqueue() -> list[str]:
        told = []
        for call, on_card in zip(calls, arrays, strict=True):
            told.append("" if one.enqueue(call, on_card, stream) == OK else one.error())
        runtime.synchronise(stream)
        return told

    assert enqueue() == ["", ""]
    one.trim()
    books.reset()
    before = books.live()
    assert enqueue() == ["", ""]
    counts = books.calls()
    assert counts["aclrtLaunchKernelWithArgsArray"] == 3
    for function, count in counts.items():
        if function in ("aclrtGetDevice", "aclrtSynchronizeStream"):
            continue
        for n in range(1, count + 1):
            one.trim()
            books.reset()
            books.fail(function, n, FAULT)
            told = [message for message in enqueue() if message]
            expected = f"{function} failed with code {FAULT}: invalid parameter; the "
            assert len(told) == 1, (function, n)
            assert told[0].startswith(expected), (function, n, told)
            assert "it was told to fail" in told[0]
            assert enqueue() == ["", ""], (function, n)
            one.trim()
            assert books.live() == before, (function, n)
    bring_back(arrays)
    check("one map", *calls)
    runtime.destroy(stream)
