"""Launchers of the Ascend C kernels for tests, on the emulated driver.

A plugin of pytest: its fixtures are there for every test. A launcher of its own sees
what a new process would: no card and no kernel is known yet.
"""

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launcher.calls import OK, Call, Launcher, OnCard, Runtime
from tests.support import cases, oracle
from tests.support.emulated_books import FOLDER, EmulatedDriver
from tests.support.implementations import REQUIRE_CPU, ROOT

HERE = ROOT / "tests" / "launcher"
DRIVER = Path(str(FOLDER))
LIBRARY = DRIVER.parent / "libjda_ascend.so"
FAULT = 107000  # a code of the runtime


def require_driver() -> None:
    """Skips the tests of a module, or fails it, where there is no emulated driver."""
    if (DRIVER / "libacl_rt.so").exists():
        return
    reason = f"no emulated driver in {DRIVER}: build with -DJDA_ASCEND_EMULATED=ON"
    if REQUIRE_CPU:
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
def compiled(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The kernels as the run-time compiler hands them out."""
    shared = Path(os.environ["JDA_ASCEND_CACHE"])
    folder = tmp_path_factory.mktemp("compiled")
    one = Launcher(LIBRARY, folder, DRIVER)
    assert one.compute(Call(cases.case("one map"))) == OK, one.error()
    one.trim()
    for entry in shared.glob("?" * 32):
        alone = folder / entry.name[:8] / entry.name
        alone.parent.mkdir()
        shutil.copy(entry, alone)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CXX", "false")
            patch.setenv("JDA_ASCEND_CACHE", str(alone.parent))
            one = Launcher(LIBRARY, folder, DRIVER)
            found = one.compute(Call(cases.case("one map"))) == OK
            one.trim()
        if found:
            header, _checksum, kernels = entry.read_bytes().split(b"\n", 2)
            assert header == b"jda kernels 1"
            return kernels
    raise AssertionError(f"the kernels are not in {shared}")


class Compiler:
    """A compiler that needs no time, unless it is told to."""

    def __init__(self, folder: Path, kernels: bytes, seconds: float = 0) -> None:
        self.path, self.log = folder / "compiler", folder / "calls"
        self.made = folder / "made"
        self.made.write_bytes(kernels[:-8])  # less the driver's own checksum
        self.path.write_text(
            textwrap.dedent(f"""\
            #!/bin/sh
            case " $* " in *" -E "*) exit 0;; esac  # the preprocessor only
            echo call >> {self.log}
            sleep {seconds}
            while [ "$1" != -o ]; do shift; done
            cp {self.made} "$2"
            """)
        )
        self.path.chmod(0o700)

    @property
    def calls(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def compiler(
    compiled: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Compiler:
    found = Compiler(tmp_path, compiled)
    monkeypatch.setenv("CXX", str(found.path))
    monkeypatch.setenv("JDA_ASCEND_CACHE", str(tmp_path / "cache" / "deep"))
    return found


def both(name: str, **keywords: object) -> tuple[Call, Call]:
    """The forward and the backward call of a case."""
    inputs, judged = cases.case(name), cases.judged_case(name)
    return Call(inputs), Call(inputs, judged.cotangent, **keywords)


def check(name: str, forward: Call, backward: Call) -> None:
    judged = cases.judged_case(name)
    oracle.assert_within(forward.results[0], judged.out, judged.out_scale)
    cases.assert_gradients_within(backward.results, judged)


def succeed(launcher: Launcher) -> None:
    calls = both("one map")
    for call in calls:
        assert launcher.compute(call) == OK, launcher.error()
    check("one map", *calls)


# In processes of their own.

PROGRAM = """
from tests.support import cases, oracle
from tests.launcher.calls import *
from pathlib import Path
folder = Path({folder!r})
one = Launcher(Path({library!r}), folder, {driver!r})
call = Call(cases.case("one map"))
def attempt():
    code = one.compute(call)
    if code:
        return f"{{code}} {{one.error()}}"
    judged = cases.judged_case("one map")
    oracle.assert_within(call.results[0], judged.out, judged.out_scale)
    return "right"
"""


def start(
    source: str, folder: Path, driver: Path | str = DRIVER, **environment: str
) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    begin = PROGRAM.format(
        folder=str(folder),
        library=str(LIBRARY),
        driver=str(driver),
    )
    return subprocess.Popen(
        [sys.executable, "-c", begin + textwrap.dedent(source)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> list[str]:
    return both_outputs(process)[0].splitlines()


def both_outputs(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it says on stdout and stderr."""
    told, warnings = process.communicate()
    assert process.returncode == 0, warnings
    return told, warnings


def bring_back(arrays: list[OnCard]) -> None:
    for on_card in arrays:
        on_card.fetch()
        on_card.free()


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
