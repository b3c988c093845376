"""The promise: kernels for Ascend are compiled once and kept, for the user alone.

A compiler of the test's own stands for the real one, which takes seconds: it counts its
calls and hands out what that one has made.
"""

import ctypes
import fcntl
import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.launcher.calls import (
    FAILED_PRECONDITION,
    INTERNAL,
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    Call,
    Launcher,
)
from tests.support import cases
from tests.support.implementations import ROOT
from tests.support.launched import (
    DRIVER,
    FAULT,
    Compiler,
    both_outputs,
    output,
    require_driver,
    start,
    succeed,
)

require_driver()


def entry_of(folder: Path) -> Path:
    (entry,) = (path for path in folder.iterdir() if len(path.name) == 32)
    return entry


def origin(launcher: Launcher) -> object:
    succeed(launcher)
    return launcher.describe().text("kernels")


def test_the_cache_belongs_to_the_user(compiler, launcher, tmp_path):
    folder = tmp_path / "cache" / "deep"
    assert origin(launcher()) == "compiled"
    assert origin(launcher()) == "cache"
    assert compiler.calls == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert entry_of(folder).stat().st_mode & 0o777 == 0o600
    assert len(list(folder.iterdir())) == 2, "the entry and its lock, no drafts"


BEFORE = "compiling kernels for emulated Ascend910B1"
AFTER = r"compiled kernels for emulated Ascend910B1 in \d+\.\d s"


