"""Calls of the launcher in which two calls of the runtime fail.

A program of its own, run by test_ascend_failures.py: what a failed call does not free
is lost to its process. Arguments: the route, a folder for what it needs, and how many
pairs are tried, which is a number, a part of all of them as in `3/16`, counted from 0,
or `none` to print the calls of the runtime.
"""

import ctypes
import os
import random
import re
import sys
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.launcher.calls import OK, Call, Launcher, OnCard, Runtime
from tests.support import cases
from tests.support.emulated_books import FOLDER, EmulatedDriver

DRIVER = Path(str(FOLDER))
FAULT = 107000  # a code of the runtime
FREEING = {"aclrtFree", "aclrtFreeHost", "aclrtDestroyStream", "aclrtDestroyEvent"}

Failure = tuple[str, int]  # a function, and which of its calls fails


class Route(ABC):
    """Calls that are made again and again by a launcher."""

    one: Launcher

    def begin(self) -> None:
        """Lets all be as before the first call."""
        self.one.trim()

    @abstractmethod
    def forget_results(self) -> None:
        """Lets no result be right any more."""

    @abstractmethod
    def attempt(self) -> list[str]:
        """Makes the calls; their errors."""

    @abstractmethod
    def results(self) -> list[np.ndarray]: ...


class FromTheHost(Route):
    """Arrays on the host, in a thread whose current card is another one."""

    def __init__(
        self, launcher: Callable[[], Launcher], runtime: Runtime, calls: Sequence[Call]
    ) -> None:
        self.launcher, self.runtime, self.calls = launcher, runtime, calls
        self.one = launcher()

    def begin(self) -> None:
        super().begin()
        self.runtime("aclrtSetDevice", 1)

    def forget_results(self) -> None:
        for result in self.results():
            result[...] = np.nan

    def attempt(self) -> list[str]:
        errors = []
        for call in self.calls:
            if self.one.compute(call) != OK:
                errors.append(self.one.error())
        return errors

    def results(self) -> list[np.ndarray]:
        return [result for call in self.calls for result in call.results]


class FirstCalls(FromTheHost):
    """Of a process that compiles the kernels."""

    def __init__(
        self,
        launcher: Callable[[], Launcher],
        runtime: Runtime,
        calls: Sequence[Call],
        folder: Path,
    ) -> None:
        super().__init__(launcher, runtime, calls)
        self.folder = folder

    def begin(self) -> None:
        super().begin()
        self.one = self.launcher()
        os.environ["JDA_ASCEND_CACHE"] = tempfile.mkdtemp(dir=self.folder)


class OnTheCard(Route):
    """Arrays on the card, and streams that are busy when a call comes to them."""

    def __init__(
        self,
        launcher: Callable[[], Launcher],
        runtime: Runtime,
        calls: Sequence[Call],
        streams: int = 1,
        work: int = 0,
    ) -> None:
        self.one, self.runtime, self.calls = launcher(), runtime, calls
        self.arrays = [OnCard(runtime, call) for call in calls]
        self.streams = [runtime.stream() for _ in range(streams)]
        self.work = work

    def forget_results(self) -> None:
        """Every attempt does."""

    def attempt(self) -> list[str]:
        errors = []
        for i, (call, on_card) in enumerate(zip(self.calls, self.arrays, strict=True)):
            stream = self.streams[i % len(self.streams)]
            for value in (*range(self.work), 255):
                self.fill(on_card, value, stream)
            if self.one.enqueue(call, on_card, stream) != OK:
                errors.append(self.one.error())
        for stream in self.streams:
            # A failure may come here that is meant for the launcher, or two.
            synchronise = self.runtime.library.aclrtSynchronizeStream
            codes = (synchronise(ctypes.c_void_p(stream)) for _ in range(3))
            assert 0 in codes, "the stream is lost"
        return errors

    def fill(self, on_card: OnCard, value: int, stream: int) -> None:
        for pointer, array in zip(on_card.results, on_card.call.results, strict=True):
            size = ctypes.c_size_t(array.nbytes)
            to, on = ctypes.c_void_p(pointer), ctypes.c_void_p(stream)
            self.runtime.library.aclrtMemsetAsync(to, size, value, size, on)

    def results(self) -> list[np.ndarray]:
        return [result for on_card in self.arrays for result in on_card.fetch()]


def small() -> tuple[Call, ...]:
    inputs, judged = cases.case("one map"), cases.judged_case("one map")
    return Call(inputs), Call(inputs, judged.cotangent, deterministic=True)


def chunks() -> tuple[Call, ...]:
    shape = cases.Shape((((64, 64),),), batch=3, anchors=2, channels=256, groups=8)
    inputs = cases.make(shape)
    return (Call(inputs, cases.judge(inputs).cotangent),)


