"""The promise: docs/development.md lists every switch, and none that is not there."""

import re
import subprocess

from tests.support.implementations import ROOT

OF_ONE_TEST = {"JDA_FLAG"}
# Macros of C++ that are no switches begin like them.
SWITCH = re.compile(r"""["'](JDA_[A-Z_]+)["'=]""")
SETTING = re.compile(r"\$\{(JDA_[A-Z_]+)\}")
# Of CMake's option(), and macros that say how a kernel is compiled.
OTHERS = {"JDA_ASCEND_EMULATED", "JDA_LIBFUZZER", "JDA_PROJECT_BUILD", "JDA_WITH_NAIVE"}


def read_by_the_code() -> set[str]:
    names = ("jda", "csrc", "emulator", "tests", "benchmarks")
    found: set[str] = set()
    for folder in names:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".cc", ".h") and "ffi/emulated" not in str(path):
                found |= set(SWITCH.findall(path.read_text()))
            if path.name == "CMakeLists.txt":
                found |= set(SETTING.findall(path.read_text()))
    return found - OF_ONE_TEST


def test_every_switch_is_documented():
    page = (ROOT / "docs" / "development.md").read_text()
    (table,) = re.findall(r"## Switches\n(.*?)\n## ", page, re.DOTALL)
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    listed = {name for row in rows for name in re.findall(r"`(JDA_[A-Z_]+)`", row)}
    assert read_by_the_code() | OTHERS == listed


def test_make_targets_that_the_page_names_exist():
    page = (ROOT / "docs" / "development.md").read_text()
    targets = set(re.findall(r"`make ([a-z0-9-]+)", page))
    dry = ["make", "-n", *sorted(targets)]
    assert len(targets) > 8
    subprocess.run(dry, cwd=ROOT, check=True, capture_output=True)
