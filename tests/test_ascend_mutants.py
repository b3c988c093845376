"""The promise: a change of the Ascend C kernels is noticed, unless nothing tells it."""

import ctypes
import re
import shutil
import subprocess
import sys

import pytest

from tests.ascend import emulated, mutants

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

SOURCE = """
constexpr int kMost = 9 - 2;
template <int kAdded> int Added(int a);
template <> int Added<3>(int a);
inline int Smaller(int a, int b) {
  return a < b ? a : b;
}

extern "C" int tried(int a, int b) {
  static_assert(kMost > 2);
  int held[4 + 4] = {};  // 1 + 1
  int sum = 0;
  if (a > 1 && b != kMost) sum += a * b;
  held[a] = Smaller(sum, 80);
  return held[a];
}
"""
AT = ((2, 5), (1, 5), (2, 7))
UNCHANGED = (10, 0, 0)
CHANGES = {  # and what they make of it
    "return a < b ? a : b;": {
        "< -> <=": (10, 0, 0),
        "a < b -> true": (10, 0, 0),
        "a < b -> false": (80, 80, 80),
    },
    "int sum = 0;": {"0 -> 0 + 1": (11, 1, 1)},
    "if (a > 1 && b != kMost) sum += a * b;": {
        "a > 1 && b != kMost -> true": (10, 5, 14),
        "a > 1 && b != kMost -> false": (0, 0, 0),
        "> -> >=": (10, 5, 0),
        "1 -> 1 + 1": (0, 0, 0),
        "1 -> 1 - 1": (10, 5, 0),
        "without && a > 1": (10, 5, 0),
        "without && b != kMost": (10, 0, 14),
        "!= -> ==": (0, 0, 14),
        "kMost -> kMost + 1": (10, 0, 14),
        "kMost -> kMost - 1": (10, 0, 14),
        "without sum += a * b": (0, 0, 0),
        "* -> +": (7, 0, 0),
    },
    "held[a] = Smaller(sum, 80);": {
        "without held[a] = Smaller(sum, 80)": (0, 0, 0),
        "a -> a + 1": (0, 0, 0),
        "a -> a - 1": (0, 0, 0),
        "Smaller(sum, 80) -> sum": (10, 0, 0),
        "Smaller(sum, 80) -> 80": (80, 80, 80),
        "80 -> 80 + 1": (10, 0, 0),
        "80 -> 80 - 1": (10, 0, 0),
    },
    "return held[a];": {"a -> a + 1": (0, 0, 0), "a -> a - 1": (0, 0, 0)},
}


def test_mutants_are_what_they_say(tmp_path):
    changed, every = mutants.mutate({"tried.cc": SOURCE})
    (tmp_path / "tried.cc").write_text(
        "namespace mutant { int chosen = -1; long long steps, most_steps = 1 << 30; }\n"
        "void mutant::give_up() {}\n"
        'extern "C" void choose(int id) { mutant::chosen = id; }\n'
        + changed["tried.cc"]
    )
    flags = ("-shared", "-fPIC", "-std=c++20", "-include", emulated.HERE / "mutant.h")
    target = tmp_path / "tried.so"
    subprocess.run(["g++", *flags, tmp_path / "tried.cc", "-o", target], check=True)
    library = ctypes.CDLL(str(target))
    assert tuple(library.tried(*at) for at in AT) == UNCHANGED
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for number, mutant in enumerate(every):
        library.choose(number)
        results = tuple(library.tried(*at) for at in AT)
        found.setdefault(mutant.line, {})[mutant.change] = results
    assert found == CHANGES
    assert len(every) == sum(map(len, CHANGES.values()))


FLAGS = """
inline void Give(int i) {
  SetFlag<HardEvent::V_S>(kOwn);
  WaitFlag<HardEvent::V_S>(kOwn);
  SetFlag<HardEvent::MTE2_V>(kShared + i);
  SetFlag<HardEvent::V_MTE2>(0);
}
"""
MORE_FLAGS = """
inline void Take(int i) {
  WaitFlag<HardEvent::MTE2_V>(kShared + i + 1);
  WaitFlag<HardEvent::V_MTE2>(0);
}
"""


def test_flags_that_belong_together_are_left_out_together():
    changed, every = mutants.mutate({"flags.h": FLAGS, "more.h": MORE_FLAGS})
    pairs = {m.change: i for i, m in enumerate(every) if m.kind == "pair"}
    own, shared = "the pair V_S(kOwn) of Give", "all flags MTE2_V(kShared)"
    assert pairs.keys() == {f"without {own}", f"without {shared}"}
    for name, there in ((own, (2, 0)), (shared, (1, 1))):
        switch = rf"keeps\(\d+, {pairs[f'without {name}']}\)"
        assert (
            tuple(len(re.findall(switch, text)) for text in changed.values()) == there
        )


def test_every_mutant_is_noticed_or_explained():
    """Without any one flag, pair of flags or barrier, and a sample of other changes."""
    # In a process without JAX, whose threads do not go with forks.
    run = subprocess.run(
        [sys.executable, "-m", "tests.ascend.mutation"],
        cwd=emulated.ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    count = re.search(r"(\d+) mutants, (\d+) tried, 0 unexplained", run.stdout)
    assert count and int(count[1]) > 500 and int(count[2]) > 300, run.stdout
