"""The promise: kernels for Ascend are compiled once and kept, for the user alone.

A compiler of the test's own stands for the real one, which takes seconds: it counts its
calls and hands out what that one has made.
"""

import ctypes
import re
import textwrap
from pathlib import Path

import cases
import pytest
from calls import FAILED_PRECONDITION, INTERNAL, RESOURCE_EXHAUSTED, Call, Launcher
from launched import DRIVER, FAULT, output, require_driver, start, succeed

require_driver()


class Compiler:
    """A compiler that needs no time, unless it is told to."""

    def __init__(self, folder: Path, kernels: bytes, seconds: float = 0) -> None:
        self.path, self.log = folder / "compiler", folder / "calls"
        self.made = folder / "made"
        self.made.write_bytes(kernels[:-8])  # less the driver's own checksum
        self.path.write_text(
            textwrap.dedent(f"""\
            #!/bin/sh
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


def entry_of(folder: Path) -> Path:
    (entry,) = (path for path in folder.iterdir() if len(path.name) == 32)
    return entry


def origin(launcher: Launcher) -> object:
    succeed(launcher)
    return launcher.describe()["kernels"]


def test_the_cache_belongs_to_the_user(compiler, launcher, tmp_path):
    folder = tmp_path / "cache" / "deep"
    assert origin(launcher()) == "compiled"
    assert origin(launcher()) == "cache"
    assert compiler.calls == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert entry_of(folder).stat().st_mode & 0o777 == 0o600
    assert len(list(folder.iterdir())) == 2, "the entry and its lock, no drafts"


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


def test_a_folder_that_cannot_be_used_is_no_error(
    compiler, launcher, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    others = tmp_path / "others"
    others.mkdir()
    others.chmod(0o777)
    for folder in (tmp_path / "file" / "cache", others):
        monkeypatch.setenv("JDA_ASCEND_CACHE", str(folder))
        assert origin(launcher()) == "compiled"
        assert origin(launcher()) == "compiled"
    assert not list(others.iterdir()), "others could have put kernels there"
    assert compiler.calls == 4


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
    }
    source = 'print(attempt(), one.describe()["kernels"])'
    processes = [
        start(source, tmp_path / str(number), **environment) for number in range(4)
    ]
    told = sorted(line for process in processes for line in output(process))
    assert told == ["right cache"] * 3 + ["right compiled"]
    assert compiler.calls == 1
