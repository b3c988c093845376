"""Which mutants of the kernels does nothing notice?

mutants.py makes them; they are one library. A mutant dies of a finding of the emulator,
a wrong result, a result that depends on the order, an error, a crash, or of running
much farther than the kernels do. It is noticed too where it is right but does more work
than the kernels, by the emulator's model. What survives has to be listed in
survivors.toml with the reason why it is equivalent, and what is listed has to survive.

    python -m tests.ascend.mutation          of those that are not listed, what always
                                             runs and a sample of the rest
    python -m tests.ascend.mutation --all    every mutant
"""

import argparse
import ctypes
import inspect
import itertools
import mmap
import os
import resource
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import ml_dtypes
import numpy as np

from tests import test_ascend_kernels
from tests.ascend import emulated, limits, mutants
from tests.support import cases, oracle

# The emulator judges neither the scalar unit's own arrays nor the code of the host.
BOUNDS = ("-fsanitize=bounds", "-fsanitize-undefined-trap-on-error")
HELD = (*BOUNDS, "-D_GLIBCXX_ASSERTIONS")
FLAGS = ("-Wno-narrowing", *HELD, "-include", str(emulated.HERE / "mutant.h"))
LISTED = emulated.HERE / "survivors.toml"
ALWAYS = ("synchronisation", "pair")
SAMPLE = 200
JOBS = 2
LONG = (
    "test_zoo",
    "test_zoo_of_16_bits",
    "test_corners_of_the_limits",
    "test_corners_of_the_limits_in_16_bits",
    "test_rows_of_any_size_in_16_bits",
    "test_every_number_of_16_bits_comes_out_as_it_went_in",
    "test_only_wanted_gradients_in_16_bits",
    "test_modelled_forward_is_near_the_floor",
)
OF_ONE_FILE = {  # which takes its time, and tells nothing of others
    "tiling": "make_tiling.h",
    "test_sides_that_a_float_cannot_hold": "maps.h",
    "test_sums_of_a_large_batch_take_turns": "rounding.h",
}
FIRST = ("rig", "odd channels", "300 points and a batch", "page channels")
GAVE_UP, SLOWER = 3, 4  # exit statuses; the first one is that of mutant.cc
LAST_RESORT = 600  # seconds; what runs that long is reported
MEMORY = 8 << 30
Cost = list[float]
Check = Callable[[ctypes.CDLL], Cost]


class Verdict(NamedTuple):
    mutant: mutants.Mutant
    fate: str  # "died", "slower", "survived"
    how: str  # of what and where


def build(folder: Path) -> tuple[ctypes.CDLL, list[mutants.Mutant]]:
    kernels = folder / "ascend"
    kernels.mkdir()
    changed, found = mutants.mutate(mutants.sources(emulated.KERNELS))
    for name, text in changed.items():
        (kernels / name).write_text(text)
    library = emulated.library_of(
        kernels,
        folder / "build",
        JDA_KERNEL_OPTIONS=";".join(FLAGS),
        JDA_MORE_SOURCES=emulated.HERE / "mutant.cc",
    )
    for name, kind in (
        ("jda_mutant", ctypes.c_int),
        ("jda_mutant_steps", ctypes.c_longlong),
        ("jda_mutant_most_steps", ctypes.c_longlong),
    ):
        getattr(library, name).restype = ctypes.POINTER(kind)
    return library, found


# ---- what a mutant has to get right, what kills most comes first


def check(
    inputs: cases.Inputs,
    judged: cases.Judgement,
    backward: bool,
    library: ctypes.CDLL,
    seeds: Iterable[int] = (0,),
    **options: object,
) -> Cost:
    """One direction, in one or more orders, on which results do not depend."""
    first, cost = None, []
    for seed in seeds:
        cotangent = judged.cotangent.astype(inputs.feature_maps.dtype)
        cotangent = cotangent if backward else None
        run = emulated.emulate(library, inputs, cotangent, seed=seed, **options)
        assert not run.findings, run.findings
        if backward:
            cases.assert_gradients_within(run.results, judged)
        else:
            oracle.assert_right(run.results[0], judged.out, judged.out_scale)
        for got, before in zip(run.results, first or run.results, strict=True):
            same = got is None or got.tobytes() == before.tobytes()
            assert same, "depends on the order"
        first = run.results
        if seed == 0:
            cost += cost_of(run.answer)
    return cost


def cost_of(answer: emulated.Answer) -> Cost:
    """What the emulator's model says of a run in program order."""
    moved = [answer.bytes_in, answer.bytes_out]
    return [answer.microseconds, *moved, *answer.busy, *answer.instructions]


def problems() -> Iterator[tuple[str, cases.Inputs, cases.Judgement]]:
    for name in (*FIRST, *(name for name in cases.ON_A_CARD if name not in FIRST)):
        yield name, cases.case(name), cases.judged_case(name)
    for name in limits.SHAPES:
        yield name, *limits.case(name)


