"""Delete one synchronisation call of the kernels at a time: is it missed?

All mutants are one library: a copy of the kernels in which every SetFlag, WaitFlag and
PipeBarrier asks a variable whether it is the one that is left out. A mutant is caught
by a finding, a wrong result, a deadlock or a crash.
"""

import ctypes
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cases
import emulated
import limits
import numpy as np
import oracle

CALL = re.compile(r"(?:SetFlag|WaitFlag|PipeBarrier)<[^;]*;")
NAMES = (
    "rig",
    "rig clustered",
    "page channels",
    "odd channels",
    "many channels",
    "wide groups",
    "300 points and a batch",
    "300 points at one place",
    "many anchors",
    "all invisible",
    "no points",
)


def mutate(folder: Path) -> list[str]:
    """Writes the kernels with a switch for every call; returns where the calls are."""
    sites: list[str] = []

    def switch(match: re.Match[str]) -> str:
        sites.append(f"{name}:{number}: {match.group()}")
        return f"if (jda_mutant != {len(sites) - 1}) {match.group()}"

    for source in sorted(p for p in emulated.KERNELS.iterdir() if p.is_file()):
        name, lines = source.name, []
        for number, line in enumerate(source.read_text().splitlines(), 1):  # noqa: B007
            code = line.split("//")[0]
            lines.append(CALL.sub(switch, code))
        text = "\n".join(lines) + "\n"
        if source.name == "tiling.h":
            text = text.replace("namespace jda_ascend {", "extern int jda_mutant;\n"
                                "namespace jda_ascend {", 1)  # fmt: skip
        (folder / source.name).write_text(text)
    return sites


def build(folder: Path) -> tuple[ctypes.CDLL, list[str]]:
    kernels = folder / "ascend"
    kernels.mkdir()
    sites = mutate(kernels)
    variable = folder / "mutant.cc"
    variable.write_text("int jda_mutant = -1;\n")
    shutil.copy(emulated.HERE / "driver.cc", kernels)
    sources = [
        *emulated.emulator_sources(),
        *emulated.kernel_sources(kernels),
        kernels / "driver.cc",
        variable,
    ]
    objects = emulated.compile_objects(sources, folder, include=[kernels])
    return emulated.link(objects, folder / "mutants.so"), sites


def is_right(library: ctypes.CDLL) -> bool:
    for name in NAMES:
        inputs, judged = cases.case(name), cases.judged_case(name)
        for options in ({"cores": 1}, {"cores": 48}, {"cores": 3, "seed": 5}):
            run = emulated.emulate(library, inputs, **options)
            if run.findings:
                return False
            oracle.assert_within(run.results[0], judged.out, judged.out_scale)
            run = emulated.emulate(library, inputs, judged.cotangent, **options)
            if run.findings:
                return False
            cases.assert_gradients_within(run.results, judged)
        if not is_deterministic(library, inputs, judged):
            return False
    inputs, judged = limits.case("5000 pairs")
    run = emulated.emulate(library, inputs, cores=2)
    if run.findings:
        return False
    oracle.assert_within(run.results[0], judged.out, judged.out_scale)
    return True


def is_deterministic(library, inputs, judged) -> bool:
    gradients = []
    for seed in (0, 1, 2):
        options = {"cores": 4, "deterministic": 1, "seed": seed}
        run = emulated.emulate(library, inputs, judged.cotangent, **options)
        if run.findings:
            return False
        gradients.append(run.results[0])
    return all(np.array_equal(gradients[0], other) for other in gradients[1:])


def survives(library: ctypes.CDLL, mutant: int) -> bool:
    """In a process of its own: a mutant may crash or hang."""
    child = os.fork()
    if child == 0:
        import signal

        signal.alarm(60)
        ctypes.c_int.in_dll(library, "jda_mutant").value = mutant
        try:
            os._exit(0 if is_right(library) else 1)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def survivors() -> tuple[list[str], int]:
    with tempfile.TemporaryDirectory() as folder:
        library, sites = build(Path(folder))
        if not survives(library, -1):
            raise RuntimeError("the kernels fail as they are")
        return [s for i, s in enumerate(sites) if survives(library, i)], len(sites)


if __name__ == "__main__":
    left, count = survivors()
    print(f"{count} mutants, {len(left)} survive")
    print("\n".join(left))
    sys.exit(1 if left else 0)
