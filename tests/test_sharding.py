"""The promise: arrays may be split over devices; see docs/sharding.md.

The tests that need eight devices live in tests/eight_devices and run in processes of
their own, so that all others see one device, as most users do.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jda import _dimensions, _sharding

FOLDER = Path(__file__).parent / "eight_devices"
FILES = ("under_jit", "under_shard_map", "in_explicit_mode", "guide", "pictures")


@pytest.mark.parametrize("name", FILES)
def test_on_eight_devices(name):
    if name == "pictures":
        pytest.importorskip("matplotlib")
    flags = os.environ.get("XLA_FLAGS", "")
    flags += " --xla_force_host_platform_device_count=8"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"{FOLDER / name}.py"],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-20000:], done.stderr[-5000:])
    assert done.returncode == 0


def test_every_file_is_run():
    helpers = {"__init__", "scene", "one_of_two_processes"}
    assert {path.stem for path in FOLDER.glob("*.py")} - helpers == set(FILES)


SHAPES = [(1, 9, 24), (2, 1, 2), (2, 1), (1, 5, 3, 2, 2), (1, 5, 3, 2, 1, 8)]


def test_the_rule_says_what_may_be_split():
    left, right = _dimensions.terms("backward", ("feature_maps", "weight"))
    sizes = _sharding.factor_sizes(left, [*SHAPES, (1, 5, 24)])
    assert _sharding.rule(left, right, sizes) == (
        "b n (g d), k s t, k s, b a p k t, b a p k s g, b a (g d)"
        " -> b n (g d), b a p k s g",
        {"need_replication_factors": ("n", "t"), "d": 3},
    )


@pytest.mark.parametrize(("groups", "channels"), [(1, "d"), (24, "g")])
def test_a_factor_of_size_one_has_no_name(groups, channels):
    left, right = _dimensions.terms("forward")
    sizes = _sharding.factor_sizes(left, [*SHAPES[:4], (1, 5, 3, 2, 1, groups)])
    text, keywords = _sharding.rule(left, right, sizes)
    assert text.startswith(f"b n {channels},") and text.endswith(f"b a {channels}")
    assert keywords == {"need_replication_factors": ("n", "t")}
