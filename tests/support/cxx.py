"""C++ of the tests, built by CMake: once for all processes, and again what changed."""

import fcntl
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
BUILDS = TESTS.parent / "build" / "tests"
PLAIN = BUILDS / "plain"


def build(
    *targets: str,
    source: Path = TESTS,
    folder: Path = PLAIN,
    **settings: object,
) -> Path:
    """The folder in which the targets, or everything, are up to date."""
    if source == TESTS:
        settings |= {"JDA_XLA_FFI_INCLUDE": xla_headers()}
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = [f"-D{name}={value}" for name, value in settings.items()]
        run("cmake", "-S", source, "-B", folder, *options)
        wanted = [word for target in targets for word in ("--target", target)]
        jobs = str(os.cpu_count())
        run("cmake", "--build", folder, "--parallel", jobs, *wanted)
    return folder


def tool(name: str) -> str | None:
    """Where a program is: beside this Python, or where programs are."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join(folders))


def run(program: str | Path, *arguments: str | Path, **environment: str) -> str:
    """What a command prints; an error that says it if the command fails."""
    words = [tool(str(program)) or str(program), *map(str, arguments)]
    done = subprocess.run(
        words,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}"
    return done.stdout


def xla_headers() -> Path:
    """They come with jaxlib, which need not be imported for it."""
    spec = find_spec("jaxlib")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "include"


def ctest(folder: Path, names: str = ".", **environment: str) -> str:
    """What the tests with such names print; an error if one of them fails."""
    command = ("ctest", "--test-dir", folder, "--output-on-failure", "-R", names)
    return run(*command, "--no-tests=error", **environment)