def many() -> tuple[Call, ...]:
    return tuple(Call(cases.case("one map")) for _ in range(18))


def route(name: str, folder: Path) -> Route:
    runtime = Runtime(DRIVER)

    def launcher() -> Launcher:
        return Launcher(DRIVER.parent / "libjda_ascend.so", folder, DRIVER)

    makers: dict[str, Callable[[], Route]] = {
        "first": lambda: FirstCalls(launcher, runtime, small(), folder),
        "host": lambda: FromTheHost(launcher, runtime, small()),
        "chunks": lambda: FromTheHost(launcher, runtime, chunks()),
        "card": lambda: OnTheCard(launcher, runtime, small()),
        "streams": lambda: OnTheCard(launcher, runtime, many(), streams=18, work=40),
    }
    return makers[name]()


class Rounds:
    """Two attempts and a trim, in which calls of the runtime fail."""

    def __init__(self, route: Route, books: EmulatedDriver) -> None:
        self.route, self.books = route, books

    def reset(self) -> None:
        self.books.reset()
        self.books.set(devices=2)

    def run(self, *failures: Failure) -> tuple[list[str], list[str]]:
        """The errors, and the names of all calls of the runtime."""
        self.reset()
        self.route.begin()
        self.reset()
        for function, n in failures:
            self.books.fail(function, n, FAULT)
        errors = self.route.attempt() + self.route.attempt()
        library = self.route.one.library
        if library.jda_ascend_trim() != OK:
            errors.append(self.route.one.error())
        return errors, self.books.called()

    def first_failures(self) -> list[Failure]:
        """Some of the calls of each function that is called when nothing fails."""
        errors, names = self.run()
        assert not errors
        return [
            (function, n)
            for function, count in Counter(names).items()
            for n in sorted(
                {1, 2, 3, count // 2, count - 1, count} & {*range(1, count + 1)}
            )
        ]

    def second_failures(self, first: Failure) -> list[Failure]:
        """The next call of each function that is called after the first failure."""
        names = self.run(first)[1]
        function, n = first
        position = [i for i, name in enumerate(names) if name == function][n - 1] + 1
        before = Counter(names[:position])
        after = dict.fromkeys(names[position:])
        return [(name, before[name] + 1) for name in after] + [
            ("aclGetRecentErrMsg", 1)
        ]

    def some_pairs(self, count: int) -> Iterator[tuple[Failure, Failure]]:
        """Always the same."""
        firsts, choice = self.first_failures(), random.Random(5)
        for _ in range(count):
            first = choice.choice(firsts)
            yield first, choice.choice(self.second_failures(first))

    def part_of_pairs(self, part: int, of: int) -> Iterator[tuple[Failure, Failure]]:
        for first in self.first_failures()[part::of]:
            for second in self.second_failures(first):
                yield first, second

    def check(self, pair: tuple[Failure, Failure], right: list[np.ndarray]) -> None:
        self.reset()
        self.route.begin()
        before = self.books.live()
        errors, _ = self.run(*pair)
        functions = {function for function, _ in pair}
        for error in errors:
            named = re.match(
                r"(acl\w+) failed(?: with code 107000|: it returned)", error
            )
            assert named and named[1] in functions, f"{pair}: {error}"
        assert not self.books.findings(), f"{pair}: {self.books.findings()}"
        self.reset()
        self.route.forget_results()
        errors = self.route.attempt()
        assert not errors, f"after {pair}: {errors}"
        results = self.route.results()
        assert all(map(np.array_equal, results, right)), f"after {pair}: wrong results"
        self.route.one.trim()
        assert self.books.live() == before or functions & FREEING, (
            f"{pair}: lost memory"
        )
        assert not self.books.findings(), f"after {pair}: {self.books.findings()}"


def try_pairs(name: str, folder: Path, some: str) -> int:
    rounds = Rounds(route(name, folder), EmulatedDriver())
    rounds.run()
    right = [np.copy(result) for result in rounds.route.results()]
    numbers = [int(number) for number in some.split("/")]
    pairs = rounds.some_pairs if len(numbers) == 1 else rounds.part_of_pairs
    tried = 0
    for pair in pairs(*numbers):
        rounds.check(pair, right)
        tried += 1
    return tried


def called(name: str, folder: Path) -> list[str]:
    """What is called when nothing fails."""
    return sorted(set(Rounds(route(name, folder), EmulatedDriver()).run()[1]))


if __name__ == "__main__":
    _, name, folder, some = sys.argv
    if some == "none":
        print(*called(name, Path(folder)))
    else:
        print(try_pairs(name, Path(folder), some))
