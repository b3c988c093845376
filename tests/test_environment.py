"""The promise: a variable of the environment is refused if it holds an unknown word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jda._environment import flag

TESTS = Path(__file__).parent
REFUSED = "is 'yes'; it may be '0' or '1'"


@pytest.mark.parametrize(
    ("value", "meaning"), [(None, False), ("", False), ("0", False), ("1", True)]
)
def test_a_flag(value, meaning, monkeypatch):
    monkeypatch.delenv("JDA_FLAG", raising=False)
    if value is not None:
        monkeypatch.setenv("JDA_FLAG", value)
    assert flag("JDA_FLAG") is meaning


@pytest.mark.parametrize("value", ["true", "yes", "on", "2", " 1", "01"])
def test_other_words_are_refused(value, monkeypatch):
    monkeypatch.setenv("JDA_FLAG", value)
    with pytest.raises(
        ValueError, match=f"^JDA_FLAG is {value!r}; it may be '0' or '1'$"
    ):
        flag("JDA_FLAG")


@pytest.mark.parametrize("name", ["JDA_REQUIRE_CPU", "JDA_REQUIRE_NPU", "JDA_SANITIZE"])
def test_the_variables_of_the_tests_are_flags(name):
    """A test run with a wrong one would skip what should have been tested."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", TESTS / "test_cxx.py"],
        env=os.environ | {name: "yes"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert f"ValueError: {name} {REFUSED}" in done.stdout + done.stderr
