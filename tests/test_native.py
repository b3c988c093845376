"""The CPU kernels by themselves: native/kernels_test.cc under sanitizers, on each CPU.

The builds stay in pytest's cache, so that only the first run pays for them.
"""

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from conftest import REQUIRE_CPU

SOURCE = Path(__file__).parent / "native"
NO_SUCH_CPU = 77  # exit status of the native test


@dataclass(frozen=True)
class Build:
    name: str
    flags: str
    problems: str  # "lean" where a run is slow
    compiler: str = os.environ.get("CXX", "c++")
    cmake: tuple[str, ...] = ()
    emulators: tuple[str, ...] = ()  # names of one program that runs what is built


SANITIZED = [
    Build(
        "address",
        "-Og -g1 -fsanitize=address,undefined,float-cast-overflow"
        " -fno-sanitize-recover=all",
        "full",
    ),
    Build("thread", "-O2 -g1 -fsanitize=thread", "lean"),
]
AARCH64 = Build(
    "aarch64",
    "-O2 -static",
    "lean",
    compiler="aarch64-linux-gnu-g++",
    cmake=("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"),
    emulators=("qemu-aarch64", "qemu-aarch64-static"),
)


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def give_up(build: Build, reason: str) -> NoReturn:
    if REQUIRE_CPU and not build.emulators:
        pytest.fail(f"JDA_REQUIRE_CPU=1, but: {reason}")
    pytest.skip(reason)


def launcher(build: Build) -> list[str]:
    """What stands before a program of this build on the command line."""
    found = [name for name in build.emulators if shutil.which(name)]
    if build.emulators and not found:
        give_up(build, f"{build.emulators[0]} is not installed")
    return found[:1]


def check_flags(build: Build, folder: Path) -> None:
    """Tries an empty program first: a tool or a sanitizer's library may be missing."""
    for tool in ("cmake", build.compiler):
        if not shutil.which(tool):
            give_up(build, f"{tool} is not installed")
    source, program = folder / "empty.cc", folder / "empty"
    source.write_text("int main() {}\n")
    tried = run(build.compiler, *build.flags.split(), source, "-o", program)
    if tried.returncode == 0:
        tried = run(*launcher(build), program)
    if tried.returncode != 0:
        lines = tried.stdout.strip().splitlines() or ["no output"]
        give_up(build, f"{build.compiler} {build.flags} does not work: {lines[-1]}")


def compiled(build: Build, cache: pytest.Cache) -> Path:
    """The native test's program."""
    name = f"jda-native-{build.name}-{Path(build.compiler).name}"
    folder = cache.mkdir(name)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers may want it
        check_flags(build, folder)
        configured = run(
            *("cmake", "-S", SOURCE, "-B", folder / "build"),
            f"-DCMAKE_CXX_COMPILER={build.compiler}",
            f"-DCMAKE_CXX_FLAGS={build.flags}",
            *build.cmake,
        )
        assert configured.returncode == 0, configured.stdout
        jobs = str(os.cpu_count())
        built = run("cmake", "--build", folder / "build", "--parallel", jobs)
        assert built.returncode == 0, built.stdout
        assert "warning:" not in built.stdout, built.stdout
    return folder / "build" / "kernels_test"


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("build", SANITIZED, ids=lambda build: build.name)
def test_sanitized(build: Build, isa: str, pytestconfig: pytest.Config) -> None:
    program = compiled(build, pytestconfig.cache)
    result = run(program, build.problems, JDA_CPU_ISA=isa)
    if result.returncode == NO_SUCH_CPU:
        pytest.skip(result.stdout.strip())
    assert result.returncode == 0, result.stdout


def test_an_unknown_instruction_set(pytestconfig: pytest.Config) -> None:
    """It is no reason to skip."""
    program = compiled(SANITIZED[0], pytestconfig.cache)
    result = run(program, "lean", JDA_CPU_ISA="avx3")
    assert result.returncode == 1
    assert result.stdout == (
        "JDA_CPU_ISA is 'avx3'; it may be 'baseline', 'avx2' or 'avx512'\n"
    )


def test_aarch64_emulated(pytestconfig: pytest.Config) -> None:
    program = compiled(AARCH64, pytestconfig.cache)
    result = run(*launcher(AARCH64), program, AARCH64.problems, JDA_CPU_ISA="baseline")
    assert result.returncode == 0, result.stdout
