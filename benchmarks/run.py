"""Measures jda against its peers and against the memory system of this machine.

    python -m benchmarks.run            everything: about half an hour
    python -m benchmarks.run --quick    cases c and d in less than a minute
    python -m benchmarks.run --cases ac --no-growth --only jda
                                        jda alone: precisions and derivatives

All numbers of a case come from one interleaved run of several processes. On a machine
that does other work, trust ratios and repeat; times are too long then.
"""

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import jda
from benchmarks import report
from benchmarks.problems import (
    GROWTH,
    PROBLEMS,
    TINY,
    TITLES,
    Problem,
)
from benchmarks.report import BFLOAT16, BOTH, FLOAT16, ONE, OURS, REUSED
from benchmarks.timing import ONE_THREAD, REUSED_PAGES, Contest, Process

TASKS = ["forward", BOTH, "backward", "features", "tangent"]
MOST_MEMORY = 0.25  # of the machine, for the temporaries of one peer: all are in memory


def peers_of(
    problem: Problem, quick: bool, only: str
) -> dict[str, tuple[str, dict, list[str]]]:
    """Name: peer, environment and tasks."""
    found = {
        OURS: ("jda", {}, TASKS),
        REUSED: ("jda", REUSED_PAGES, TASKS),
        ONE: ("jda", REUSED_PAGES | ONE_THREAD, TASKS),
        BFLOAT16: ("jda, bfloat16", REUSED_PAGES, TASKS),
        FLOAT16: ("jda, float16", REUSED_PAGES, TASKS),
        "limits": ("limits", {}, limit_tasks()),
        "reference": ("reference", {}, ["forward", BOTH, "tangent"]),
        "jda.torch": ("jda.torch", {}, ["forward", BOTH]),
        "torch": ("torch", {}, ["forward", BOTH]),
        "torch, reused pages": ("torch", REUSED_PAGES, [BOTH]),
        "naive jnp": ("naive jnp", {}, ["forward", BOTH]),
    }
    if problem.batch * problem.anchors * problem.points > 20_000:
        del found["torch, reused pages"]  # it would keep many GB
    if quick:
        del found["torch, reused pages"]
    return {name: peer for name, peer in found.items() if name.startswith(only)}


def limit_tasks() -> list[str]:
    orders = ("anchor order", "item order", "each row once")
    gathers = [f"gather {order}, {n}" for order in orders for n in (1, 2)]
    return [*gathers, *(f"scatter anchor order, {n}" for n in (1, 2))]


def temporaries(problem: Problem) -> dict[str, dict[str, int]]:
    """Bytes that XLA needs besides arguments and results, by peer and task."""
    process = Process("", None)
    found = {
        peer: process.ask("temporaries", peer=peer, problem=asdict(problem))
        for peer in ("jda", "reference", "naive jnp")
    }
    process.close()
    return found


def affordable(
    name: str, tasks: list[str], needs: dict[str, dict[str, int]], case: str
) -> list[str]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kept = []
    for task in tasks:
        need = needs.get(name, {}).get(task, 0)
        if need > MOST_MEMORY * memory:
            print(
                f"case {case}: {name}, {task} left out: XLA wants {need / 1e9:.1f} GB "
                f"of temporaries, the machine has {memory / 1e9:.0f} GB"
            )
        else:
            kept.append(task)
    return kept


