"""The promise: launcher and emulated driver mean the same interface of CANN.

Each declares it by itself, so that a mistake of the launcher does not hide in a driver
that makes it too. Here, what the two headers declare is compared as a compiler sees it.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAUNCHER = ROOT / "csrc" / "ascend" / "launcher" / "acl.h"
DRIVER = ROOT / "emulator" / "driver" / "acl.h"

TABLE = """
#include <cstddef>
#include <cstdio>
#include <typeinfo>
#define CONSTANT(it) std::printf("%s = %lld\\n", #it, static_cast<long long>(it));
#define SIZE(it) std::printf("%s: %zu, %zu\\n", #it, sizeof(it), alignof(it));
#define FIELD(in, it)                                              \\
  std::printf("%s.%s: %zu, %s\\n", #in, #it, offsetof(in, it), \\
              typeid(decltype(in::it)).name());
#define FUNCTION(it) std::printf("%s: %s\\n", #it, typeid(decltype(it)).name());
"""


@dataclass
class Declared:
    """The names in a header."""

    constants: list[str]
    types: list[str]
    fields: list[tuple[str, str]]
    functions: list[str]

    @classmethod
    def of(cls, header: str) -> "Declared":
        code = re.sub(r"//.*", "", header)
        kinds = r"typedef (?:enum|struct|union) (\w+) \{(.*?)\} \1;"
        bodies = dict(re.findall(kinds, code, re.DOTALL))
        fields = r"(\w+)(?:\[\d+\])?;"
        return cls(
            re.findall(r"\b(ACL_\w+) = ", code),
            list(bodies) + re.findall(r"^typedef [\w* ]+ (\w+);", code, re.MULTILINE),
            [
                (name, one)
                for name in bodies
                for one in re.findall(fields, bodies[name])
            ],
            re.findall(r"^\w[\w* ]*[ *](acl\w+)\(", code, re.MULTILINE),
        )

    def program(self) -> str:
        """What prints a line of numbers and types for each of them."""
        complete = [name for name in self.types if name != "aclrtPlaceHolderInfo"]
        lines = [
            *(f"CONSTANT({name})" for name in self.constants),
            *(f"SIZE({name})" for name in complete),
            *(f"FIELD({name}, {field})" for name, field in self.fields),
            *(f"FUNCTION({name})" for name in self.functions),
        ]
        return TABLE + "int main() {\n  " + "\n  ".join(lines) + "\n}\n"


def table(names: Declared, header: Path, folder: Path) -> list[str]:
    """What the header declares under these names."""
    program = folder / "table"
    source = program.with_suffix(".cc")
    source.write_text(names.program())
    compiler = os.environ.get("CXX", "g++")
    flags = ["-std=c++17", "-include", header, source, "-o", program]
    subprocess.run([compiler, *flags], check=True)
    told = subprocess.run([program], check=True, capture_output=True, text=True)
    return told.stdout.splitlines()


@pytest.fixture(scope="module")
def names() -> Declared:
    return Declared.of(LAUNCHER.read_text())


def test_every_name_is_found(names):
    assert len(names.constants) > 50
    assert {"ACL_SUCCESS", "ACL_RT_BINARY_MAGIC_ELF_AICORE"} <= set(names.constants)
    assert {"aclError", "aclrtLaunchKernelCfg", "aclrtMemcpyKind"} <= set(names.types)
    assert ("aclCANNPackageVersion", "patchVersion") in names.fields
    assert len(names.fields) > 15
    called = set(re.findall(r"\b(acl(?:rt|rtc|sys)?[A-Z]\w+)\(", LAUNCHER.read_text()))
    assert called == set(names.functions)
    assert "aclGetRecentErrMsg" in called


def test_launcher_and_driver_declare_the_same(names, tmp_path):
    launchers = table(names, LAUNCHER, tmp_path)
    assert launchers == table(names, DRIVER, tmp_path)
    assert len(launchers) == len(set(launchers)) > 130


MISTAKES = {
    "a code": ("READ_OVERFLOW = 507044", "READ_OVERFLOW = 507045"),
    "a magic": ("0x41415246", "0x41415247"),
    "an order": (
        "aclrtLaunchKernelAttr* attrs;\n  size_t numAttrs;",
        "size_t numAttrs;\n  aclrtLaunchKernelAttr* attrs;",
    ),
    "a size": ("char version[128];", "char version[64];"),
    "an integer": ("DeviceCount(uint32_t* count)", "DeviceCount(int32_t* count)"),
    "a pointer": (
        "DestroyProg(aclrtcProg* program)",
        "DestroyProg(aclrtcProg program)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake, names, tmp_path):
    right, wrong = MISTAKES[mistake]
    text = LAUNCHER.read_text()
    assert text.count(right) == 1
    header = tmp_path / "acl.h"
    header.write_text(text.replace(right, wrong))
    assert table(names, header, tmp_path) != table(names, DRIVER, tmp_path)
