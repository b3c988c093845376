"""What is to be reached, and the tables and the picture of what was."""

import os
import platform
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from tabulate import tabulate

import jda
from benchmarks.problems import TITLES
from benchmarks.timing import Contest

OURS, REUSED, ONE = "jda", "jda, reused pages", "jda, reused pages, 1 thread"
BFLOAT16, FLOAT16 = "jda, reused pages, bfloat16", "jda, reused pages, float16"
BOTH = "forward+backward"
Result = dict[str, Any]  # goal, target, measured, reached


def goal(what: str, measured: float, target: float, at_least: bool = False) -> Result:
    """A number that should be at most, or at least, a target, and whether it is."""
    reached = measured >= target if at_least else measured <= target
    return {
        "goal": what,
        "target": f"{'>=' if at_least else '<='} {target:g}",
        "measured": measured,
        "reached": reached,
    }


@dataclass(frozen=True)
class Ratio:
    """Two times whose ratio has a target in some cases."""

    what: str
    one: str
    other: str
    targets: dict[str, float]  # by case
    at_least: bool = False

    def goals(self, case: str, contest: Contest) -> list[Result]:
        measured = contest.ratio(self.one, self.other)
        if case not in self.targets or measured is None:
            return []
        what = f"{TITLES[case]}: {self.what}"
        return [goal(what, measured, self.targets[case], self.at_least)]


@dataclass(frozen=True)
class Scaling:
    """How much faster two threads are than one, against the same of a limit."""

    what: str
    one: str
    two: str
    limit: str  # without its number of threads
    target: float
    cases: str

    def goals(self, case: str, contest: Contest) -> list[Result]:
        gain = contest.ratio(self.one, self.two)
        of_limit = contest.ratio(f"{self.limit}, 1", f"{self.limit}, 2")
        if case not in self.cases or gain is None or of_limit is None:
            return []
        what = f"{TITLES[case]}: {self.what}"
        return [goal(what, gain / of_limit, self.target, at_least=True)]


GOALS: tuple[Ratio | Scaling, ...] = (
    Ratio(
        "forward / gather of each row once (2 threads)",
        f"{REUSED}: forward",
        "limits: gather each row once, 2",
        {"a": 1.5},
    ),
    Ratio(
        "forward / gather in anchor order (1 thread)",
        f"{ONE}: forward",
        "limits: gather anchor order, 1",
        {"a": 0.8, "e": 0.8, "c": 1.0},
    ),
    Ratio(
        "backward / scatter of the same rows (1 thread)",
        f"{ONE}: backward",
        "limits: scatter anchor order, 1",
        {"a": 1.2, "c": 1.2, "e": 1.2},
    ),
    Ratio(
        "backward / forward, reused pages",
        f"{REUSED}: backward",
        f"{REUSED}: forward",
        dict.fromkeys("abce", 2.5),
    ),
    Ratio(
        "backward / forward, stock allocator",
        f"{OURS}: backward",
        f"{OURS}: forward",
        {"a": 4.0},
    ),
    Ratio(
        "forward: PyTorch / jda",
        "torch: forward",
        f"{OURS}: forward",
        {"a": 100, "b": 100, "e": 100, "c": 30, "d": 20},
        at_least=True,
    ),
    Ratio(
        f"{BOTH}: PyTorch / jda, stock allocator",
        f"torch: {BOTH}",
        f"{OURS}: {BOTH}",
        {"a": 40, "c": 30, "d": 10},
        at_least=True,
    ),
    Ratio(
        f"{BOTH}: PyTorch / jda, both with reused pages",
        f"torch, reused pages: {BOTH}",
        f"{REUSED}: {BOTH}",
        {"a": 90, "c": 45, "d": 10},
        at_least=True,
    ),
    Ratio(
        "forward: naive jnp / jda",
        "naive jnp: forward",
        f"{OURS}: forward",
        {"a": 200, "c": 40},
        at_least=True,
    ),
    Ratio(
        f"{BOTH}: naive jnp / jda",
        f"naive jnp: {BOTH}",
        f"{OURS}: {BOTH}",
        {"a": 100, "c": 35},
        at_least=True,
    ),
    Ratio(
        "forward: naive jnp / reference",
        "naive jnp: forward",
        "reference: forward",
        {"a": 3},
        at_least=True,
    ),
    *(
        Ratio(
            f"{task}: float32 / {name}",
            f"{REUSED}: {task}",
            f"{peer}: {task}",
            {"a": 1.25 if task == "forward" else 1.0, "c": 1.0},
            at_least=True,
        )
        for task in ("forward", "backward")
        for name, peer in (("bfloat16", BFLOAT16), ("float16", FLOAT16))
    ),
    Ratio(
        "tangent / forward",
        f"{REUSED}: tangent",
        f"{REUSED}: forward",
        {"a": 2, "c": 2},
    ),
    Scaling(
        "forward: gain of a second thread / that of a gather",
        f"{ONE}: forward",
        f"{REUSED}: forward",
        "limits: gather item order",
        0.95,
        "abe",
    ),
    Scaling(
        "backward: gain of a second thread / that of a scatter",
        f"{ONE}: backward",
        f"{REUSED}: backward",
        "limits: scatter anchor order",
        0.95,
        "abe",
    ),
)


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers under a title."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    digits: str = ".3f"

    def text(self, style: str) -> str:
        return tabulate(self.rows, self.header, tablefmt=style, floatfmt=self.digits)

    def print(self) -> None:
        print(f"\n{self.title}\n{self.text('simple')}", flush=True)

    def markdown(self) -> str:
        return f"## {self.title}\n\n{self.text('github')}"


