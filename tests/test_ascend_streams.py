"""The promise: calls on streams of a card, from many threads, share what they need.

On the emulated driver, and on no hardware: see tests/support/launched.py.
"""

import re

import pytest

from tests.launcher.calls import INTERNAL, OK, RESOURCE_EXHAUSTED, Call, OnCard
from tests.support import cases, launched, oracle

launched.require_driver()


@pytest.mark.parametrize("shared", [True, False])
def test_threads_enqueue_at_once(shared, launcher, runtime, books):
    """On one stream, whose calls share a workspace, and on streams of their own."""
    one = launcher()
    streams = [runtime.stream() for _ in range(1 if shared else 4)]
    calls = [launched.both("one map") for _ in range(4)]
    arrays = [[OnCard(runtime, call) for call in pair] for pair in calls]

    def work(i: int) -> None:
        # This thread has no current card: it is the one that calls from the host use.
        stream = streams[i % len(streams)]
        for call, on_card in 100 * list(zip(calls[i], arrays[i], strict=True)):
            assert one.enqueue(call, on_card, stream) == OK, one.error()

    books.reset()
    launched.in_threads([lambda i=i: work(i) for i in range(4)])
    letters = {"aclrtMemsetAsync": "m", "aclrtLaunchKernelWithHostArgs": "l"}
    letters["aclrtRecordEvent"] = "r"
    turns = "".join(letters.get(name, "") for name in books.called())
    assert re.fullmatch("(m{1,2}lr){800}", turns), "no call comes between another's"
    for stream in streams:
        runtime.synchronise(stream)
    for pair, on_cards in zip(calls, arrays, strict=True):
        launched.bring_back(on_cards)
        launched.check("one map", *pair)
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
    one, calls = launcher(), launched.both("rig", deterministic=True)
    books.reset()
    for call in calls:
        assert one.compute(call) == OK, one.error()
    assert [kernel.endswith(" at once") for kernel in books.kernels()] == [True] * 3


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
    books.fail(function, 1, launched.FAULT)
    found = [one.enqueue(*each) for each in zip(calls, arrays, streams, strict=True)]
    assert tuple(found) == codes
    for stream in streams:
        runtime.synchronise(stream)
    launched.bring_back(arrays)
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
    launched.bring_back([on_card])
    judged = cases.judged_case("one map")
    oracle.assert_within(call.results[0], judged.out, judged.out_scale)


def test_memory_that_nothing_uses_is_given_up_first(launcher, runtime, books):
    """A call from the host may need the room that workspaces and idle lanes hold."""
    others = books.live()["device_bytes"]  # of other launchers in this process
    one, small = launcher(), Call(cases.case("one map"))
    on_card = OnCard(runtime, small)
    assert one.enqueue(small, on_card, None) == OK
    runtime.synchronise(None)
    launched.bring_back([on_card])
    assert books.live()["device_bytes"] >= others + (1 << 18)
    large = Call(cases.make(cases.Shape((((32, 32),),), anchors=2, channels=256)))
    books.set(memory=others + (9 << 17))  # the maps take 8 of 9 parts
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
    launched.bring_back(arrays)
    one.trim()
    runtime.destroy(stream)