def of_16_bits() -> Iterator[tuple[str, Check]]:
    """Both directions, on one core and on several that share anchors."""
    names = [name for name, *_ in problems() if name in cases.ON_A_CARD]
    for dtype, weights in ((np.float16, None), (ml_dtypes.bfloat16, np.float32)):
        word = np.dtype(dtype).name
        narrow = [(name, *limits.half_case(name, dtype)) for name in limits.SHAPES]
        for name in names:
            inputs, _, judged = cases.half_case(name, dtype, weights)
            narrow.append((name, inputs, judged))
        for name, inputs, judged in narrow:
            for backward, options in (
                (False, {"cores": 3, "seeds": (0, 1)}),
                (True, {"cores": 3}),
                (True, {"cores": 4, "seeds": (5,)}),
                (True, {"cores": 2, "deterministic": 1, "seeds": (0, 1)}),
                (False, {"cores": 1}),
                (True, {"cores": 1}),
            ):
                call = partial(check, inputs, judged, backward, **options)
                direction = "backward" if backward else "forward"
                yield f"{name} in {word}, {direction}, {options}", call


def checks() -> Iterator[tuple[str, Check]]:
    every = list(problems())
    for options in ({"cores": 3}, {"cores": 4, "seeds": (5,)}):
        yield from both_directions(every, **options)
    yield from of_16_bits()
    for name, inputs, judged in every:
        options = {"cores": 2, "deterministic": 1, "seeds": (0, 1, 2)}
        if name in cases.ON_A_CARD:
            yield f"{name}, {options}", partial(check, inputs, judged, True, **options)
    for options in (
        {"cores": 2},
        {"cores": 48},
        {"cores": 1},
        {"cores": 48, "seeds": (7,)},
    ):
        yield from both_directions(every, **options)
    yield from tests()


def both_directions(every, **options: object) -> Iterator[tuple[str, Check]]:
    for name, inputs, judged in every:
        for backward in (False, True):
            label = f"{name}, {'backward' if backward else 'forward'}, {options}"
            yield label, partial(check, inputs, judged, backward, **options)


def tests() -> Iterator[tuple[str, Check]]:
    """Those of the suite that take a library; but the long ones are above, in short."""
    for name, test in vars(test_ascend_kernels).items():
        takes = inspect.signature(test).parameters if name.startswith("test_") else ()
        if "library" not in takes or name in LONG:
            continue
        marks = [m for m in getattr(test, "pytestmark", ()) if m.name == "parametrize"]
        axes = [[(m.args[0], value) for value in m.args[1]] for m in marks]
        for arguments in map(dict, itertools.product(*axes)):
            yield f"{name} {arguments}", partial(run_test, test, arguments)


def run_test(test, arguments: dict[str, object], library: ctypes.CDLL) -> Cost:
    test(library, **arguments)
    return []


def check_tiling(library: ctypes.CDLL) -> Cost:
    assert library.jda_check_tiling() == 0, "the test of the tiling fails"
    return []


def assert_same(library: ctypes.CDLL, other: ctypes.CDLL) -> None:
    """Switches alone change no bit and no cost."""
    for name, inputs, judged in problems():
        for cotangent in (None, judged.cotangent):
            a, b = (emulated.emulate(x, inputs, cotangent) for x in (library, other))
            assert cost_of(a.answer) == cost_of(b.answer), name
            for got, right in zip(a.results, b.results, strict=True):
                assert got is right is None or got.tobytes() == right.tobytes(), name


# ---- judging


