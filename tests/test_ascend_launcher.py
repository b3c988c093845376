"""The promise: the launcher of the Ascend C kernels, and XLA's handlers on a card.

Everything runs through the emulated driver and on no hardware. A test that takes a
launcher of its own sees what a new process would: no card and no kernel is known yet.
"""

import ctypes
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.launcher.calls import (
    FAILED_PRECONDITION,
    INTERNAL,
    INVALID_ARGUMENT,
    OK,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    Call,
    OnCard,
    through_xla,
)
from tests.support import cases, cxx, oracle
from tests.support.launched import (
    DRIVER,
    FAULT,
    both,
    check,
    output,
    require_driver,
    start,
    succeed,
)

require_driver()


@pytest.fixture(scope="module")
def frame() -> ctypes.CDLL:
    """XLA's side of a handler (launcher/frame.cc)."""
    return ctypes.CDLL(str(cxx.build("frame") / "frame.so"))


def bring_back(arrays: list[OnCard]) -> None:
    for on_card in arrays:
        on_card.fetch()
        on_card.free()


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


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("which", range(3))
def test_only_what_is_wanted_moves(which, deterministic, launcher, books):
    """The gradient of the maps alone needs no maps."""
    one, inputs = launcher(), cases.case("two cameras")
    judged = cases.judged_case("two cameras")
    wanted = tuple(i == which for i in range(3))
    call = Call(inputs, judged.cotangent, wanted, deterministic=deterministic)
    assert one.compute(call) == OK, one.error()
    results = list(map(np.float32, judged.grads))
    results[which] = call.results[which]
    cases.assert_gradients_within(results, judged)
    copies = re.findall(r"copy of (\d+) bytes (host|device) to", books.trace())
    needed = inputs[1:] if which == 0 else inputs
    sizes = [array.nbytes for array in (*needed, judged.cotangent.astype(np.float32))]
    assert [int(size) for size, start in copies if start == "host"] == sizes
    (back,) = (int(size) for size, start in copies if start == "device")
    assert back == call.results[which].nbytes
    assert books.calls()["aclrtLaunchKernelWithHostArgs"] == 1


