"""The promise: calls from the host, in chunks that overlap, in bounded memory.

On the emulated driver, and on no hardware: see tests/support/launched.py.
"""

import ctypes
import threading
import time

import numpy as np
import pytest

from tests.launcher.calls import INTERNAL, OK, RESOURCE_EXHAUSTED, Call
from tests.support import cases, oracle
from tests.support.launched import (
    FAULT,
    both,
    check,
    in_threads,
    require_driver,
    succeed,
)

require_driver()


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


@pytest.mark.parametrize("weights", [None, np.float32], ids=["narrow", "float32"])
def test_chunks_of_a_batch_of_16_bits(weights, launcher, books):
    """Elements of 4 MiB: each is found where its dtype says."""
    shape = cases.Shape((((64, 128),),), batch=3, anchors=2, channels=256, groups=8)
    narrow = cases.narrowed(cases.make(shape), np.float16, weights)
    inputs, _, judged = cases.judge_widened(narrow)
    assert inputs.feature_maps[0].nbytes == 4 << 20
    one, call = launcher(), Call(inputs)
    assert one.compute(call) == OK, one.error()
    assert books.calls()["aclrtLaunchKernelWithHostArgs"] == 3
    oracle.assert_rounded_once(call.results[0], judged.out, judged.out_scale)


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
        done = books.called()
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
    turn = ["aclrtLaunchKernelWithHostArgs", "aclrtSynchronizeStream"]
    assert [name for name in books.called() if name in turn] == turn * 3
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
