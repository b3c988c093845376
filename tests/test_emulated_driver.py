"""The emulated ACL driver: its rules, in C++, and its environment variables."""

import ctypes
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from tests.support import pages
from tests.support.implementations import REQUIRE_CPU, ROOT

RULES = ROOT / "emulator" / "tests" / "driver_test.cc"
SOURCES = ROOT / "emulator" / "driver"
PAGE = "emulator/driver/README.md"


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where the development build has put the driver."""
    found = Path(str(resources.files("jda.ffi") / "emulated"))
    if not (found / "libacl_rt.so").exists():
        reason = f"no emulated driver in {found}: build with -DJDA_ASCEND_EMULATED=ON"
        if REQUIRE_CPU:
            pytest.fail(f"JDA_REQUIRE_CPU=1, but {reason}")
        pytest.skip(reason)
    return found


def test_environment(folder: Path) -> None:
    program = f"""
import ctypes
driver = ctypes.CDLL({str(folder / "libacl_rt.so")!r})
count, cores = ctypes.c_uint32(), ctypes.c_int64()
print(driver.aclInit(None))
print(driver.aclrtGetDeviceCount(ctypes.byref(count)), count.value)
for _ in range(3):
    print(driver.aclrtSetDevice(1))
driver.aclrtGetDeviceInfo(0, 201, ctypes.byref(cores))
driver.aclrtGetSocName.restype = ctypes.c_char_p
print(cores.value, driver.aclrtGetSocName().decode())
"""
    controls = {
        "JDA_EMULATED": "devices=2,cores=7,soc=Ascend910B3",
        "JDA_EMULATED_FAIL": "aclrtSetDevice:2:507899",
    }
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | controls,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split("\n") == [
        "0",
        "0 2",
        "0",
        "507899",
        "0",
        "7 Ascend910B3",
        "",
    ]


ALLOWED = {
    "JDA_EMULATED": "cores=NUMBER, ",
    "JDA_EMULATED_FAIL": "FUNCTION:NUMBER:CODE: a function of the driver, ",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("JDA_EMULATED", f"cores=2,{v}") for v in ("colour=3", "cores", "seed=x")),
        *(("JDA_EMULATED", v) for v in ("cores=-1", "memory=1G", f"seed={1 << 63}")),
        *(("JDA_EMULATED_FAIL", v) for v in ("aclrtMalloc", "aclrtMalloc:x:1")),
        *(("JDA_EMULATED_FAIL", v) for v in ("aclrtMaloc:1:1", "aclrtMalloc:1:")),
        *(("JDA_EMULATED_FAIL", v) for v in ("printf:1:1", f"copy:1:{1 << 31}")),
    ],
)
def test_environment_that_says_nothing(folder: Path, name: str, value: str) -> None:
    program = (
        "import ctypes, sys; ctypes.CDLL(sys.argv[1]).jda_emulated_finding_count()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(folder / "libacl_rt.so")],
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    told = f"{name} holds '{value.split(',')[-1]}'; it may hold "
    assert told in result.stderr and ALLOWED[name] in result.stderr


@pytest.mark.parametrize("function", ["aclrtFree", "aclrtcCompileProg", "kernel"])
def test_any_function_may_be_told_to_fail(folder: Path, function: str) -> None:
    program = (
        "import ctypes, sys; ctypes.CDLL(sys.argv[1]).jda_emulated_finding_count()"
    )
    command = [sys.executable, "-c", program, str(folder / "libacl_rt.so")]
    environment = os.environ | {"JDA_EMULATED_FAIL": f"{function}:1:1"}
    subprocess.run(command, env=environment, check=True)


def test_every_declared_function_is_there(folder: Path) -> None:
    header = (SOURCES / "acl.h").read_text()
    names = set(re.findall(r"^\S[^()]*?\b(acl\w+)\(", header, re.MULTILINE))
    assert len(names) > 30
    runtime = ctypes.CDLL(str(folder / "libacl_rt.so"))
    compiler = ctypes.CDLL(str(folder / "libacl_rtc.so"))
    missing = [
        name
        for name in sorted(names)
        if not hasattr(compiler if name.startswith("aclrtc") else runtime, name)
    ]
    assert not missing


def test_the_example_runs(folder: Path) -> None:
    (example,) = pages.blocks(PAGE, "python")
    subprocess.run([sys.executable, "-c", example], check=True)


def rules() -> set[str]:
    """The rules that the driver's sources report."""
    found: set[str] = set()
    for source in SOURCES.glob("*.cc"):
        text = source.read_text()
        found |= set(re.findall(r'books\s*\.(?:find|refuse)\(\s*"([a-z-]+)"', text))
        found |= set(re.findall(r'"([a-z]+-(?:changed|unknown))"', text))
    return found


def test_every_rule_is_documented_and_broken() -> None:
    section = (ROOT / PAGE).read_text().split("## Findings")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    assert {"source-changed", "destination-changed", "stream-race"} <= rules()
    assert documented == rules()
    broken = set(re.findall(r'found\("([a-z-]+)"\)', RULES.read_text()))
    assert rules() <= broken