class Judge:
    """Runs mutants, each in a process of its own: one may crash or hang.

    A patient judge goes on where a mutant is slower, and sees whether it dies later.
    """

    def __init__(self, library: ctypes.CDLL, patient: bool):
        assert_same(library, emulated.library())
        self.library, self.patient = library, patient
        self.checks = list(checks())
        self.checks.insert(2 * len(FIRST), ("tiling", check_tiling))
        self.known = {label: self._run(call) for label, call in self.checks}

    def _run(self, call: Check) -> tuple[int, Cost]:
        """Steps and modelled cost."""
        steps = self.library.jda_mutant_steps().contents
        steps.value = 0
        cost = call(self.library)
        return steps.value, cost

    def verdicts(
        self, every: list[mutants.Mutant], chosen: Iterable[int]
    ) -> Iterator[Verdict]:
        notes = [mmap.mmap(-1, 1024) for _ in range(JOBS)]
        running: dict[int, tuple[int, mmap.mmap]] = {}
        waiting = iter(chosen)
        while True:
            while notes and (number := next(waiting, None)) is not None:
                note = notes.pop()
                running[self._start(number, every[number], note)] = number, note
            if not running:
                return
            child, status = os.wait()
            number, note = running.pop(child)
            notes.append(note)
            yield self._verdict(every[number], os.waitstatus_to_exitcode(status), note)

    def _start(self, number: int, mutant: mutants.Mutant, note: mmap.mmap) -> int:
        child = os.fork()
        if child:
            return child
        try:
            signal.alarm(LAST_RESORT)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.library.jda_mutant().contents.value = number
            os._exit(self._fate(mutant, note))
        except BaseException as error:
            at = note[:].rstrip(b"\0").decode()
            write(note, f"{at}: {' '.join(str(error).split())}")
            os._exit(1)

    def _fate(self, mutant: mutants.Mutant, note: mmap.mmap) -> int:
        """Exit status of a mutant that passes; `note` says where it was slower."""
        slower = ""
        for label, call in self.checks:
            if mutant.file != OF_ONE_FILE.get(label.split()[0], mutant.file):
                continue
            write(note, label)
            steps, known = self.known[label]
            self.library.jda_mutant_most_steps().contents.value = 10 * steps + 1_000_000
            _, cost = self._run(call)
            if any(c > 1.00001 * k for c, k in zip(cost, known, strict=True)):
                slower = slower or label
                if not self.patient:
                    break
        write(note, slower)
        return SLOWER if slower else 0

    def _verdict(self, mutant: mutants.Mutant, status: int, note: mmap.mmap) -> Verdict:
        text = note[:].rstrip(b"\0").decode(errors="replace")
        if status == GAVE_UP:
            text += ": does not end"
        elif status < 0:
            text += f": {signal.Signals(-status).name}"
        fate = {0: "survived", SLOWER: "slower"}.get(status, "died")
        return Verdict(mutant, fate, text)


def write(note: mmap.mmap, text: str) -> None:
    note[:] = text.encode()[: len(note)].ljust(len(note), b"\0")


def listed() -> dict[str, str]:
    """The reason of every mutant that is known to be equivalent."""
    groups = tomllib.loads(LISTED.read_text())["equivalent"]
    return {key: group["reason"] for group in groups for key in group["mutants"]}


def sample(every: list[mutants.Mutant]) -> list[int]:
    """Of what is not listed: what always runs, and SAMPLE of the others.

    They are chosen by their names, so that nearly all stay where a line changes.
    """
    known = listed()
    unlisted = [i for i, mutant in enumerate(every) if mutant.key not in known]
    always = [i for i in unlisted if every[i].kind in ALWAYS]
    others = [i for i in unlisted if every[i].kind not in ALWAYS]
    others.sort(key=lambda i: crc32(every[i].key.encode()))
    return always + sorted(others[:SAMPLE])


def report(every: list[mutants.Mutant], verdicts: list[Verdict]) -> bool:
    """Prints what is wrong; true if nothing is."""
    known = listed()
    fates = Counter((v.mutant.kind, v.fate) for v in verdicts)
    for kind, count in Counter(mutant.kind for mutant in every).items():
        numbers = (f"{fates[kind, f]} {f}" for f in ("died", "slower", "survived"))
        print(f"{count:5} {kind}: {', '.join(numbers)}")
    survived = [v for v in verdicts if v.fate == "survived"]
    unexplained = [v.mutant.key for v in survived if v.mutant.key not in known]
    wrong = {
        "no test notices": unexplained,
        "listed as equivalent, but noticed": [
            f"{v.mutant.key} ({v.fate}: {v.how})"
            for v in verdicts
            if v.fate != "survived" and v.mutant.key in known
        ],
        "listed, but there is no such mutant": sorted(
            known.keys() - {mutant.key for mutant in every}
        ),
        "died of the clock alone": [
            v.mutant.key for v in verdicts if v.how.endswith("SIGALRM")
        ],
    }
    for what, keys in wrong.items():
        for key in keys:
            print(f"{what}: {key}")
    tried, left = len(verdicts), len(unexplained)
    print(f"{len(every)} mutants, {tried} tried, {left} unexplained survivors")
    return not any(wrong.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="not a sample: every mutant")
    parser.add_argument("--only", default="", help="mutants whose key has this text")
    parser.add_argument(
        "--verbose", action="store_true", help="what every mutant dies of"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        library, every = build(Path(folder))
        judge = Judge(library, patient=arguments.all)
        if arguments.all or arguments.only:
            chosen = [i for i, m in enumerate(every) if arguments.only in m.key]
        else:
            chosen = sample(every)
        print(f"ready after {time.monotonic() - start:.0f} s", file=sys.stderr)
        verdicts = []
        for verdict in judge.verdicts(every, chosen):
            verdicts.append(verdict)
            if arguments.verbose:
                print(
                    f"{verdict.mutant.key} => {verdict.fate}: {verdict.how}", flush=True
                )
    return 0 if report(every, verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
