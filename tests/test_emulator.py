"""The emulator of Ascend C: what its README promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import cxx, pages

EMULATOR = Path(__file__).resolve().parents[1] / "emulator"
TESTS = EMULATOR / "tests"
README, RULES = EMULATOR / "README.md", EMULATOR / "core" / "README.md"


def rules() -> set[str]:
    """The rules that the emulator's sources report."""
    found = {"raw", "war", "waw"}
    for source in (EMULATOR / "core").rglob("*.*"):
        text = source.read_text()
        found |= set(
            re.findall(r'(?:error|unspecified|report|clash)\(\s*"([a-z0-9-]+)"', text)
        )
    return found


def test_every_rule_is_documented() -> None:
    text = RULES.read_text().split("## Rules")[1].split("## The model")[0]
    documented = set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE))
    assert documented == rules()


WAIT = "  WaitFlag<HardEvent::MTE2_V>(EVENT_ID0);\n"
SEED = "  emulator::Options options;\n"


@pytest.fixture(scope="module")
def exercise() -> list[str]:
    """The README's kernel, host, and report."""
    page = "emulator/README.md"
    return pages.blocks(page, "cpp") + pages.blocks(page, "text")


@pytest.mark.parametrize("step", ("right", "a flag too few", "adversarial order"))
def test_the_exercise_goes_as_the_readme_says(exercise, step, tmp_path: Path) -> None:
    kernel, host, report = exercise
    assert WAIT in kernel and SEED in host
    if step != "right":
        kernel = kernel.replace(WAIT, "")
    if step == "adversarial order":
        host = host.replace(SEED, SEED + "  options.seed = 1;\n")
    (tmp_path / "add.cpp").write_text(kernel)
    (tmp_path / "host.cpp").write_text(host)
    library = cxx.build("ascend_emulator") / "emulator/core/libascend_emulator.a"
    core = EMULATOR / "core"
    sources = [tmp_path / "add.cpp", tmp_path / "host.cpp", library]
    flags = ("-std=c++17", "-O2", f"-I{core}", f"-I{core / 'api'}")
    cxx.run("g++", *flags, *sources, "-o", tmp_path / "run")
    done = subprocess.run([tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode == {"right": 0, "a flag too few": 1}.get(step, 2)
    if step == "a flag too few":
        assert done.stdout.startswith(report)


def test_the_list_of_what_is_covered_is_that_of_the_headers() -> None:
    script = EMULATOR / "coverage.py"
    listed = cxx.run(sys.executable, script)
    assert listed in README.read_text(), f"run {script} --write"


def test_nothing_of_the_product_is_included() -> None:
    folders = EMULATOR / "core", EMULATOR / "core" / "api", EMULATOR / "driver"
    for source in (*EMULATOR.rglob("*.h"), *EMULATOR.rglob("*.cc")):
        for name in re.findall(r'^\s*#\s*include "(.+)"', source.read_text(), re.M):
            found = [f / name for f in (source.parent, *folders) if (f / name).exists()]
            assert found, f"{source} includes {name}, which is not the emulator's"
            assert found[0].resolve().is_relative_to(EMULATOR), source


BREAKS = r'(?:breaks|unspecified|has)\(\s*"([a-z0-9-]+)"'
KEEPS = r"\b(?:keeps|keeps_in_every_order|clean)\("
BOTH = r'needs_order\(\s*"([a-z0-9-]+)"'


def test_every_rule_has_a_kernel_that_breaks_it_and_one_that_keeps_it() -> None:
    """Both in one test, which has a kernel of the second kind for each of its rules."""
    text = (TESTS / "rules_test.cc").read_text()
    broken, kept = set(), set()
    for test in text.split("\nTEST(")[1:]:
        here = set(re.findall(BREAKS, test))
        broken |= here
        if len(re.findall(KEEPS, test)) >= len(here):
            kept |= here
        both = set(re.findall(BOTH, test))
        broken |= both
        kept |= both
    assert rules() - broken == set()
    assert rules() - kept == set()
