"""The promise: the native libraries show what is theirs, and need only libc."""

import re
from importlib import resources
from pathlib import Path

import pytest

from jda.ffi import ascend, cpu
from tests.support import cxx
from tests.support.implementations import REQUIRE_CPU

OF_THE_C_LIBRARY = re.compile(r"(lib(c|m|dl|rt|pthread)|ld-linux[-\w]*)\.so\.\d+")
GUARD = "__stack_chk_fail"


@pytest.fixture(params=[cpu.LIBRARY, ascend.LIBRARY])
def library(request: pytest.FixtureRequest) -> Path:
    path = Path(str(resources.files("jda.ffi") / request.param))
    there = path.is_file() and cxx.tool("readelf") is not None
    if not there and not REQUIRE_CPU:
        pytest.skip(f"{path} or readelf is not there")
    assert there
    return path


def symbols(library: Path, defined: bool) -> set[str]:
    """What the library shows to others, or what it wants of them."""
    table = cxx.run("readelf", "--dyn-syms", "--wide", library)
    rows = (line.split() for line in table.splitlines())
    named = [row for row in rows if len(row) >= 8 and row[0].rstrip(":").isdigit()]
    return {row[7].split("@")[0] for row in named if (row[6] != "UND") == defined}


def test_only_its_own_functions_are_exported(library: Path) -> None:
    exported = symbols(library, defined=True)
    prefix = library.stem.removeprefix("lib")
    assert {name for name in exported if not name.startswith(prefix)} == set()
    wanted = {
        cpu.LIBRARY: {"jda_cpu_isa", *cpu.TARGETS},
        ascend.LIBRARY: {"jda_ascend_open", "jda_ascend_device_forward"},
    }
    assert wanted[library.name] <= exported


def test_nothing_but_the_c_library_is_needed(library: Path) -> None:
    table = cxx.run("readelf", "--dynamic", "--wide", library)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", table)
    assert "libc.so.6" in needed
    assert [name for name in needed if not OF_THE_C_LIBRARY.fullmatch(name)] == []


def test_it_is_hardened(library: Path) -> None:
    """Tables of functions are read-only, the stack holds no code and is guarded."""
    parts = cxx.run("readelf", "--segments", "--dynamic", "--wide", library)
    assert "GNU_RELRO" in parts and "BIND_NOW" in parts
    (stack,) = re.findall(r"GNU_STACK.*", parts)
    assert "RWE" not in stack
    imported = symbols(library, defined=False)
    assert GUARD in imported
    if library.name == ascend.LIBRARY:  # the other formats no text by the C library
        assert {name for name in imported - {GUARD} if name.endswith("_chk")}