@pytest.mark.parametrize("folder", ["cache", ""])
def test_a_compilation_is_told(folder, compiler, launcher, tmp_path, monkeypatch):
    """Before it begins, and how long it took."""
    for name in ("JDA_ASCEND_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, folder)
    monkeypatch.chdir(tmp_path)
    one = launcher()
    told = one.listen()
    succeed(one)
    where = ", once; kept in cache" if folder else "; they cannot be kept"
    assert told[0] == BEFORE + where
    assert re.fullmatch(AFTER, told[1])
    assert len(told) == 2


def test_kernels_of_the_cache_are_not_worth_a_word(compiler, launcher):
    succeed(launcher())
    one = launcher()
    told = one.listen()
    assert origin(one) == "cache"
    assert told == []


def test_compilations_that_fail_are_told_too(compiler, launcher, books, tmp_path):
    """Two in a row; nothing says that they were done."""
    one = launcher()
    told = one.listen()
    for _ in range(2):
        books.fail("aclrtcCompileProg", 1, FAULT)
        assert one.compute(Call(cases.case("one map"))) == INTERNAL
    assert origin(one) == "compiled"
    assert told[:3] == [f"{BEFORE}, once; kept in {tmp_path / 'cache' / 'deep'}"] * 3
    assert re.fullmatch(AFTER, told[3])
    assert len(told) == 4


LOGGED = """
import logging
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
logging.getLogger("jda").setLevel(logging.INFO)
from tests.support import cases
import jda
jda.deformable_aggregation(*cases.case("one map"), implementation="ascend")
"""


def test_a_compilation_is_logged(compiler, tmp_path):
    command = [sys.executable, "-c", LOGGED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("jda ")]
    folder = tmp_path / "cache" / "deep"
    assert told[0] == f"jda INFO {BEFORE}, once; kept in {folder}"
    assert re.fullmatch(f"jda INFO {AFTER}", told[1])
    assert len(told) == 2


DAMAGE = {
    "a flipped bit": lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:],
    "truncated": lambda b: b[:-1],
    "no kernels": lambda b: b[:20],
    "empty": lambda b: b"",
    "of another kind": lambda b: b"x" + b,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_anew(damage, compiler, launcher, tmp_path):
    succeed(launcher())
    entry = entry_of(tmp_path / "cache" / "deep")
    whole = entry.read_bytes()
    entry.write_bytes(DAMAGE[damage](whole))
    assert origin(launcher()) == "compiled"
    assert entry.read_bytes() == whole
    assert origin(launcher()) == "cache"
    assert compiler.calls == 2


def whole_entry(kernels: bytes) -> bytes:
    """An entry without damage: its checksum is FNV-1a with 128 bits."""
    checksum = 0x6C62272E07BB014262B821756295C58D
    for byte in kernels:
        checksum = (checksum ^ byte) * ((1 << 88) + 0x13B) % (1 << 128)
    return b"jda kernels 1\n%s\n%s" % (f"{checksum:032x}".encode(), kernels)


def test_an_entry_that_the_runtime_refuses_is_made_anew(compiler, launcher, tmp_path):
    succeed(launcher())
    entry = entry_of(tmp_path / "cache" / "deep")
    whole = entry.read_bytes()
    assert whole == whole_entry(whole.split(b"\n", 2)[2])
    entry.write_bytes(whole_entry(b"no kernels"))
    assert origin(launcher()) == "compiled"
    assert entry.read_bytes() == whole
    assert origin(launcher()) == "cache"
    assert compiler.calls == 2


@pytest.mark.parametrize(
    "function", ["aclrtBinaryLoadFromData", "aclrtBinaryGetFunction"]
)
def test_a_runtime_that_refuses_all_kernels_is_quoted(
    function, compiler, launcher, books, tmp_path
):
    """It is told once, and the entry stays: kernels that do not load replace none."""
    succeed(launcher())
    entry = entry_of(tmp_path / "cache" / "deep")
    whole = entry.read_bytes()
    books.fail(function, 0, FAULT)
    one = launcher()
    assert one.compute(Call(cases.case("one map"))) == INTERNAL
    assert one.error().startswith(f"{function} failed with code {FAULT}")
    assert compiler.calls == 2
    assert entry.read_bytes() == whole
    books.reset()
    assert origin(one) == "cache"


def test_no_memory_for_kernels_from_the_cache(compiler, launcher, books):
    """Nothing is wrong with the entry."""
    succeed(launcher())
    books.fail("aclrtBinaryLoadFromData", 1, 207001)
    one = launcher()
    assert one.compute(Call(cases.case("one map"))) == RESOURCE_EXHAUSTED
    assert origin(one) == "cache"
    assert compiler.calls == 1


ONLY_THE_USER = (
    "the folder does not belong to the user, or others can write there: chmod go-w"
)
UNUSABLE = {
    "in a file": "Not a directory",
    "for all to write": ONLY_THE_USER,
    "for a group to write": ONLY_THE_USER,
    "of another user": ONLY_THE_USER,
}
MODES = {"for all to write": 0o777, "for a group to write": 0o770}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_folder_that_cannot_be_used_is_no_error(
    kind, compiler, launcher, tmp_path, monkeypatch, capfd
):
    """It is said, as every process has to compile anew."""
    (tmp_path / "file").touch()
    others = tmp_path / "others"
    others.mkdir(mode=0o700)
    others.chmod(MODES.get(kind, 0o700))
    if kind == "of another user":
        give_away(others)
    folder = tmp_path / "file" / "cache" if kind == "in a file" else others
    monkeypatch.setenv("JDA_ASCEND_CACHE", str(folder))
    for _ in range(2):
        assert origin(launcher()) == "compiled"
        assert capfd.readouterr().err == warning(folder, UNUSABLE[kind])
    assert not list(others.iterdir()), "others could have put kernels there"
    assert compiler.calls == 2


def warning(folder: Path, reason: str) -> str:
    return f"jda: compiled kernels are not kept in {folder}: {reason}\n"


def give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 65534, 65534)


def test_a_warning_is_given_once(compiler, launcher, tmp_path, books, capfd):
    folder = tmp_path / "cache" / "deep"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    one = launcher()
    books.fail("aclrtcCompileProg", 1, FAULT)
    assert one.compute(Call(cases.case("one map"))) == INTERNAL
    assert origin(one) == "compiled"
    assert capfd.readouterr().err == warning(folder, ONLY_THE_USER)


