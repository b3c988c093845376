"""The CPU kernels by themselves: native/kernels_test.cc under sanitizers, on each CPU.

The builds stay, so that only the first run pays for them.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import cxx
from tests.support.emulated_books import FOLDER
from tests.support.implementations import REQUIRE_CPU, require

SOURCE = Path(__file__).parent / "native"


@dataclass(frozen=True)
class Build:
    name: str
    flags: str
    problems: str  # "lean" where a run is slow
    compiler: str = os.environ.get("CXX", "c++")
    cmake: dict[str, str] = field(default_factory=dict)
    emulators: tuple[str, ...] = ()  # names of one program that runs what is built


# Less what AddressSanitizer sees as well, in code that is inlined a thousand times.
ADDRESS = Build(
    "address",
    "-Og -g1 -fsanitize=address,undefined,float-cast-overflow"
    " -fno-sanitize=null,object-size,pointer-overflow -fno-sanitize-recover=all",
    "full",
)
THREAD = Build("thread", "-O2 -g1 -fsanitize=thread", "lean")
# Which thread writes what is the same for every instruction set.
SANITIZED = [(ADDRESS, isa) for isa in ("baseline", "avx2", "avx512", "unknown")] + [
    (THREAD, "baseline")
]
AARCH64 = Build(
    "aarch64",
    "-O2 -static",
    "lean",
    compiler="aarch64-linux-gnu-g++",
    cmake={"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": "aarch64"},
    emulators=("qemu-aarch64", "qemu-aarch64-static"),
)


def give_up(build: Build, reason: str) -> NoReturn:
    if REQUIRE_CPU and not build.emulators:
        pytest.fail(f"JDA_REQUIRE_CPU=1, but: {reason}")
    pytest.skip(reason)


def emulator(build: Build) -> str:
    """What runs a program of this build; "" if it runs by itself."""
    found = [path for name in build.emulators if (path := shutil.which(name))]
    if build.emulators and not found:
        give_up(build, f"{build.emulators[0]} is not installed")
    return found[0] if found else ""


def check_flags(build: Build, folder: Path) -> None:
    """Tries an empty program first: a tool or a sanitizer's library may be missing."""
    for tool in ("cmake", build.compiler):
        if not cxx.tool(tool):
            give_up(build, f"{tool} is not installed")
    source, program = folder / "empty.cc", folder / "empty"
    source.write_text("int main() {}\n")
    compile_it = [build.compiler, *build.flags.split(), source, "-o", program]
    for command in (compile_it, [word for word in (emulator(build), program) if word]):
        tried = subprocess.run(command, capture_output=True, text=True)
        if tried.returncode != 0:
            lines = (tried.stdout + tried.stderr).strip().splitlines() or ["no output"]
            give_up(build, f"{build.compiler} {build.flags} fails: {lines[-1]}")


def built(build: Build, folder: Path, *targets: str) -> Path:
    check_flags(build, folder)
    headers = "" if build.cmake else cxx.xla_headers()  # cross-compiled: without XLA
    return cxx.build(
        *targets,
        source=SOURCE,
        folder=cxx.BUILDS / build.name,
        CMAKE_CXX_COMPILER=build.compiler,
        CMAKE_CXX_FLAGS=build.flags,
        JDA_XLA_FFI_INCLUDE=headers,
        CMAKE_CROSSCOMPILING_EMULATOR=emulator(build),
        JDA_PROBLEMS=build.problems,
        **build.cmake,
    )


def judge(build: Build, isa: str, folder: Path) -> None:
    if "***Skipped" in cxx.ctest(built(build, folder), rf"native\.{isa}$"):
        pytest.skip(f"this processor lacks {isa}")


@pytest.mark.parametrize(
    ("build", "isa"), SANITIZED, ids=lambda x: getattr(x, "name", x)
)
def test_sanitized(build: Build, isa: str, tmp_path: Path) -> None:
    judge(build, isa, tmp_path)


def test_calls_that_nobody_meant(tmp_path: Path) -> None:
    """They are refused or computed, and touch no byte beside their arrays."""
    told = cxx.ctest(built(ADDRESS, tmp_path), "^border$")
    assert "100% tests passed" in told


def test_calls_of_the_launcher_that_nobody_meant(tmp_path: Path) -> None:
    """With arrays of the host and of a card, under the eyes of the emulated driver."""
    require("ascend")
    folder = built(ADDRESS, tmp_path, "ascend_border_fuzz")
    told = cxx.ctest(folder, "^ascend_border$", JDA_ASCEND_DRIVER=str(FOLDER))
    assert "100% tests passed" in told


def test_aarch64_emulated(tmp_path: Path) -> None:
    judge(AARCH64, "baseline", tmp_path)
