"""The promise: any call of the runtime may fail; the next one works, nothing is lost.

On the emulated driver, and on no hardware: see tests/support/launched.py.
"""

import numpy as np

from tests.launcher.calls import OK, Call, OnCard
from tests.support import cases, launched

launched.require_driver()


def test_each_call_of_a_first_use_may_fail(launcher, books):
    """From the runtime's start to the first result: told, nothing lost, then right."""
    books.reset()
    launched.succeed(launcher())
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
        books.fail(function, 1, launched.FAULT)
        told = [
            one.error() for call in launched.both("one map") if one.compute(call) != OK
        ]
        assert len(told) == 1, function
        assert told[0].startswith(f"{function} failed"), function
        launched.succeed(one)
        one.trim()
        assert books.live() == before, function


def test_each_call_on_a_card_may_fail(launcher, runtime, books):
    one, stream = launcher(), runtime.stream()
    calls = launched.both("one map", deterministic=True)
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
            books.fail(function, n, launched.FAULT)
            told = [message for message in enqueue() if message]
            expected = (
                f"{function} failed with code {launched.FAULT}: invalid parameter; the "
            )
            assert len(told) == 1, (function, n)
            assert told[0].startswith(expected), (function, n, told)
            assert "it was told to fail" in told[0]
            assert enqueue() == ["", ""], (function, n)
            one.trim()
            assert books.live() == before, (function, n)
    launched.bring_back(arrays)
    launched.check("one map", *calls)
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
            books.fail(function, n, launched.FAULT)
            told, _ = compute()
            assert told.startswith(f"{function} failed with code {launched.FAULT}"), (
                where
            )
            live = books.live()
            assert all(live[kind] <= kept[kind] for kind in kept), (where, live)
            told, results = compute()
            assert told == "", where
            assert all(map(np.array_equal, results, right)), where
            assert books.live() == kept, where
            one.trim()
            assert books.live() == before, where
            assert not books.findings(), where