def test_without_a_home_there_is_no_cache(compiler, launcher, monkeypatch, capfd):
    for name in ("JDA_ASCEND_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, "")
    assert origin(launcher()) == "compiled"
    assert capfd.readouterr().err == (
        "jda: compiled kernels are not kept: neither JDA_ASCEND_CACHE nor "
        "XDG_CACHE_HOME nor HOME names a folder\n"
    )


def test_a_folder_that_is_swapped(compiler, launcher, tmp_path):
    """What was found to be the user's alone is used, whatever its path names later."""
    folder, moved = tmp_path / "cache" / "deep", tmp_path / "moved"
    swap = f"mv {folder} {moved}\nmkdir -m 777 {folder}\n"
    compiler.path.write_text(compiler.path.read_text() + swap)
    assert origin(launcher()) == "compiled"
    assert not list(folder.iterdir())
    folder.rmdir()
    moved.rename(folder)
    assert origin(launcher()) == "cache"


# Entries and locks that are not what this program makes. On a wrong code these tests
# would wait for ever: a process of its own can be ended.


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def put_link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


FOREIGN = {
    "for all to write": lambda path: path.chmod(0o666),
    "for a group to write": lambda path: path.chmod(0o660),
    "of another user": give_away,
    "a pipe": put_pipe,
    "a link": put_link,
}


def run(folder: Path, **environment: str) -> tuple[str, str]:
    """Where a new process has its kernels from, and its warnings."""
    source = 'print(attempt(), one.describe().text("kernels"))'
    told, warnings = both_outputs(start(source, folder, **environment))
    return told.strip(), warnings


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_entry_that_others_could_have_written(kind, compiler, launcher, tmp_path):
    succeed(launcher())
    entry = entry_of(tmp_path / "cache" / "deep")
    whole = entry.read_bytes()
    FOREIGN[kind](entry)
    assert run(tmp_path / "run") == ("right compiled", "")
    found = entry.lstat()
    assert stat.S_ISREG(found.st_mode) and found.st_mode & 0o777 == 0o600
    assert found.st_uid == os.geteuid() and entry.read_bytes() == whole
    assert run(tmp_path / "run") == ("right cache", "")


def test_an_entry_that_cannot_be_replaced(compiler, launcher, tmp_path):
    succeed(launcher())
    folder = tmp_path / "cache" / "deep"
    entry = entry_of(folder)
    entry.unlink()
    entry.mkdir()
    told = ("right compiled", warning(folder, f"{entry.name}: Is a directory"))
    assert run(tmp_path / "run") == told
    assert len(list(folder.iterdir())) == 2, "the entry and its lock, no drafts"


@pytest.fixture
def lock(compiler, launcher, tmp_path):
    """The lock of an entry that is no more."""
    succeed(launcher())
    entry = entry_of(tmp_path / "cache" / "deep")
    entry.unlink()
    return entry.with_name(f"{entry.name}.lock")


@pytest.mark.parametrize("kind", [*FOREIGN, "a folder"])
def test_a_lock_that_others_could_hold(kind, lock, tmp_path):
    """It is not waited for."""
    if kind == "a folder":
        lock.unlink()
        lock.mkdir()
    else:
        FOREIGN[kind](lock)
    held = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.flock(held, fcntl.LOCK_EX)
    told, warnings = run(tmp_path / "run", JDA_ASCEND_CACHE_WAIT="600")
    os.close(held)
    assert told == "right compiled"
    assert warnings == (
        f"jda: {lock} cannot be opened as a file of the user's alone: kernels are "
        "compiled without this lock\n"
    )
    assert run(tmp_path / "run") == ("right cache", "")


def test_a_lock_whose_holder_is_stopped(lock, tmp_path):
    """The wait ends; the kernels are kept, so that nobody has to wait again."""
    source = f"""
    import fcntl, os, signal
    held = os.open({str(lock)!r}, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.kill(os.getpid(), signal.SIGSTOP)
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)])
    try:
        _, status = os.waitpid(holder.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        told, warnings = run(tmp_path / "run", JDA_ASCEND_CACHE_WAIT="0")
        assert told == "right compiled"
        assert warnings == (
            f"jda: another process has held {lock} for 0 s (JDA_ASCEND_CACHE_WAIT): "
            "kernels are compiled without waiting for it\n"
        )
        assert run(tmp_path / "run") == ("right cache", "")
    finally:
        holder.kill()
        holder.wait()


def test_a_wait_for_another_process_is_told(lock, launcher, monkeypatch):
    monkeypatch.setenv("JDA_ASCEND_CACHE_WAIT", "0")
    held = os.open(lock, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    one = launcher()
    told = one.listen()
    assert origin(one) == "compiled"
    os.close(held)
    assert told[0] == (
        "waiting for another process that compiles the same kernels, for 0 s at most"
    )
    assert told[1].startswith(BEFORE)


def test_a_wait_that_is_no_number(compiler, launcher, monkeypatch):
    monkeypatch.setenv("JDA_ASCEND_CACHE_WAIT", "soon")
    one = launcher()
    assert one.compute(Call(cases.case("one map"))) == INVALID_ARGUMENT
    assert one.error() == (
        "JDA_ASCEND_CACHE_WAIT is 'soon'; it may be a whole number from 0 to 2147483647"
    )
    monkeypatch.setenv("JDA_ASCEND_CACHE_WAIT", "")
    assert origin(one) == "compiled"


@pytest.mark.parametrize("variable", ["JDA", "XDG", "HOME"])
def test_where_the_cache_is(variable, compiler, launcher, tmp_path, monkeypatch):
    places = {"JDA": "jda", "XDG": "xdg/jda", "HOME": "home/.cache/jda"}
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("JDA_ASCEND_CACHE")
    if variable != "HOME":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if variable == "JDA":
        monkeypatch.setenv("JDA_ASCEND_CACHE", str(tmp_path / "jda"))
    succeed(launcher())
    assert entry_of(tmp_path / places[variable])


def test_a_compiler_that_fails_is_quoted(compiler, launcher):
    works = compiler.path.read_text()
    compiler.path.write_text("#!/bin/sh\necho 'kernels.cpp:1: no such luck'\nexit 1\n")
    one = launcher()
    assert one.compute(Call(cases.case("one map"))) == FAILED_PRECONDITION
    assert re.fullmatch(
        "aclrtcCompileProg failed with code 176003: the kernels do not compile; "
        "the runtime says: .*; its log:\nkernels.cpp:1: no such luck\n",
        one.error(),
    )
    compiler.path.write_text(works)
    assert origin(one) == "compiled"


def test_kernels_that_do_not_load_are_not_kept(compiler, launcher):
    whole = compiler.made.read_bytes()
    compiler.made.write_bytes(b"no kernels")
    one = launcher()
    assert one.compute(Call(cases.case("one map"))) == INTERNAL
    assert one.error().startswith("aclrtBinaryLoadFromData failed with code")
    compiler.made.write_bytes(whole)
    assert origin(one) == "compiled"


COMPILATION = [
    "aclrtcCreateProg",
    "aclrtcCompileProg",
    "aclrtcGetBinDataSize",
    "aclrtcGetBinData",
    "aclrtBinaryLoadFromData",
    "aclrtBinaryGetFunction",
]


@pytest.mark.parametrize("function", COMPILATION)
def test_each_call_of_a_compilation_may_fail(function, compiler, launcher, books):
    library = ctypes.CDLL(str(DRIVER / "libacl_rt.so"))
    library.jda_emulated_live.restype = ctypes.c_int64
    kinds = (b"programs", b"binaries")
    before = [library.jda_emulated_live(kind) for kind in kinds]
    one = launcher()
    books.fail(function, 1, FAULT)
    assert one.compute(Call(cases.case("one map"))) == INTERNAL
    assert one.error().startswith(f"{function} failed with code {FAULT}")
    assert [library.jda_emulated_live(kind) for kind in kinds] == before
    assert origin(one) == "compiled"


def test_many_processes_compile_once(compiled, tmp_path):
    compiler = Compiler(tmp_path, compiled, seconds=1)
    environment = {
        "CXX": str(compiler.path),
        "JDA_ASCEND_CACHE": str(tmp_path / "cache"),
        "JDA_ASCEND_CACHE_WAIT": "600",  # on a slow machine too
    }
    source = 'print(attempt(), one.describe().text("kernels"))'
    processes = [
        start(source, tmp_path / str(number), **environment) for number in range(4)
    ]
    told = sorted(line for process in processes for line in output(process))
    assert told == ["right cache"] * 3 + ["right compiled"]
    assert compiler.calls == 1