def check_agreement(
    processes: dict[str, Process], tasks: dict[str, list[str]]
) -> float:
    """The largest error of any float32 peer relative to jda's largest element."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for task in ("forward", BOTH):
            found = {}
            for name, process in processes.items():
                if task in tasks[name] and name != "limits":
                    path = str(Path(folder) / "results.npz")
                    process.ask("save", task=task, path=path)
                    with np.load(path) as saved:
                        found[name] = [saved[key] for key in saved.files]
            for name, results in found.items():
                for ours, theirs in zip(found[OURS], results, strict=True):
                    scale = np.abs(ours).max()
                    error = float(np.abs(ours - theirs).max() / scale)
                    half = name in (BFLOAT16, FLOAT16)
                    worst = worst if half else max(worst, error)
                    if not error < (1e-2 if half else 1e-4):
                        raise SystemExit(f"{name} differs from jda in {task}: {error}")
    return worst


def measure_case(
    case: str, rounds: int, quick: bool, only: str
) -> tuple[Contest, dict[str, Any]]:
    problem = PROBLEMS[case]
    needs = temporaries(problem)
    contest = Contest(patience=5, budget=1) if quick else Contest()
    processes, tasks = {}, {}
    for name, (peer, env, wanted) in peers_of(problem, quick, only).items():
        tasks[name] = affordable(name, wanted, needs, case)
        if tasks[name]:
            processes[name] = Process(peer, problem, **env)
    for name, process in processes.items():
        contest.enter(name, process, tasks[name])
    error = check_agreement(processes, tasks)
    contest.run(rounds)
    for process in processes.values():
        process.close()
    report.case_table(case, contest.medians()).print()
    if contest.noisy_rounds:
        print(f"({contest.noisy_rounds} rounds beside other load: times are too long)")
    print(f"largest relative difference between peers: {error:.1e}")
    return contest, {"temporaries": needs, "difference": error}


def memory_goals(case: str, needs: dict[str, Any]) -> list[report.Result]:
    """What XLA sets aside; what the kernels need is told by ``benchmarks.shapes``."""
    ours = needs["jda"]["forward"] + needs["jda"]["backward"]
    what = f"{TITLES[case]}: XLA's temporaries, bytes, forward and backward"
    found = [report.goal(what, ours, 0)]
    for task in ("forward", BOTH) if case == "a" else ():
        gain = needs["naive jnp"][task] / max(1, needs["reference"][task])
        what = f"{TITLES[case]}: memory, naive jnp / reference, {task}"
        found.append(report.goal(what, gain, 10, at_least=True))
    return found


def measure_tiny(rounds: int) -> tuple[Contest, list[dict[str, Any]]]:
    contest = Contest(patience=5)
    processes = {
        "identity": Process("identity", None),
        "jda": Process("jda", TINY),
        "reference": Process("reference", TINY),
    }
    for name, process in processes.items():
        contest.enter(name, process, ["forward", BOTH])
    contest.run(rounds)
    for process in processes.values():
        process.close()
    rows = [(name, 1e6 * time) for name, time in contest.medians().items()]
    report.Table("tiny call", ("", "us"), rows).print()
    ours, identity = contest.time("jda: forward"), contest.time("identity: forward")
    assert ours and identity
    goal = report.goal(
        "tiny call, us more than an identity FFI call",
        1e6 * (ours - identity),
        5,
    )
    return contest, [goal]


def measure_growth(rounds: int) -> dict[str, list[dict[str, float]]]:
    found = {}
    for variable, problems in GROWTH.items():
        contest = Contest()
        processes = [Process("jda", problem, **REUSED_PAGES) for problem in problems]
        values = [getattr(problem, variable) for problem in problems]
        for value, process in zip(values, processes, strict=True):
            contest.enter(f"{value}", process, ["forward", "backward"])
        contest.run(rounds)
        for process in processes:
            process.close()
        found[variable] = [
            {
                "value": value,
                "forward": contest.time(f"{value}: forward") or 0.0,
                "backward": contest.time(f"{value}: backward") or 0.0,
            }
            for value in values
        ]
        report.growth_table(variable, found[variable]).print()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", help="letters of a to e; default: all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="c and d, few rounds")
    parser.add_argument("--only", default="", help="peers whose names begin so")
    parser.add_argument("--no-growth", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    options = parser.parse_args()
    cases = options.cases or ("cd" if options.quick else "abcde")
    rounds = min(options.rounds, 5) if options.quick else options.rounds

    if not jda.implementations()["cpu"].available:
        raise SystemExit(f"no kernels: {jda.implementations()['cpu'].detail}")
    results: dict[str, Any] = {
        "machine": report.machine(),
        "cases": {},
        "memory": {},
    }
    print(json.dumps(results["machine"], indent=2))
    contest, goals = measure_tiny(rounds)
    results["tiny"] = contest.results()
    for case in cases:
        contest, memory = measure_case(case, rounds, options.quick, options.only)
        results["cases"][case] = contest.results()
        results["memory"][case] = memory
        for of_case in report.GOALS:
            goals += of_case.goals(case, contest)
        goals += memory_goals(case, memory["temporaries"])
    skip_growth = options.quick or options.no_growth
    results["growth"] = {} if skip_growth else measure_growth(rounds)
    results["goals"] = goals
    report.goal_table(goals).print()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(results, indent=1))
    (options.output / "results.md").write_text(report.markdown(results))
    report.plot(results, options.output / "results.png")
    print(f"\nwrote results.json, results.md and results.png in {options.output}")


if __name__ == "__main__":
    main()
