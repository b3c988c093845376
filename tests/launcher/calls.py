"""The launcher by its C interface, csrc/ascend/launcher/launcher.h, and by XLA's."""

import ctypes
import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jda.ffi.ascend import Description

OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED = 0, 3, 8
FAILED_PRECONDITION, INTERNAL, UNAVAILABLE = 9, 13, 14
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
ALL = (True, True, True)
DTYPES = {  # XLA's numbers
    "int32": 4,
    "float16": 10,
    "float32": 11,
    "float64": 12,
    "bfloat16": 16,
}


@dataclass
class Call:
    """A forward call, or a backward call if there is a cotangent."""

    inputs: Sequence[np.ndarray]
    cotangent: np.ndarray | None = None
    wanted: tuple[bool, bool, bool] = ALL
    order: str = "yx"
    deterministic: bool = False
    results: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        features, _, _, locations, weight = self.inputs
        self.y_axis = self.order.index("y")
        found = [((*locations.shape[:2], features.shape[2]), features.dtype)]
        if self.cotangent is not None:
            arrays = (features, locations, weight)
            pairs = zip(arrays, self.wanted, strict=True)
            found = [(a.shape if wanted else (0,), a.dtype) for a, wanted in pairs]
        self.results = [np.full(shape, np.nan, dtype) for shape, dtype in found]

    @property
    def operands(self) -> list[np.ndarray]:
        more = [] if self.cotangent is None else [self.cotangent]
        return [np.ascontiguousarray(array) for array in (*self.inputs, *more)]

    @property
    def direction(self) -> str:
        return "forward" if self.cotangent is None else "backward"

    def problem(self) -> ctypes.Array[ctypes.c_int64]:
        features, locations, weight = (self.inputs[i] for i in (0, 3, 4))
        sizes = (*features.shape, *locations.shape[1:4], *weight.shape[4:])
        dtypes = (DTYPES[x.dtype.name] for x in (features, weight))
        numbers = (*sizes, self.y_axis, *dtypes, self.deterministic)
        return (ctypes.c_int64 * 12)(*numbers)

    def pointers(
        self, operands: Sequence[int], results: Sequence[int]
    ) -> ctypes.Array[ctypes.c_void_p]:
        first = [*operands, None] if self.cotangent is None else list(operands)
        found = [
            pointer if array.size else None
            for pointer, array in zip(results, self.results, strict=True)
        ]
        rest = [*found, None, None, None] if self.cotangent is None else [None, *found]
        return (ctypes.c_void_p * 10)(*first, *rest)


class Launcher:
    """A launcher of its own: what one knows of cards and kernels, no other one does."""

    _copies = itertools.count()

    def __init__(self, library: Path, folder: Path, driver: Path | str) -> None:
        copy = folder / f"launcher-{next(self._copies)}.so"
        shutil.copy(library, copy)
        self.library = ctypes.CDLL(str(copy))
        self.library.jda_ascend_error.restype = ctypes.c_char_p
        self.opened = self.library.jda_ascend_open(str(driver).encode())

    def error(self) -> str:
        text: bytes = self.library.jda_ascend_error()
        return text.decode()

    def describe(self) -> Description:
        found = Description()
        assert self.library.jda_ascend_describe(ctypes.byref(found)) == OK
        return found

    def listen(self) -> list[str]:
        """What it tells from now on, in a list that grows."""
        told: list[str] = []
        kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
        self._listener = kind(lambda line: told.append(line.decode()))
        self.library.jda_ascend_tell(self._listener)
        return told

    def trim(self) -> None:
        assert self.library.jda_ascend_trim() == OK

    def compute(self, call: Call) -> int:
        operands = call.operands
        function = getattr(self.library, f"jda_ascend_compute_{call.direction}")
        pointers = call.pointers(addresses(operands), addresses(call.results))
        code: int = function(call.problem(), pointers)
        return code

    def enqueue(self, call: Call, on_card: "OnCard", stream: int | None) -> int:
        function = getattr(self.library, f"jda_ascend_enqueue_{call.direction}")
        pointers = call.pointers(on_card.operands, on_card.results)
        code: int = function(call.problem(), pointers, ctypes.c_void_p(stream))
        return code


def addresses(arrays: Sequence[np.ndarray]) -> list[int]:
    return [array.ctypes.data for array in arrays]


