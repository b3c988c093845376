"""A process that runs peers on request: what a process does cannot disturb the others.

It reads one JSON request a line from stdin and answers with one JSON line:

    {"do": "set up", "peer": ..., "problem": {...}}      the names of its tasks
    {"do": "time", "task": ..., "repeats": ...}          seconds for one call
    {"do": "cpu time", "task": ..., "repeats": ...}      CPU seconds for one call
    {"do": "save", "task": ..., "path": ...}             writes samples of the results
    {"do": "scratch", "task": ...}                       bytes of memory at the peak,
                                                         besides arguments and results
    {"do": "temporaries", "peer": ..., "problem": {...}} bytes, by task
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import limits, peers, problems


def memory(field: str) -> int:
    """Bytes: VmRSS now, or VmHWM at the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(field)


class Worker:
    def __init__(self) -> None:
        self.peer: peers.Peer = {}

    def set_up(self, peer: str, problem: dict | None = None) -> list[str]:
        self.peer = {}
        gc.collect()
        if peer == "identity":
            self.peer = limits.identity_peer()
        else:
            self.peer = peers.make_peer(peer, make_inputs(problem))
        return list(self.peer)

    def time(self, task: str, repeats: int = 1) -> float:
        return self.spent(time.perf_counter, task, repeats)

    def cpu_time(self, task: str, repeats: int = 1) -> float:
        return self.spent(time.process_time, task, repeats)

    def spent(self, clock: Callable[[], float], task: str, repeats: int) -> float:
        function, begin = self.peer[task], clock()
        for _ in range(repeats):
            function()
        return (clock() - begin) / repeats

    def save(self, task: str, path: str) -> None:
        np.savez(path, *peers.sampled(self.peer[task]()))

    def scratch(self, task: str) -> int:
        self.peer[task]()
        gc.collect()
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        results: Any = self.peer[task]()
        peak = memory("VmHWM")
        return peak - before - sum(np.asarray(x).nbytes for x in results)

    def temporaries(self, peer: str, problem: dict) -> dict[str, int]:
        return peers.temporaries(peer, make_inputs(problem))


def make_inputs(fields: dict) -> problems.Inputs:
    maps = tuple(tuple(pair) for pair in fields["maps"])
    return problems.make(problems.Problem(**fields | {"maps": maps}))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        method = getattr(worker, request.pop("do").replace(" ", "_"))
        answers.write(json.dumps(method(**request)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
