"""The kernels through the libraries' plain C interfaces, for callers other than JAX.

These are csrc/cpu/c_api.h and csrc/ascend/launcher/launcher.h. ctypes lets go of
Python's lock while a function of theirs runs.
"""

import ctypes
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from jda._dimensions import FLOATING, Operands
from jda.ffi import ascend, cpu, open_library

SIZES = (
    *("batch", "rows", "channels", "anchors"),
    *("points", "cameras", "scales", "groups"),
)
ARRAYS = (*Operands._fields, "cotangent", "out", *(f"grad_{x}" for x in FLOATING))
DTYPES = {"float16": 10, "float32": 11, "float64": 12, "bfloat16": 16}  # XLA's numbers
ERRORS: dict[int, type[Exception]] = {3: ValueError, 8: MemoryError}  # others: Runtime


class Sizes(ctypes.Structure):
    """`jda_sizes` of csrc/problem.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in SIZES)


class CpuProblem(ctypes.Structure):
    """`jda_cpu_problem` of csrc/cpu/c_api.h."""

    _fields_ = (
        ("sizes", Sizes),
        ("y_axis", ctypes.c_int64),
        ("feature_maps_dtype", ctypes.c_int64),
        ("weight_dtype", ctypes.c_int64),
        ("threads", ctypes.c_int64),
    )


class AscendProblem(ctypes.Structure):
    """`jda_ascend_problem` of csrc/ascend/launcher/launcher.h."""

    _fields_ = (
        ("sizes", Sizes),
        ("y_axis", ctypes.c_int64),
        ("feature_maps_dtype", ctypes.c_int64),
        ("weight_dtype", ctypes.c_int64),
        ("deterministic", ctypes.c_int64),
    )


class Arrays(ctypes.Structure):
    """`jda_cpu_arrays`, and `jda_ascend_arrays`: a pointer each, or null."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ARRAYS)


def sizes(feature_maps: Sequence[int], weight: Sequence[int]) -> Sizes:
    """The sizes of a call, from the shapes of two of its arrays."""
    _, rows, channels = feature_maps
    batch, *others = weight
    return Sizes(batch, rows, channels, *others)


def compute(operation: str, problem: CpuProblem, pointers: Mapping[str, int]) -> None:
    """``"forward"`` or ``"backward"`` on the CPU, on arrays of the host.

    Args:
        operation: which of the two.
        problem: sizes, dtypes and the number of threads.
        pointers: by the names in `ARRAYS`. They are dense; those that are missing are
            not read, and not wanted.

    Raises:
        ValueError: for arguments that the library refuses.
        MemoryError: if there is none for the scratch of a kernel.
        RuntimeError: if the library did not load, or anything else fails.
    """
    library, arrays = _cpu(), Arrays(**pointers)
    call = getattr(library, f"jda_cpu_compute_{operation}")
    _raise_for(call(ctypes.byref(problem), ctypes.byref(arrays)), library.jda_cpu_error)


def enqueue(
    operation: str, problem: AscendProblem, pointers: Mapping[str, int], stream: int
) -> None:
    """The same on a card, on arrays of its memory; does not wait for it.

    Args:
        operation: ``"forward"`` or ``"backward"``.
        problem: sizes, dtypes and options.
        pointers: as for `compute`, in the memory of the thread's current card.
        stream: an ``aclrtStream``.

    Raises:
        ValueError: for sizes that the kernels do not take.
        MemoryError: if there is none for a workspace.
        RuntimeError: if there is no driver or card, or a call of the runtime failed.
    """
    library, arrays = _ascend(), Arrays(**pointers)
    call = getattr(library, f"jda_ascend_enqueue_{operation}")
    code = call(ctypes.byref(problem), ctypes.byref(arrays), ctypes.c_void_p(stream))
    _raise_for(code, library.jda_ascend_error)


def _raise_for(code: int, error: Any) -> None:
    if code:
        text = error().decode(errors="replace")
        raise ERRORS.get(code, RuntimeError)(text)


@functools.cache
def _cpu() -> Any:
    found = cpu.library()
    if not found.available:
        raise RuntimeError(f"no kernels for the CPU: {found.problem}")
    library = open_library(cpu.LIBRARY)
    library.jda_cpu_error.restype = ctypes.c_char_p
    return library


@functools.cache
def _ascend() -> Any:
    found = ascend.driver()
    if not found.available:
        raise RuntimeError(f"no kernels for Ascend: {found.problem}")
    return ascend._load()