class Runtime:
    """The functions of ACL that a framework calls around the launcher."""

    def __init__(self, folder: Path) -> None:
        self.library = ctypes.CDLL(str(folder / "libacl_rt.so"))
        self("aclInit", None, allowed=(100002,))
        self("aclrtSetDevice", 0)

    def __call__(
        self, name: str, *arguments: object, allowed: Sequence[int] = ()
    ) -> None:
        code = getattr(self.library, name)(*arguments)
        assert code in (0, *allowed), f"{name}: {code}"

    def stream(self) -> int:
        handle = ctypes.c_void_p()
        self("aclrtCreateStream", ctypes.byref(handle))
        return handle.value or 0

    def destroy(self, stream: int) -> None:
        self("aclrtDestroyStream", ctypes.c_void_p(stream))

    def synchronise(self, stream: int | None) -> None:
        self("aclrtSynchronizeStream", ctypes.c_void_p(stream))

    def occupy(self, stream: int, pointer: int, operations: int) -> None:
        """Work before whose end the stream does nothing else."""
        size = ctypes.c_size_t(4)
        for _ in range(operations):
            to, on = ctypes.c_void_p(pointer), ctypes.c_void_p(stream)
            self("aclrtMemsetAsync", to, size, 0, size, on)

    def malloc(self, size: int) -> int:
        pointer = ctypes.c_void_p()
        self("aclrtMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)), 0)
        return pointer.value or 0

    def copy(self, to: int, source: int, size: int, kind: int) -> None:
        bytes_, stream = ctypes.c_size_t(size), ctypes.c_void_p()
        pointers = ctypes.c_void_p(to), ctypes.c_void_p(source)
        self("aclrtMemcpyAsync", pointers[0], bytes_, pointers[1], bytes_, kind, stream)
        self.synchronise(None)


class OnCard:
    """The arrays of a call in the memory of the card."""

    def __init__(self, runtime: Runtime, call: Call) -> None:
        self.runtime, self.call = runtime, call
        self.operands = [runtime.malloc(array.nbytes) for array in call.operands]
        self.results = [runtime.malloc(array.nbytes) for array in call.results]
        for pointer, array in zip(self.operands, call.operands, strict=True):
            runtime.copy(pointer, array.ctypes.data, array.nbytes, HOST_TO_DEVICE)
        for pointer, array in zip(self.results, call.results, strict=True):
            runtime.copy(pointer, array.ctypes.data, array.nbytes, HOST_TO_DEVICE)

    def fetch(self) -> list[np.ndarray]:
        for pointer, array in zip(self.results, self.call.results, strict=True):
            copy = np.empty_like(array)
            self.runtime.copy(copy.ctypes.data, pointer, copy.nbytes, DEVICE_TO_HOST)
            array[...] = copy
        return self.call.results

    def free(self) -> None:
        for pointer in (*self.operands, *self.results):
            self.runtime("aclrtFree", ctypes.c_void_p(pointer))


class Array(ctypes.Structure):
    _fields_ = (
        ("dtype", ctypes.c_int64),
        ("rank", ctypes.c_int64),
        ("dimensions", ctypes.POINTER(ctypes.c_int64)),
        ("data", ctypes.c_void_p),
    )


def described(
    arrays: Sequence[np.ndarray], pointers: Sequence[int]
) -> ctypes.Array[Array]:
    def one(array: np.ndarray, pointer: int) -> Array:
        dimensions = (ctypes.c_int64 * array.ndim)(*array.shape)
        return Array(DTYPES[array.dtype.name], array.ndim, dimensions, pointer)

    return (Array * len(arrays))(*map(one, arrays, pointers))


def through_xla(
    frame: ctypes.CDLL,
    launcher: Launcher,
    where: str,
    call: Call,
    on_card: OnCard | None = None,
    stream: int | None = None,
) -> tuple[int, str]:
    """Calls a handler with a call frame, as XLA does; its code and its message."""
    operation = "forward" if call.cotangent is None else "backward"
    handler = getattr(launcher.library, f"jda_ascend_{where}_{operation}")
    operands = call.operands
    sources = on_card.operands if on_card else addresses(operands)
    results = on_card.results if on_card else addresses(call.results)
    message = ctypes.create_string_buffer(4096)
    code: int = frame.call_handler(
        handler,
        ctypes.c_void_p(stream),
        described(operands, sources),
        ctypes.c_int64(len(operands)),
        described(call.results, results),
        ctypes.c_int64(len(call.results)),
        ctypes.c_int64(call.y_axis),
        ctypes.c_int64(call.deterministic),
        message,
        ctypes.c_int64(len(message)),
    )
    return code, message.value.decode()
