"""The emulator of Ascend C: its own tests, written in C++, and its documentation."""

import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from jda._environment import flag

ROOT = Path(__file__).resolve().parents[1]
EMULATOR = ROOT / "csrc" / "emulator"
TESTS = ROOT / "tests" / "emulator"
PAGE = ROOT / "docs" / "emulator.md"
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{EMULATOR}"]
PROGRAMS = ["rules_test", "semantics_test", "order_test", "cost_test"]


def compiler() -> str:
    return os.environ.get("CXX", "g++")


def compile_all(jobs: Sequence[tuple[Path, Path]], flags: Sequence[str]) -> None:
    """Compile every source to its object, on as many cores as there are."""
    waiting = list(jobs)
    running: list[subprocess.Popen[str]] = []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            source, target = waiting.pop(0)
            command = [compiler(), *flags, "-c", str(source), "-o", str(target)]
            running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        first = running.pop(0)
        _, errors = first.communicate()
        assert first.returncode == 0, errors


def build(flags: Sequence[str]) -> Path:
    """Compile the programs, once for all test processes and for every later run."""
    library = sorted(EMULATOR.glob("*.cc"))
    sources = [TESTS / f"{name}.cc" for name in PROGRAMS] + library
    digest = hashlib.sha256(repr((compiler(), flags)).encode())
    for path in [*sorted(EMULATOR.glob("*.*")), *sorted(TESTS.glob("*"))]:
        digest.update(path.name.encode() + path.read_bytes())
    name = f"jda-emulator-{os.getuid()}-{digest.hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            compile_all([(s, folder / f"{s.stem}.o") for s in sources], flags)
            objects = [str(folder / f"{s.stem}.o") for s in library]
            for program in PROGRAMS:
                target = folder / program
                link = [compiler(), *flags, f"{target}.o", *objects, "-o", str(target)]
                subprocess.run(link, check=True)
            (folder / "built").touch()
    return folder


# With sanitizers the programs take a minute to compile: on request.
VARIANTS = ["plain", "sanitized"] if flag("JDA_SANITIZE") else ["plain"]


@pytest.fixture(params=VARIANTS)
def programs(request: pytest.FixtureRequest) -> Path:
    if request.param == "plain":
        return build(FLAGS)
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    return build([*FLAGS, *sanitize])


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(programs: Path, name: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [str(programs / name)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    last = re.fullmatch(r"(\d+) passed, (\d+) failed", result.stdout.splitlines()[-1])
    assert last, output
    assert int(last[1]) > 5, output
    assert int(last[2]) == 0, output


def rules() -> set[str]:
    """The rules that the emulator's sources report."""
    found = {"raw", "war", "waw"}
    for source in EMULATOR.glob("*.*"):
        text = source.read_text()
        found |= set(re.findall(r'(?:error|report|clash)\(\s*"([a-z0-9-]+)"', text))
    return found


def test_every_rule_is_documented() -> None:
    text = PAGE.read_text().split("## Rules")[1].split("## The model")[0]
    documented = set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE))
    assert documented == rules()


def test_the_example_does_what_the_page_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```(\w*)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    kernel, host = [text for kind, text in blocks if kind == "cpp"]
    output = next(text for kind, text in blocks if kind == "")
    (tmp_path / "kernel.cc").write_text(kernel)
    (tmp_path / "host.cc").write_text(host)
    names = ["kernel", "host"]
    jobs = [(tmp_path / f"{name}.cc", tmp_path / f"{name}.o") for name in names]
    compile_all(jobs, FLAGS)
    library = [str(build(FLAGS) / f"{s.stem}.o") for s in EMULATOR.glob("*.cc")]
    objects = [str(target) for _, target in jobs]
    subprocess.run(
        [compiler(), *objects, *library, "-o", str(tmp_path / "run")], check=True
    )
    result = subprocess.run([str(tmp_path / "run")], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout.startswith(output)


def test_every_rule_has_a_kernel_that_breaks_it() -> None:
    text = (TESTS / "rules_test.cc").read_text()
    broken = set(re.findall(r'(?:breaks|unspecified|has)\(\s*"([a-z0-9-]+)"', text))
    assert rules() <= broken
