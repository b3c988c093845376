"""What is to be reached, and the tables and the picture of what was."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.problems import TITLES
from benchmarks.timing import Contest

OURS, REUSED, ONE = "jda", "jda, reused pages", "jda, reused pages, 1 thread"
BFLOAT16, FLOAT16 = "jda, reused pages, bfloat16", "jda, reused pages, float16"


@dataclass(frozen=True)
class Goal:
    """A number that should be at most, or at least, a target."""

    what: str
    case: str
    target: float
    at_least: bool
    measure: Callable[[Contest], float | None]

    def line(self, contest: Contest) -> dict[str, Any] | None:
        measured = self.measure(contest)
        if measured is None:
            return None
        reached = measured >= self.target if self.at_least else measured <= self.target
        return {
            "goal": f"{self.what}, case {self.case}",
            "target": f"{'>=' if self.at_least else '<='} {self.target:g}",
            "measured": measured,
            "reached": reached,
        }


def ratio(one: str, other: str) -> Callable[[Contest], float | None]:
    return lambda contest: contest.ratio(one, other)


def ratio_goals(
    what: str, one: str, other: str, at_least: bool, **targets: float
) -> list[Goal]:
    return [
        Goal(what, case, target, at_least, ratio(one, other))
        for case, target in targets.items()
    ]


BOTH = "forward+backward"
GOALS = [
    *ratio_goals(
        "forward / gather in anchor order (1 thread)",
        f"{ONE}: forward",
        "limits: gather anchor order, 1",
        False,
        a=0.8,
        e=0.8,
        c=1.0,
    ),
    *ratio_goals(
        "gather in item order / forward (1 thread)",
        "limits: gather item order, 1",
        f"{ONE}: forward",
        True,
        a=0.8,
        b=0.8,
        e=0.8,
        c=0.4,
    ),
    *ratio_goals(
        "forward: torch / jda",
        "torch: forward",
        f"{OURS}: forward",
        True,
        a=100,
        b=100,
        e=100,
        c=30,
        d=20,
    ),
    *ratio_goals(
        "forward: naive jnp / jda",
        "naive jnp: forward",
        f"{OURS}: forward",
        True,
        a=200,
        c=40,
    ),
    *ratio_goals(
        "forward+backward: torch / jda, both with reused pages",
        f"torch, reused pages: {BOTH}",
        f"{REUSED}: {BOTH}",
        True,
        a=90,
        c=45,
        d=10,
    ),
    *ratio_goals(
        "forward+backward: torch / jda with reused pages",
        f"torch: {BOTH}",
        f"{REUSED}: {BOTH}",
        True,
        a=90,
        c=45,
        d=10,
    ),
    *ratio_goals(
        "forward+backward: torch / jda, stock allocator",
        f"torch: {BOTH}",
        f"{OURS}: {BOTH}",
        True,
        a=40,
    ),
    *ratio_goals(
        "forward+backward: naive jnp / jda with reused pages",
        f"naive jnp: {BOTH}",
        f"{REUSED}: {BOTH}",
        True,
        a=110,
        c=35,
    ),
    *ratio_goals(
        "backward / forward",
        f"{REUSED}: backward",
        f"{REUSED}: forward",
        False,
        a=2.5,
        b=2.5,
        c=2.5,
        e=2.5,
    ),
    *ratio_goals(
        "gradient of the features alone / forward",
        f"{REUSED}: features",
        f"{REUSED}: forward",
        False,
        a=1.4,
        b=1.4,
        c=1.4,
        e=1.4,
    ),
    *ratio_goals(
        "backward / scatter of the same rows (1 thread)",
        f"{ONE}: backward",
        "limits: scatter anchor order, 1",
        False,
        a=1.15,
        b=1.15,
        c=1.15,
        e=1.15,
    ),
    *ratio_goals(
        "two threads against one, forward",
        f"{ONE}: forward",
        f"{REUSED}: forward",
        True,
        a=1.9,
        e=1.9,
        b=1.75,
        c=1.6,
    ),
    *ratio_goals(
        "two threads against one, backward",
        f"{ONE}: backward",
        f"{REUSED}: backward",
        True,
        a=1.9,
        e=1.9,
        b=1.75,
        c=1.6,
    ),
    *[
        goal
        for task in ("forward", "backward", "tangent")
        for name, peer in (("bfloat16", BFLOAT16), ("float16", FLOAT16))
        for goal in ratio_goals(
            f"{task}: float32 / {name}",
            f"{REUSED}: {task}",
            f"{peer}: {task}",
            True,
            a=1,
            c=1,
        )
    ],
    *ratio_goals(
        "tangent / forward",
        f"{REUSED}: tangent",
        f"{REUSED}: forward",
        False,
        a=2,
        c=2,
    ),
    *ratio_goals(
        "tangent: reference / jda",
        "reference: tangent",
        f"{OURS}: tangent",
        True,
        a=10,
        c=10,
    ),
    *ratio_goals(
        "reference: naive jnp / reference, forward",
        "naive jnp: forward",
        "reference: forward",
        True,
        a=3,
    ),
    *ratio_goals(
        "reference: naive jnp / reference, forward+backward",
        f"naive jnp: {BOTH}",
        f"reference: {BOTH}",
        True,
        a=3,
    ),
]


def goal(what: str, measured: float, target: float, at_least: bool) -> dict[str, Any]:
    """A goal that is not a ratio of times."""
    return Goal(what, "", target, at_least, lambda _: measured).line(Contest()) | {
        "goal": what
    }


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    print(f"\n{title}")
    for row in (header, ["-" * width for width in widths], *rows):
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *rest]), flush=True)


def print_case(case: str, contest: Contest) -> None:
    base = contest.time(f"{OURS}: forward") or 1.0
    rows = [
        [name, f"{1e3 * c.time:.3f}", f"{c.time / base:.2f}", str(len(c.times))]
        for name, c in contest.contestants.items()
    ]
    print_table(
        f"case {case}: {TITLES[case]}", ["", "ms", "/ jda forward", "rounds"], rows
    )
    if contest.noisy_rounds:
        print(f"({contest.noisy_rounds} rounds beside other load: times are too long)")


def print_goals(goals: list[dict[str, Any]]) -> None:
    rows = [
        [
            goal["goal"],
            goal["target"],
            f"{goal['measured']:.3g}",
            "reached" if goal["reached"] else "NOT REACHED",
        ]
        for goal in goals
    ]
    print_table("goals", ["", "target", "measured", ""], rows)


def markdown(results: dict[str, Any]) -> str:
    """All tables as a page."""
    machine = results["machine"]
    page = [
        "# Results",
        "",
        "Written by `benchmarks/run.py`. Times are medians in milliseconds; all of one "
        "case come from one interleaved run.",
        "",
        f"{machine['processor']}, {machine['cores']} cores, "
        f"{machine['instructions']}, jax {machine['jax']}.",
    ]
    for case, contestants in results["cases"].items():
        page += ["", f"## Case {case}: {TITLES[case]}", ""]
        page += ["| | ms | / jda forward |", "| --- | ---: | ---: |"]
        base = contestants[f"{OURS}: forward"]["median"]
        for name, times in contestants.items():
            time = times["median"]
            page.append(f"| {name} | {1e3 * time:.3f} | {time / base:.2f} |")
    for variable, points in results["growth"].items():
        page += ["", f"## Case a by {variable}, reused pages", ""]
        page += [f"| {variable} | forward ms | backward ms |", "| ---: | ---: | ---: |"]
        for p in points:
            times = f"{1e3 * p['forward']:.2f} | {1e3 * p['backward']:.2f}"
            page.append(f"| {p['value']:g} | {times} |")
    page += [
        "",
        "## Goals",
        "",
        "| | target | measured | |",
        "| --- | ---: | ---: | --- |",
    ]
    for g in results["goals"]:
        verdict = "reached" if g["reached"] else "**not reached**"
        page.append(
            f"| {g['goal']} | {g['target']} | {g['measured']:.3g} | {verdict} |"
        )
    return "\n".join(page) + "\n"


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
    axes.set_xticks(range(len(cases)), [f"case {x}" for x in cases])
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
    axes.set(title=f"case a by {variable}", xscale="log", yscale="log")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.xaxis.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
