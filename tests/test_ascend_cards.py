"""The promise: the launcher asks a card what it is, and says what is wrong with it.

On the emulated driver, and on no hardware. A test that takes a launcher of its own sees
what a new process would: no card and no kernel is known yet.
"""

import ctypes

import pytest

from tests.launcher.calls import FAILED_PRECONDITION, OK, UNAVAILABLE, Call
from tests.support import cases, oracle
from tests.support.launched import DRIVER, require_driver, succeed

require_driver()


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
    assert books.kernels() == ["deformable_aggregation on 3 blocks at once"]


@pytest.mark.parametrize(("limit", "cores"), [(2, 2), (9, 3), (0, 3)])
def test_a_process_with_a_limit_uses_fewer_cores(limit, cores, launcher, books):
    """More blocks than that would wait for each other for ever."""
    books.set(cores=3, core_limit=limit)
    one = launcher()
    assert one.describe().cores == cores
    assert one.compute(Call(cases.case("many anchors"))) == OK, one.error()
    assert books.kernels() == [f"deformable_aggregation on {cores} blocks at once"]


def test_a_card_without_limits(launcher, books):
    books.fail("aclrtGetDeviceResLimit", 1, 207000)  # it is not supported
    assert launcher().describe().cores == 48


def test_no_card(launcher, books):
    books.set(devices=0)
    one = launcher()
    assert one.compute(Call(cases.case("one map"))) == UNAVAILABLE
    books.set(devices=1)
    succeed(one)
