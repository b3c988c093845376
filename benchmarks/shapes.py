"""What one visible sample costs, over many shapes: a picture, and the goals for it.

    python -m benchmarks.shapes            all shapes: about ten minutes
    python -m benchmarks.shapes --rounds 2 --only warp

CPU time on one thread, for each visible sample, scale and channel. In every round, all
processes of a shape take turns with jda at Sparse4D's shape, which is the unit. Then,
what a call of each shape needs in memory.
"""

import argparse
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

from benchmarks import report
from benchmarks.problems import FLOATS, PROBLEMS, Problem, is_visible, make
from benchmarks.timing import (
    ONE_THREAD,
    RETURNED_PAGES,
    REUSED_PAGES,
    Process,
    cpu_times,
    ratio,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TASKS = ("forward", "forward+backward")
PEERS = {"jda": "#c2410c", "torch": "#1d4ed8", "naive jnp": "#64748b"}
NAMES = {"jda": "jda", "torch": "PyTorch grid_sample", "naive jnp": "naive jax.numpy"}
MOST = 3e9  # bytes that the naive formulation may write for one corner of all samples

A = PROBLEMS["a"]
ONE = Problem(cameras=1, maps=((480, 640),), groups=1, visible=1.0, clustered=False)
WARP = replace(ONE, anchors=1_000_000, points=1, channels=3)
ROWS = replace(ONE, anchors=200_000, points=1, channels=32)
QUERIES = replace(
    A, cameras=1, anchors=50_000, points=4, channels=32, groups=1, visible=1.0
)
SHAPES = {
    "Sparse4D v3: c = 256, group = 8": A,
    "c = 192, group = 8": replace(A, channels=192),
    "c = 384, group = 8": replace(A, channels=384),
    "c = 1024, group = 8, 300 anchors": replace(A, channels=1024, anchors=300),
    "c = 256, group = 1": replace(A, groups=1),
    "c = 96, group = 2": replace(A, channels=96, groups=2),
    "c = 256, group = 128": replace(A, groups=128),
    "c = 64, group = 64": replace(A, channels=64, groups=64),
    "c = 84, group = 12": replace(A, channels=84, groups=12),
    "10 anchors x 2000 points, one map": PROBLEMS["c"],
    "DETR-like: 50k x 4 points, c = 32": QUERIES,
    "warp, smooth: 1M x 1, c = 3": replace(WARP, warp=True),
    "warp, random: 1M x 1, c = 3": WARP,
    "warp, smooth: 200k x 1, c = 32": replace(ROWS, warp=True),
    "warp, random: 200k x 1, c = 32": ROWS,
}
WIDE = (1.5, 1.5)  # at most so many times the cost of Sparse4D's shape, by task
NARROW = (3.0, 4.0)
AT_MOST = {
    "c = 192, group = 8": WIDE,
    "c = 384, group = 8": WIDE,
    "c = 1024, group = 8, 300 anchors": WIDE,
    "c = 256, group = 1": WIDE,
    "c = 96, group = 2": WIDE,
    "c = 256, group = 128": NARROW,
    "c = 64, group = 64": NARROW,
    "c = 84, group = 12": NARROW,
    "DETR-like: 50k x 4 points, c = 32": WIDE,
}
CROWDED = replace(A, anchors=2048, points=512, cameras=1, visible=1.0)
FIXED = 64 << 20  # bytes that a call may need, and ...
SHARE = 0.07  # ... in addition, of its arguments and results
AGAINST_TORCH = 0.5  # the speed that a warp should have at least, of PyTorch's
Costs = dict[str, dict[str, list[float]]]  # by peer and task, one for each round


@cache
def terms(problem: Problem) -> int:
    """Visible samples times scales times channels."""
    seen = int(is_visible(make(problem)).sum())
    return seen * len(problem.maps) * problem.channels


def peers_of(problem: Problem) -> list[str]:
    samples = problem.batch * problem.anchors * problem.points * problem.cameras
    naive = 4 * samples * len(problem.maps) * problem.channels
    return [peer for peer in PEERS if peer != "naive jnp" or naive < MOST]


def measure(problem: Problem, unit: Process, rounds: int) -> Costs:
    """CPU seconds for each term, and those of the unit as the peer "unit"."""
    environment = ONE_THREAD | REUSED_PAGES
    processes = {p: Process(p, problem, **environment) for p in peers_of(problem)}
    turns = {"unit": unit} | processes
    of = dict.fromkeys(processes, terms(problem)) | {"unit": terms(A)}
    costs: Costs = {name: {task: [] for task in TASKS} for name in turns}
    for task in TASKS:
        able = {n: (p, task) for n, p in turns.items() if task in p.tasks}
        for name, times in cpu_times(able, rounds).items():
            costs[name][task] = [time / of[name] for time in times]
    for process in processes.values():
        process.close()
    return costs


def goals(name: str, costs: Costs) -> list[report.Result]:
    found = []
    for i, task in enumerate(TASKS):
        if name in AT_MOST:
            cost = ratio(costs["jda"][task], costs["unit"][task])
            what = f"{name}: {task}, cost / Sparse4D's"
            found.append(report.goal(what, cost, AT_MOST[name][i]))
        if name.startswith("warp"):
            speed = ratio(costs["torch"][task], costs["jda"][task])
            what = f"{name}: {task}, PyTorch / jda"
            found.append(report.goal(what, speed, AGAINST_TORCH, at_least=True))
    return found


def memory_goals(name: str, problem: Problem) -> list[report.Result]:
    """What a call needs at its peak, besides its arguments and results."""
    inputs = make(problem)
    arguments = sum(x.nbytes for x in inputs[:5])
    gradients = sum(inputs[i].nbytes for i in FLOATS)
    arrays = {"forward": arguments, "backward": arguments + gradients}
    process = Process("jda", problem, **RETURNED_PAGES)
    found = []
    for task in process.tasks:
        if task in arrays:
            most = FIXED + SHARE * (arrays[task] + inputs.cotangent.nbytes)
            needed = process.ask("scratch", task=task)
            what = f"{name}: memory of the {task}, MiB"
            found.append(report.goal(what, needed / 2**20, round(most / 2**20)))
    process.close()
    return found


def draw(results: dict[str, Costs], path: Path, processor: str) -> None:
    """One row for each shape, one dot for each peer; further left is better."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 6.2), sharey=True)
    names = list(results)[::-1]
    for panel, task in zip(panels, TASKS, strict=True):
        for peer, colour in PEERS.items():
            rows = [
                (i, results[n].get(peer, {}).get(task)) for i, n in enumerate(names)
            ]
            found = [(1e9 * median(costs), i) for i, costs in rows if costs]
            panel.plot(*zip(*found, strict=True), "o", color=colour, label=NAMES[peer])
        panel.set_xscale("log")
        panel.set_title(task.replace("+", " + "))
        panel.set_xlabel("ns of CPU time for each visible sample, scale and channel")
        panel.grid(axis="both", alpha=0.3)
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    labels = panels[0].get_legend_handles_labels()
    figure.legend(*labels, loc="upper right", ncols=len(PEERS), frameon=False)
    title = f"One thread, float32, {processor}: further left is faster"
    figure.suptitle(title, x=0.01, ha="left")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="shapes whose name has this text")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    arguments = parser.parse_args()
    unit = Process("jda", A, **ONE_THREAD, **REUSED_PAGES)
    results: dict[str, Any] = {}
    found: list[report.Result] = []
    for name, problem in SHAPES.items():
        if arguments.only in name:
            results[name] = measure(problem, unit, arguments.rounds)
            found += goals(name, results[name])
            print(f"{name}: measured", flush=True)
    unit.close()
    crowded = {"2048 anchors x 512 points": CROWDED}
    for name, problem in (SHAPES | crowded).items():
        if arguments.only in name:
            found += memory_goals(name, problem)
    table = report.goal_table(found)
    table.print()
    machine = report.machine()
    draw(results, arguments.output / "shapes.png", machine["processor"])
    record = {"machine": machine, "costs": results, "goals": found}
    (arguments.output / "shapes.json").write_text(json.dumps(record))
    said = "Cost is CPU time on one thread, in turns with jda at Sparse4D's shape."
    page = report.page("Many shapes", "shapes", said, machine, [table])
    (arguments.output / "shapes.md").write_text(page)


if __name__ == "__main__":
    main()
