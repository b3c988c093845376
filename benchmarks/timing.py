"""Times tasks of several processes, interleaved, on a machine that is watched."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.problems import Problem

ROOT = Path(__file__).resolve().parents[1]  # from where `python -m benchmarks...` runs

# Freed memory stays with the process: calls do not pay for fresh pages.
REUSED_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "16000000000",
}
# Freed memory goes back at once: what a call needs can be seen from outside.
RETURNED_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_TOP_PAD_": "0",
}
ONE_THREAD = {"NPROC": "1"}
SHORTEST = 20e-3  # seconds: shorter calls are repeated to make one sample
LONG = 1.0  # seconds: longer calls are not repeated as often
WARM = 1.0  # seconds: a call that is not longer is made once more before it is timed


class Process:
    """A worker process with one peer."""

    def __init__(self, peer: str, problem: Problem | None, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"} | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.peer = peer
        self.problem = asdict(problem) if problem else None
        if peer:
            self.send("set up", peer=peer, problem=self.problem)

    @cached_property
    def tasks(self) -> list[str]:
        """What the peer can do, once it is set up; processes start side by side."""
        tasks: list[str] = self.receive()
        return tasks

    def ask(self, what: str, **request: Any) -> Any:
        if self.peer:
            _ = self.tasks  # its answer comes first
        self.send(what, **request)
        return self.receive()

    def send(self, what: str, **request: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"do": what} | request) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of {self.peer} died")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@dataclass
class Contestant:
    """One task of one process, and its times by round."""

    process: Process
    task: str
    repeats: int = 1
    rounds: int = 0
    first: float = 0.0  # seconds of the first call
    times: dict[int, float] = field(default_factory=dict)

    def warm_up(self, rounds: int, budget: float) -> None:
        self.first = first = self.process.ask("time", task=self.task)
        second = first
        if first < budget / 2:
            second = self.process.ask("time", task=self.task)
        self.repeats = min(1000, max(1, round(SHORTEST / second)))
        affordable = round(budget / max(second, SHORTEST))
        self.rounds = max(2, min(rounds, affordable))

    def run(self, round_: int) -> None:
        if self.first < WARM:  # the turns of others have emptied the caches
            self.process.ask("time", task=self.task)
        self.times[round_] = self.process.ask(
            "time", task=self.task, repeats=self.repeats
        )

    @property
    def time(self) -> float:
        return median(self.times.values())


def cpu_times(
    contestants: Mapping[str, tuple[Process, str]], rounds: int
) -> dict[str, list[float]]:
    """CPU seconds of one call, by name; everybody has a turn in each round.

    But for those whose calls take long, which have two.
    """
    repeats, turns = {}, {}
    for name, (process, task) in contestants.items():
        first = min(process.ask("cpu time", task=task) for _ in range(2))
        repeats[name] = min(50, max(1, round(SHORTEST / max(first, 1e-6))))
        turns[name] = rounds if first < LONG else min(2, rounds)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, (process, task) in contestants.items():
            if turn >= turns[name]:
                continue
            if turns[name] == rounds:
                process.ask("cpu time", task=task)  # others emptied the caches
            spent = process.ask("cpu time", task=task, repeats=repeats[name])
            times[name].append(spent)
    return times


def ratio(times: Iterable[float], others: Iterable[float]) -> float:
    """The median over rounds of the ratio within a round."""
    return median(x / y for x, y in zip(times, others, strict=True))


def busy_seconds() -> float:
    """CPU seconds that the whole machine has spent."""
    fields = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    user, nice, system, _, _, *interrupts = map(int, fields)
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def others_are_quiet() -> bool:
    """Whether nothing else used more than a fifth of a core just now."""

    def now() -> tuple[float, float]:
        own = resource.getrusage(resource.RUSAGE_SELF)
        return busy_seconds() - own.ru_utime - own.ru_stime, time.monotonic()

    busy, begin = now()
    time.sleep(0.1)
    busy_later, end = now()
    return busy_later - busy < 0.2 * (end - begin)


class Contest:
    """Contestants that take turns; in each round everybody has one turn.

    Attributes:
        patience: seconds to wait for a quiet machine, in all.
        budget: seconds for one contestant, which limits the rounds of slow ones.
    """

    def __init__(self, patience: float = 60, budget: float = 8) -> None:
        self.contestants: dict[str, Contestant] = {}
        self.patience = patience
        self.budget = budget
        self.noisy_rounds = 0

    def enter(self, name: str, process: Process, tasks: list[str]) -> None:
        for task in tasks:
            if task in process.tasks:
                self.contestants[f"{name}: {task}"] = Contestant(process, task)

    def run(self, rounds: int) -> None:
        for contestant in self.contestants.values():
            contestant.warm_up(rounds, self.budget)
        # Slow ones last: what they leave behind (freed memory) must not disturb others.
        turns = sorted(self.contestants.values(), key=lambda c: -c.rounds)
        for round_ in range(rounds):
            self.wait()
            for contestant in turns:
                if round_ < contestant.rounds:
                    contestant.run(round_)

    def wait(self) -> None:
        begin = time.monotonic()
        while not (quiet := others_are_quiet()) and self.patience > 0:
            self.patience -= time.monotonic() - begin
            begin = time.monotonic()
        self.noisy_rounds += not quiet

    def time(self, name: str) -> float | None:
        contestant = self.contestants.get(name)
        return contestant.time if contestant else None

    def ratio(self, one: str, other: str) -> float | None:
        """Median over the rounds that both were in of the ratio of their times."""
        if one not in self.contestants or other not in self.contestants:
            return None
        times, others = self.contestants[one].times, self.contestants[other].times
        both = sorted(times.keys() & others.keys())
        return ratio([times[r] for r in both], [others[r] for r in both])

    def medians(self) -> dict[str, float]:
        return {name: c.time for name, c in self.contestants.items()}

    def results(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"median": c.time, "rounds": list(c.times.values())}
            for name, c in self.contestants.items()
        }
