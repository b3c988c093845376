"""Calls that should cost what moving their bytes costs, and those told by plain ones.

    python -m benchmarks.floors        about two minutes

CPU time on one thread at Sparse4D's shape, of processes that take turns, with the
stock allocator: gradients where nothing is visible against writing zeros, packing
against a copy, and aggregation with depth against the plain one.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks import report
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.timing import ONE_THREAD, REUSED_PAGES, Process, cpu_times, ratio

A = PROBLEMS["a"]
UNSEEN = replace(A, visible=0.0)


def against(
    floor: str, targets: dict[str, float], times: dict[str, list[float]]
) -> list[report.Result]:
    """A goal for each name: at most so many times the floor."""
    return [
        report.goal(
            f"{name} / {floor}",
            ratio(times[name], times[floor]),
            target,
        )
        for name, target in targets.items()
    ]


def rows_that_nothing_touches(group: int, rounds: int) -> list[report.Result]:
    problem = replace(UNSEEN, groups=group)
    jda, moving = process("jda", problem), process("moving", problem)
    name, floor = f"all gradients, nothing visible, group = {group}", "writing zeros"
    times = cpu_times({name: (jda, "backward"), floor: (moving, "zeros")}, rounds)
    close(jda, moving)
    return against(floor, {name: 1.3}, times)


def packing(rounds: int) -> list[report.Result]:
    jda, moving = process("packing", A), process("moving", A)
    targets = {
        f"packing {layout}, {how}": target
        for layout, target in (("bkhwc", 1.2), ("bkchw", 1.5))
        for how in ("eager", "jit")
    }
    contestants = {name: (jda, name.removeprefix("packing ")) for name in targets}
    times = cpu_times(contestants | {"a copy": (moving, "copy")}, rounds)
    close(jda, moving)
    return against("a copy", targets, times)


def with_depth(rounds: int) -> list[report.Result]:
    """64 bins for each pixel."""
    depth, plain = (process(p, A, **REUSED_PAGES) for p in ("jda with depth", "jda"))
    found = []
    for task in ("forward", "forward+backward"):
        name, floor = f"{task} with depth", f"the plain {task}"
        times = cpu_times({name: (depth, task), floor: (plain, task)}, rounds)
        found += against(floor, {name: 4.0}, times)
    close(depth, plain)
    return found


def process(peer: str, problem: Problem, **environment: str) -> Process:
    return Process(peer, problem, **ONE_THREAD, **environment)


def close(*processes: Process) -> None:
    for each in processes:
        each.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    arguments = parser.parse_args()
    rounds = arguments.rounds
    goals = packing(rounds) + with_depth(rounds)
    for group in (1, 8, 64, 256):
        goals += rows_that_nothing_touches(group, rounds)
    table = report.goal_table(goals)
    table.print()
    said = "Ratios of CPU time on one thread, in turns, at Sparse4D's shape."
    page = report.page("Floors", "floors", said, report.machine(), [table])
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "floors.md").write_text(page)


if __name__ == "__main__":
    main()
