"""The Ascend C kernels, compiled for the host and run under the emulator."""

import ctypes
import fcntl
import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "csrc" / "ascend"
EMULATOR = ROOT / "csrc" / "emulator"
HERE = ROOT / "tests" / "ascend"
FLAGS = ("-std=c++20", "-O2", "-fPIC", "-w")


class Request(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "rows", "channels", "anchors")),
        *((name, ctypes.c_int64) for name in ("points", "cameras", "scales", "groups")),
        *((name, ctypes.c_int64) for name in ("y_axis", "cores", "automatic_sync")),
        *((name, ctypes.c_int64) for name in ("deterministic", "naive")),
        ("seed", ctypes.c_uint64),
        ("dma_latency", ctypes.c_double),
        ("inputs", ctypes.c_void_p * 6),
        ("outputs", ctypes.c_void_p * 3),
        ("trace", ctypes.c_char_p),
    )


class Answer(ctypes.Structure):
    _fields_ = (
        ("findings", ctypes.c_int64),
        ("microseconds", ctypes.c_double),
        ("slowest", ctypes.c_double),
        ("mean", ctypes.c_double),
        ("bytes_in", ctypes.c_double),
        ("bytes_out", ctypes.c_double),
        ("busy", ctypes.c_double * 4),
        ("instructions", ctypes.c_double * 4),
        ("text", ctypes.c_char * 16384),
    )


@dataclass(frozen=True)
class Run:
    """Results, what the emulator found, and its model of the time."""

    results: tuple[np.ndarray | None, ...]
    answer: Answer

    @property
    def findings(self) -> str:
        count, text = self.answer.findings, self.answer.text.decode(errors="replace")
        return f"{count} findings\n{text}" if count else ""


def compile_objects(
    sources: Sequence[Path], folder: Path, *flags: str, include: Sequence[Path] = ()
) -> list[Path]:
    """One object per source, two compilers at a time."""
    folders = [*include, KERNELS, EMULATOR]
    objects, jobs = [], []
    for source in sources:
        target = folder / f"{source.parent.name}-{source.stem}.o"
        command = ["g++", *FLAGS, *flags, *(f"-I{f}" for f in folders)]
        jobs.append((source, [*command, "-c", str(source), "-o", str(target)]))
        objects.append(target)
    running: list[subprocess.Popen[bytes]] = []
    for _, command in jobs:
        if len(running) == 2 and running.pop(0).wait():
            raise RuntimeError("a kernel or the emulator does not compile")
        running.append(subprocess.Popen(command))
    if any([job.wait() for job in running]):
        raise RuntimeError("a kernel or the emulator does not compile")
    return objects


def link(objects: Sequence[Path], target: Path) -> ctypes.CDLL:
    command = ["g++", "-shared", *map(str, objects), "-o", str(target), "-lpthread"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


def emulator_sources() -> list[Path]:
    return sorted(EMULATOR.glob("*.cc"))


def kernel_sources(folder: Path = KERNELS) -> list[Path]:
    return sorted(folder.glob("*.cpp"))


def build(folder: Path, *flags: str, extra: Sequence[Path] = ()) -> ctypes.CDLL:
    sources = [*emulator_sources(), *kernel_sources(), HERE / "driver.cc", *extra]
    return link(compile_objects(sources, folder, *flags), folder / "kernels.so")


def request_of(inputs: Sequence[np.ndarray], order: str, **options: object) -> Request:
    features, spatial_shape, _, locations, weight = inputs
    batch, anchors, points, cameras, _ = locations.shape
    fields = {"cores": 48, "automatic_sync": 0, "dma_latency": 500.0} | options
    return Request(
        batch=batch,
        rows=features.shape[1],
        channels=features.shape[2],
        anchors=anchors,
        points=points,
        cameras=cameras,
        scales=spatial_shape.shape[1],
        groups=weight.shape[-1],
        y_axis={"yx": 0, "xy": 1}[order],
        **fields,
    )


def emulate(
    library: ctypes.CDLL,
    inputs: Sequence[np.ndarray],
    cotangent: np.ndarray | None = None,
    order: str = "yx",
    wants: tuple[bool, bool, bool] = (True, True, True),
    **options: object,
) -> Run:
    """The forward kernel, or the backward kernel if there is a cotangent."""
    request = request_of(inputs, order, **options)
    arrays = [np.ascontiguousarray(array) for array in inputs]
    features, _, _, locations, weight = arrays
    if cotangent is None:
        shape = (*weight.shape[:2], features.shape[2])
        results = [np.empty(shape, np.float32), None, None]
    else:
        arrays.append(np.ascontiguousarray(cotangent))
        like = (features, locations, weight)
        results = [
            np.empty_like(a) if wanted else None
            for a, wanted in zip(like, wants, strict=True)
        ]
    for i, array in enumerate(arrays):
        request.inputs[i] = array.ctypes.data
    for i, array in enumerate(results):
        request.outputs[i] = None if array is None else array.ctypes.data
    sizes = ctypes.c_int64 * 6
    answer = Answer()
    failed = library.jda_emulate(
        ctypes.byref(request),
        sizes(*(array.nbytes for array in arrays)),
        sizes(*(0 if array is None else array.nbytes for array in results)),
        int(cotangent is not None),
        ctypes.byref(answer),
    )
    if failed:
        raise ValueError(answer.text.decode())
    return Run(tuple(results), answer)


def fingerprint(*flags: str) -> str:
    """Of everything that goes into the library."""
    names = [f for f in (*KERNELS.iterdir(), *EMULATOR.iterdir(), *HERE.iterdir())]
    digest = hashlib.sha256(repr(flags).encode())
    for name in sorted(names):
        if name.suffix in (".h", ".cc", ".cpp"):
            digest.update(name.name.encode() + name.read_bytes())
    return digest.hexdigest()[:16]


def library_folder() -> Path:
    return ROOT / "build" / "ascend" / fingerprint()


@cache
def library() -> ctypes.CDLL:
    """Built once for all processes of a test run, and again when a source changes."""
    folder = library_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            build(folder)
            (folder / "done").touch()
    return ctypes.CDLL(str(folder / "kernels.so"))


def relink(folder: Path, source: Path) -> ctypes.CDLL:
    """The library with another source of one kernel, which has the name of its own."""
    library()
    (changed,) = compile_objects([source], folder)
    objects = sorted(library_folder().glob("*.o"))
    assert changed.name in {path.name for path in objects}
    same = [path for path in objects if path.name != changed.name]
    return link([changed, *same], folder / "relinked.so")
