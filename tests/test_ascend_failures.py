"""The promise: whichever two calls of the runtime fail, nothing breaks.

One call of the runtime fails, and then one of those that clean up after it or come
later: nothing goes away that the card may still use, errors name what failed, and the
next call is right. The pairs follow from what is called when nothing fails, and what
after a failure. There are thousands: some are tried, always the same, and all of them
where JDA_TEST_ALL_PAIRS is 1, which takes minutes.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launcher.calls import INTERNAL, OK, Call
from tests.support import cases
from tests.support.implementations import ROOT
from tests.support.launched import DRIVER, FAULT, output, require_driver, start, succeed

require_driver()

LIST = ROOT / "csrc" / "ascend" / "launcher" / "driver.h"

# And how many pairs are tried of each.
ROUTES = {"first": 60, "host": 100, "chunks": 20, "card": 100, "streams": 20}


# The emulated driver never uses an address twice: a process has room for some of them.
PARTS = 16


def failures(name: str, folder: Path, some: object) -> str:
    """Runs tests/launcher/failures.py."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.launcher.failures", name, folder, str(some)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("name", ROUTES)
def test_any_two_calls_may_fail(name, compiler, tmp_path):
    all_of_them = os.environ.get("JDA_TEST_ALL_PAIRS") == "1"
    parts = [f"{part}/{PARTS}" for part in range(PARTS)]
    tried = [
        int(failures(name, tmp_path, some))
        for some in (parts if all_of_them else [ROUTES[name]])
    ]
    assert sum(tried) >= ROUTES[name]


def test_every_function_is_called(compiler, tmp_path):
    """What no route calls is known by name."""
    called: set[str] = set()
    for name in ROUTES:
        called |= set(failures(name, tmp_path, "none").split())
    text = re.sub(r"[\\\n]", " ", LIST.read_text())
    functions = set(re.findall(r"(?:Required|Optional|Compiler)\(\s*(acl\w+)\)", text))
    assert len(functions) > 35
    after_a_failure = {
        "aclrtBinaryUnLoad",
        "aclrtcGetCompileLog",
        "aclrtcGetCompileLogSize",
    }
    of_other_drivers = {"aclrtBinaryLoadFromFile", "aclrtLaunchKernelWithArgsArray"}
    assert functions - called == after_a_failure | of_other_drivers


KEPT = "; aclrtSynchronizeStream failed too, with code 107000: "


def test_what_the_card_may_use_is_kept(launcher, books):
    """A stream, pinned memory and memory on the card, until it can be waited for."""
    one = launcher()
    succeed(one)
    one.trim()
    before = books.live()
    books.fail("aclrtLaunchKernelWithHostArgs", 1, FAULT)
    books.fail("aclrtSynchronizeStream", 1, FAULT)
    assert one.compute(Call(cases.case("one map"))) == INTERNAL
    told = one.error()
    assert told.startswith("aclrtLaunchKernelWithHostArgs failed with code 107000")
    assert told.count(KEPT) == 1
    assert told.endswith("is kept, as it may be in use")
    kept = {name: live - before[name] for name, live in books.live().items()}
    assert (kept["streams"], kept["device"], kept["pinned"], kept["events"]) == (
        1,
        1,
        2,
        2,
    )
    succeed(one)
    assert books.live()["streams"] - before["streams"] == 2, "it is not used again"
    books.fail("aclrtSynchronizeStream", 1, FAULT)
    one.trim()
    assert books.live()["streams"] - before["streams"] == 1, "still not waited for"
    one.trim()
    assert books.live() == before


def test_two_streams_that_cannot_be_waited_for_are_told_once(launcher, books):
    one = launcher()
    shape = cases.Shape((((64, 64),),), batch=3, anchors=2, channels=256, groups=8)
    call = Call(cases.make(shape))
    assert one.compute(call) == OK, one.error()
    books.fail("aclrtSynchronizeStream", 0, FAULT)
    assert one.compute(call) == INTERNAL
    assert one.error().startswith("aclrtSynchronizeStream failed with code 107000")
    assert one.error().count(KEPT) == 1
    books.reset()
    assert one.compute(call) == OK, one.error()


def test_a_workspace_that_the_card_may_use_is_kept(tmp_path):
    """It is no longer lent, and stays for ever: streams of others may be gone."""
    source = f"""
    from tests.support.emulated_books import EmulatedDriver
    driver, runtime = EmulatedDriver(), Runtime(Path({str(DRIVER)!r}))
    on_card, stream = OnCard(runtime, call), runtime.stream()
    before = driver.live()["device"]
    for function in ("aclrtLaunchKernelWithHostArgs", "aclrtRecordEvent"):
        driver.fail(function, 1, {FAULT})
    driver.fail("aclrtSynchronizeStream", 1, {FAULT})
    print(one.enqueue(call, on_card, stream), one.error())
    print(one.enqueue(call, on_card, stream), one.error())
    runtime.synchronise(stream)
    one.trim()
    print(driver.live()["device"] - before, repr(driver.findings()))
    """
    told = output(start(source, tmp_path))
    first = "aclrtLaunchKernelWithHostArgs failed with code 107000"
    assert told[0].startswith(f"{INTERNAL} {first}")
    assert told[0].endswith(
        f"{KEPT}a workspace on the card is kept, as it may be in use"
    )
    assert told[1:] == [f"{OK} ", "1 ''"]


def test_a_fault_on_the_card_is_told_once_and_ends_it(tmp_path):
    """Nothing can be waited for any more: what the calls had is kept, and no more."""
    source = """
    from tests.support.emulated_books import EmulatedDriver
    driver = EmulatedDriver()
    print(attempt())
    driver.fail("kernel", 1, 507035)
    print(attempt())
    kept = driver.live()
    for _ in range(3):
        print(attempt())
    print(driver.live() == kept, repr(driver.findings()))
    """
    right, first, *later, last = output(start(source, tmp_path))
    assert right == "right"
    assert first.startswith(
        f"{INTERNAL} aclrtSynchronizeStream failed with code 507035"
    )
    assert first.count("aclrtSynchronizeStream failed too, with code 507035") == 1
    for line in later:
        assert re.match(f"{INTERNAL} aclrt\\w+ failed with code 507035", line)
    assert last == "True ''"