def case_table(case: str, medians: dict[str, float]) -> Table:
    base = medians.get(f"{OURS}: forward", 1.0)
    rows = [(name, 1e3 * time, time / base) for name, time in medians.items()]
    return Table(TITLES[case], ("", "ms", "/ jda forward"), rows)


def growth_table(variable: str, points: list[dict[str, float]]) -> Table:
    rows = [(p["value"], 1e3 * p["forward"], 1e3 * p["backward"]) for p in points]
    title = f"{TITLES['a']}, by {variable}, reused pages"
    return Table(title, (variable, "forward ms", "backward ms"), rows, "g")


def goal_table(goals: Iterable[Result]) -> Table:
    rows = [
        (
            goal["goal"],
            goal["target"],
            goal["measured"],
            "reached" if goal["reached"] else "not reached",
        )
        for goal in goals
    ]
    return Table("Goals", ("", "target", "measured", ""), rows, ".3g")


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "jda": jda.__version__,
        "instructions": jda.implementations()["cpu"].detail.rpartition(", ")[2],
    }


def page(
    title: str, module: str, said: str, machine: dict[str, Any], tables: list[Table]
) -> str:
    """Tables as a page that says what wrote it, and where it was measured."""
    parts = [
        f"# {title}",
        f"Written by `python -m benchmarks.{module}`. {said}",
        f"{machine['processor']}, {machine['cores']} cores, "
        f"{machine['instructions']}, jax {machine['jax']}.",
        *(table.markdown() for table in tables),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(results: dict[str, Any]) -> str:
    """All tables of a run of all cases."""
    tables = [
        case_table(case, {name: times["median"] for name, times in of.items()})
        for case, of in results["cases"].items()
    ]
    tables += [growth_table(*item) for item in results["growth"].items()]
    tables.append(goal_table(results["goals"]))
    said = (
        "Times are medians in milliseconds; all of one shape come from one "
        "interleaved run."
    )
    return page("Results", "run", said, results["machine"], tables)


PEERS = (OURS, REUSED, "reference", "torch", "naive jnp")
COLOURS = dict(
    zip(PEERS, ("#0b6e4f", "#6bbf59", "#3d5a80", "#ee6c4d", "#9a9a9a"), strict=True)
)


def plot(results: dict[str, Any], path: Path) -> None:
    """Times of every case beside each other, and how they grow."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases, growth = results["cases"], results["growth"]
    columns = max(2, len(growth))
    rows = 2 if growth else 1
    size = (max(10, 3 * columns), 4.5 * rows)
    figure = plt.figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(rows, 2 * columns)
    for side, task in enumerate(("forward", BOTH)):
        axes = figure.add_subplot(grid[0, side * columns : (side + 1) * columns])
        plot_cases(axes, cases, task)
    for i, (variable, points) in enumerate(growth.items()):
        axes = figure.add_subplot(grid[1, 2 * i : 2 * i + 2])
        plot_growth(axes, variable, points)
    figure.savefig(path, dpi=140)


def plot_cases(axes: Any, cases: dict[str, Any], task: str) -> None:
    for i, peer in enumerate(PEERS):
        bars = [
            (j + (i - 2) * 0.16, 1e3 * times[f"{peer}: {task}"]["median"])
            for j, times in enumerate(cases.values())
            if f"{peer}: {task}" in times
        ]
        if bars:
            places, heights = zip(*bars, strict=True)
            axes.bar(places, heights, 0.15, label=peer, color=COLOURS[peer])
    if task == "forward":
        plot_limits(axes, cases)
    axes.set_yscale("log")
    names = [textwrap.fill(TITLES[case], 16) for case in cases]
    axes.set_xticks(range(len(cases)), names, fontsize=8)
    axes.set(title=task, ylabel="ms per call, 2 threads")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=7)


def plot_limits(axes: Any, cases: dict[str, Any]) -> None:
    for j, times in enumerate(cases.values()):
        limit = times.get("limits: gather anchor order, 2")
        if limit:
            label = None if j else "bare gather of the same rows"
            line = {"color": "black", "linewidth": 1.2, "linestyle": ":"}
            axes.hlines(1e3 * limit["median"], j - 0.42, j + 0.42, label=label, **line)


def plot_growth(axes: Any, variable: str, points: list[dict[str, float]]) -> None:
    x = [point["value"] for point in points]
    for task, style in (("forward", "o-"), ("backward", "s--")):
        times = [1e3 * point[task] for point in points]
        axes.plot(x, times, style, color=COLOURS[OURS], label=task)
    axes.set(title=f"Sparse4D v3 by {variable}", xscale="log", yscale="log")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.xaxis.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
