"""C++ tests, built by CMake and run by ctest."""

import re

import pytest

from jda._environment import flag
from tests.support import cxx

# With sanitizers they take a minute to compile: on request.
VARIANTS = {"plain": ""}
if flag("JDA_SANITIZE"):
    VARIANTS["sanitized"] = (
        "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_programs(variant: str) -> None:
    folder = cxx.build(folder=cxx.BUILDS / variant, CMAKE_CXX_FLAGS=VARIANTS[variant])
    output = cxx.ctest(folder)
    passed = re.findall(r"Test +#\d+: ([\w.]+) \.+ +Passed", output)
    assert len(passed) >= 7, output