WRONG = {
    "must be float32 on Ascend": lambda x: x._replace(weight=np.float64(x.weight)),
    "must be int32": lambda x: x._replace(spatial_shape=np.float32(x.spatial_shape)),
    "must have 3, 5 and 6 dim": lambda x: x._replace(feature_maps=x.feature_maps[0]),
    "must agree in their sizes": lambda x: x._replace(weight=x.weight[:, :2]),
    "must describe the cameras": lambda x: x._replace(
        spatial_shape=x.spatial_shape[:1]
    ),
    "scale_start_index[1, 0] is ": lambda x: x._replace(
        scale_start_index=x.scale_start_index + np.int32([[0], [1000]])
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_refused(message, frame, launcher, books):
    one, right = launcher(), cases.case("two cameras")
    wrong = Call(right)
    wrong.inputs = WRONG[message](right)
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
    calls = [both("one map") for _ in range(4)]
    arrays = [[OnCard(runtime, call) for call in pair] for pair in calls]

    def work(i: int) -> None:
        # This thread has no current card: it is the one that calls from the host use.
        stream = streams[i % len(streams)]
        for call, on_card in 100 * list(zip(calls[i], arrays[i], strict=True)):
            assert one.enqueue(call, on_card, stream) == OK, one.error()

    books.reset()
    in_threads([lambda i=i: work(i) for i in range(4)])
    letters = {"aclrtMemsetAsync": "m", "aclrtLaunchKernelWithHostArgs": "l"}
    letters["aclrtRecordEvent"] = "r"
    done = [line.split("(")[0] for line in books.trace().splitlines()]
    turns = "".join(letters.get(name, "") for name in done)
    assert re.fullmatch("(m{1,2}lr){800}", turns), "no call comes between another's"
    for stream in streams:
        runtime.synchronise(stream)
    for pair, on_cards in zip(calls, arrays, strict=True):
        bring_back(on_cards)
        check("one map", *pair)
    one.trim()
    for stream in streams:
        runtime.destroy(stream)


def test_workspaces_are_bounded(launcher, runtime, books):
    """However many streams: one waits on the card for a block, the host never does."""
    one, streams = launcher(), [runtime.stream() for _ in range(20)]
    calls = [Call(cases.case("one map")) for _ in streams]
    arrays = [OnCard(runtime, call) for call in calls]
    before = books.live()["device"]
    books.reset()
    for call, on_card, stream in zip(calls, arrays, streams, strict=True):
        runtime.occupy(stream, on_card.results[0], 50)
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


def test_all_blocks_of_a_kernel_start_at_once(launcher, books):
    """They wait for each other: two kernels must not have some of the cores each."""
    one, calls = launcher(), both("rig", deterministic=True)
    books.reset()
    for call in calls:
        assert one.compute(call) == OK, one.error()
    launched = re.findall(r"kernel \w+ on \d+ blocks(.*)", books.trace())
    assert launched == [" at once"] * 3


@pytest.mark.parametrize(
    ("function", "codes"),
    {
        "aclrtRecordEvent": (INTERNAL, OK),
        "aclrtQueryEventStatus": (OK, OK),
    }.items(),
)
def test_a_failed_call_harms_no_workspace_of_others(
    function, codes, launcher, runtime, books
):
    """A workspace goes neither to others nor back before the card is done with it."""
    one, streams = launcher(), [runtime.stream() for _ in range(2)]
    calls = [Call(cases.case("one map")) for _ in streams]
    arrays = [OnCard(runtime, call) for call in calls]
    runtime.occupy(streams[0], arrays[0].results[0], 50)
    books.fail(function, 1, FAULT)
    found = [one.enqueue(*each) for each in zip(calls, arrays, streams, strict=True)]
    assert tuple(found) == codes
    for stream in streams:
        runtime.synchronise(stream)
    bring_back(arrays)
    judged = cases.judged_case("one map")
    good = calls[codes.index(OK)]
    oracle.assert_within(good.results[0], judged.out, judged.out_scale)
    one.trim()
    for stream in streams:
        runtime.destroy(stream)


def test_no_memory_for_a_workspace(launcher, runtime, books):
    one, call = launcher(), Call(cases.case("one map"))
    on_card = OnCard(runtime, call)
    books.set(memory=1 << 16)
    assert one.enqueue(call, on_card, None) == RESOURCE_EXHAUSTED
    assert re.fullmatch(
        "aclrtMalloc failed with code 207001: out of memory; the runtime says: .*; "
        r"asked for 262144 bytes where \d+ of 65536 are free",
        one.error(),
    )
    books.set(memory=1 << 30)
    assert one.enqueue(call, on_card, None) == OK
    runtime.synchronise(None)
    bring_back([on_card])
    judged = cases.judged_case("one map")
    oracle.assert_within(call.results[0], judged.out, judged.out_scale)


def test_memory_that_nothing_uses_is_given_up_first(launcher, runtime, books):
    """A call from the host may need the room that workspaces and idle lanes hold."""
    one, small = launcher(), Call(cases.case("one map"))
    on_card = OnCard(runtime, small)
    assert one.enqueue(small, on_card, None) == OK
    runtime.synchronise(None)
    bring_back([on_card])
    assert books.live()["device_bytes"] >= 1 << 18
    large = Call(cases.make(cases.Shape((((32, 32),),), anchors=2, channels=256)))
    books.set(memory=9 << 17)  # the maps take 8 of 9 parts
    assert one.compute(large) == OK, one.error()
    assert re.search(r"aclrtMalloc\(\d+\) = 207001", books.trace())


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


def test_a_failure_leaves_no_thread_waiting(launcher, books):
    """Those that wait for a stream are told too when no stream can be made any more."""
    one, calls = launcher(), [Call(cases.case("one map")) for _ in range(12)]
    codes: list[int] = []
    done = [0] * len(calls)

    def work(number: int) -> None:
        while (code := one.compute(calls[number])) == OK:
            done[number] += 1
        codes.append(code)

    books.set(workers=1, transfer_microseconds=2000)
    succeed(one)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    while not all(done) and not codes:
        time.sleep(0.01)
    books.fail("aclrtCreateStream", 0, FAULT)
    books.fail("aclrtMemcpyAsync", 0, FAULT)
    for thread in threads:
        thread.join()
    assert codes == [INTERNAL] * len(threads)


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


def test_arrays_of_any_size_go_through_a_little_pinned_memory(launcher, books):
    one = launcher()
    inputs = cases.make(cases.Shape((((96, 96),),), anchors=2, channels=256))
    assert inputs.feature_maps.nbytes == 9 << 20
    before = books.live()["pinned_bytes"]
    call, judged = Call(inputs), cases.judge(inputs)
    assert one.compute(call) == OK, one.error()
    oracle.assert_within(call.results[0], judged.out, judged.out_scale)
    assert books.live()["pinned_bytes"] - before == 8 << 20


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
            {"aclrtLaunchKernelWithHostArgs": "L", "aclrtSynchronizeStream": "S"}[name]
            for name in done
            if name in ("aclrtLaunchKernelWithHostArgs", "aclrtSynchronizeStream")
        ]
        assert "".join(order) == "LLSLSS"
    assert books.live()["streams"] - before == 2
    oracle.assert_within(calls[0].results[0], judged.out, judged.out_scale)
    cases.assert_gradients_within(calls[1].results, judged)


@pytest.mark.parametrize("warm", [False, True])
def test_chunks_take_one_stream_where_two_have_no_room(warm, launcher, books):
    """Also if what the second stream holds from before has to go."""
    one = launcher()
    small, large = (
        cases.make(cases.Shape((((64, width),),), batch=3, anchors=2, channels=256))
        for width in (64, 96)
    )
    if warm:
        assert one.compute(Call(small)) == OK, one.error()
        assert books.live()["device_bytes"] > 8 << 20
    books.reset()
    books.set(memory=9 << 20)  # one element takes 6 MiB and a little more
    call, judged = Call(large), cases.judge(large)
    assert one.compute(call) == OK, one.error()
    oracle.assert_within(call.results[0], judged.out, judged.out_scale)
    order = re.findall(r"aclrt(Launch|SynchronizeStream)", books.trace())
    assert order == ["Launch", "SynchronizeStream"] * 3
    books.set(memory=6 << 20)
    one.trim()
    assert one.compute(call) == RESOURCE_EXHAUSTED
    books.set(memory=1 << 30)


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
    assert one.describe().text("problem") == problem
    assert one.compute(Call(cases.case("one map"))) == FAILED_PRECONDITION
    assert one.error() == problem


def test_fewer_cores(launcher, books):
    books.set(cores=3)
    one = launcher()
    assert one.describe().cores == 3
    call = Call(cases.case("many anchors"))
    assert one.compute(call) == OK, one.error()
    judged = cases.judged_case("many anchors")
    oracle.assert_within(call.results[0], judged.out, judged.out_scale)
    assert "on 3 blocks at once" in books.trace()


@pytest.mark.parametrize(("limit", "cores"), [(2, 2), (9, 3), (0, 3)])
def test_a_process_with_a_limit_uses_fewer_cores(limit, cores, launcher, books):
    """More blocks than that would wait for each other for ever."""
    books.set(cores=3, core_limit=limit)
    one = launcher()
    assert one.describe().cores == cores
    assert one.compute(Call(cases.case("many anchors"))) == OK, one.error()
    assert f"on {cores} blocks at once" in books.trace()


def test_a_card_without_limits(launcher, books):
    books.fail("aclrtGetDeviceResLimit", 1, 207000)  # it is not supported
    assert launcher().describe().cores == 48


def test_no_card(launcher, books):
    books.set(devices=0)
    one = launcher()
    assert one.compute(Call(cases.case("one map"))) == UNAVAILABLE
    books.set(devices=1)
    succeed(one)


# Any call may fail.


def test_each_call_of_a_first_use_may_fail(launcher, books):
    """From the runtime's start to the first result: told, nothing lost, then right."""
    books.reset()
    succeed(launcher())
    calls = books.calls()
    assert {"aclInit", "aclrtGetDeviceInfo", "aclrtBinaryLoadFromData"} <= set(calls)
    for function in calls:
        # "No version" is an answer, and what cannot be freed stays.
        if function in ("aclsysGetCANNVersion", "aclrtFree"):
            continue
        # Compilation, and kernels from the cache that are refused: see below.
        if function.startswith(("aclrtc", "aclrtBinary")):
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
    assert counts["aclrtLaunchKernelWithHostArgs"] == 3
    for function, count in counts.items():
        if function == "aclrtSynchronizeStream":
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


def test_calls_of_chunks_from_the_host_may_fail(launcher, books):
    """Whichever chunk it meets: told, nothing lost, then right."""
    one = launcher()
    shape = cases.Shape((((64, 64),),), batch=3, anchors=2, channels=256, groups=8)
    inputs = cases.make(shape)
    judged = cases.judge(inputs)

    def compute() -> tuple[str, list[np.ndarray]]:
        call = Call(inputs, judged.cotangent)
        return "" if one.compute(call) == OK else one.error(), call.results

    assert compute()[0] == ""  # the kernels are there
    one.trim()
    books.reset()
    before = books.live()
    told, right = compute()
    assert told == ""
    cases.assert_gradients_within(right, judged)
    kept, counts = books.live(), books.calls()
    assert counts["aclrtLaunchKernelWithHostArgs"] == 3
    assert counts["aclrtRecordEvent"] and counts["aclrtSynchronizeEvent"]
    for function, count in counts.items():
        for n in sorted({1, min(2, count), (count + 1) // 2, count}):
            where = function, n
            one.trim()
            books.reset()
            books.fail(function, n, FAULT)
            told, _ = compute()
            assert told.startswith(f"{function} failed with code {FAULT}"), where
            live = books.live()
            assert all(live[kind] <= kept[kind] for kind in kept), (where, live)
            told, results = compute()
            assert told == "", where
            assert all(map(np.array_equal, results, right)), where
            assert books.live() == kept, where
            one.trim()
            assert books.live() == before, where
            assert not books.findings(), where


# In processes of their own.


def driver_without(folder: Path, *functions: str, name: str = "libacl_rt.so") -> Path:
    """A driver that lacks functions."""
    folder.mkdir()
    library = (DRIVER / "libacl_rt.so").read_bytes()
    for function in functions:
        exported = function.encode() + b"\0"
        assert exported in library
        library = library.replace(exported, exported[:-2] + b"X\0")
    (folder / name).write_bytes(library)
    return folder


def test_an_old_toolkit(compiled, tmp_path):
    """No compiler: kernels built ahead. No count of cores: what the name tells."""
    driver = driver_without(
        tmp_path / "lib64",
        "aclrtBinaryLoadFromData",
        "aclrtLaunchKernelWithArgsArray",
        "aclrtGetDeviceInfo",
        "aclrtGetDeviceResLimit",
        name="libascendcl.so",
    )
    kernels = tmp_path / "kernels.o"
    kernels.write_bytes(compiled)
    source = """
    before = one.describe()
    print(before.compiler, before.cores, attempt(), one.describe().text("kernels"))
    """
    told = output(start(source, tmp_path, driver, JDA_ASCEND_KERNELS=str(kernels)))
    assert told == [f"None 48 right {kernels}"]
    lines = output(start("print(attempt())", tmp_path, driver, JDA_ASCEND_KERNELS=""))
    assert lines[0] == (
        f"{FAILED_PRECONDITION} no kernels: JDA_ASCEND_KERNELS names no file that was "
        "built ahead, and this CANN cannot compile kernels at run time; tried"
    )
    assert lines[1].startswith(f"  {driver}/libacl_rtc.so: cannot open")


LAUNCHES = ("aclrtLaunchKernelWithHostArgs", "aclrtLaunchKernelWithArgsArray")
UNDESCRIBED = f"{INTERNAL} {LAUNCHES[1]} failed with code 107000: invalid parameter"


@pytest.mark.parametrize("described", [0, 1])
@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ((), ("right", "right")),
        (LAUNCHES[1:], ("right", "right")),
        (LAUNCHES[:1], (UNDESCRIBED, "right")),
        (LAUNCHES, (f"{FAILED_PRECONDITION} no driver for Ascend cards is open",) * 2),
    ],
)
def test_kernels_are_launched_by_what_there_is(
    missing, told, described, compiled, tmp_path
):
    """Only one of the two functions wants kernels that describe their parameters."""
    kernels = tmp_path / "kernels.o"
    kernels.write_bytes(compiled)
    line, *_ = output(
        start(
            "print(attempt()); print(one.error())",
            tmp_path / "x",
            driver_without(tmp_path / "lib64", *missing),
            JDA_ASCEND_KERNELS=str(kernels),
            JDA_EMULATED=f"kernel_parameters={described}",
        )
    )
    assert line.startswith(told[described])
    if told[described] == UNDESCRIBED:
        assert line.endswith("the kernel does not have parameter information")


def test_kernels_built_ahead_need_not_say_what_they_are(
    compiled, launcher, books, tmp_path, monkeypatch
):
    """Neither which cores they are for nor what their parameters are."""
    kernels = tmp_path / "kernels.o"
    kernels.write_bytes(compiled)
    monkeypatch.setenv("JDA_ASCEND_KERNELS", str(kernels))
    one = launcher()
    succeed(one)
    assert one.describe().text("kernels") == str(kernels)
    assert not books.findings()
    for path in (tmp_path / "none", tmp_path):
        monkeypatch.setenv("JDA_ASCEND_KERNELS", str(path))
        one = launcher()
        assert one.compute(Call(cases.case("one map"))) == FAILED_PRECONDITION
        assert one.error() == (
            f"the kernels of JDA_ASCEND_KERNELS={path} do not load: "
            "there is no such file, or it is empty"
        )


def test_a_library_that_lacks_functions(tmp_path):
    lib64 = tmp_path / "lib64"
    lib64.mkdir()
    source = tmp_path / "empty.c"
    source.write_text("int aclInit(const char* config) { return 0; }\n")
    library = lib64 / "libacl_rt.so"
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    told = output(start("print(one.opened, one.error())", tmp_path, lib64))
    assert told[0].startswith(f"{FAILED_PRECONDITION} CANN's runtime was not found")
    assert told[1].startswith(f"  {library}: lacks aclrtSetDevice, aclrtGetDevice, ")


@pytest.mark.parametrize("variable", ["ASCEND_HOME_PATH", "LD_LIBRARY_PATH"])
def test_the_driver_is_found_as_the_environment_says(variable, tmp_path):
    (tmp_path / "lib64").symlink_to(DRIVER)
    value = tmp_path / "lib64" if variable == "LD_LIBRARY_PATH" else tmp_path
    source = """
    found = one.describe()
    print(one.opened, found.text("runtime"), found.text("compiler"), attempt())
    """
    told = output(start(source, tmp_path / "x", "", **{variable: str(value)}))
    runtime, compiler = (tmp_path / "lib64" / f"libacl_{x}.so" for x in ("rt", "rtc"))
    assert told == [f"0 {runtime} {compiler} right"]


def test_one_driver_in_a_process(tmp_path):
    source = f"""
    for folder in ({str(DRIVER)!r}, "/elsewhere", ""):
        print(one.library.jda_ascend_open(folder.encode()), one.error())
    print(attempt())
    """
    told = output(start(source, tmp_path))
    taken = f"{FAILED_PRECONDITION} the driver of {DRIVER}/libacl_rt.so is open"
    assert told[0] == "0 " and told[3] == "right"
    assert told[1].startswith(taken) and told[2].startswith(taken)


def test_a_forked_process_is_told(tmp_path):
    source = """
    import os
    print(attempt(), flush=True)
    if os.fork() == 0:
        print(attempt(), flush=True)
        os._exit(0)
    os.wait()
    print(attempt())
    """
    told = output(start(source, tmp_path))
    forked = f"{FAILED_PRECONDITION} this process was forked after its parent had used"
    assert told[0] == told[2] == "right"
    assert told[1].startswith(forked)


def test_after_a_fault_on_the_card_memory_is_not_lost(tmp_path):
    """The error comes to who waits; what the launcher holds does not grow."""
    source = f"""
    from tests.support.emulated_books import EmulatedDriver
    driver, runtime = EmulatedDriver(), Runtime(Path({str(DRIVER)!r}))
    on_card = OnCard(runtime, call)
    stream = runtime.stream()
    driver.fail("kernel", 1, 507035)
    print(one.enqueue(call, on_card, stream), one.error())
    print(runtime.library.aclrtSynchronizeStream(ctypes.c_void_p(stream)))
    kept = []
    for _ in range(3):
        print(one.enqueue(call, on_card, stream), one.error())
        kept.append(driver.live()["device"])
    print(kept[0] >= kept[-1])
    """
    told = output(start(source, tmp_path))
    assert told[0] == "0 "
    assert told[1] == "507035"
    for line in told[2:-1]:
        assert line.startswith(f"{INTERNAL} aclrt") and "507035" in line
    assert told[-1] == "True"
