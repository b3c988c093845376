"""The Ascend C kernels, compiled for the host and run under the emulator."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.support import cxx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ASCEND = ROOT / "csrc" / "ascend"
KERNELS = ASCEND / "kernels"
EMULATOR = ROOT / "emulator" / "core"


FORMATS = ("float32", "float16", "bfloat16")  # numbered as in tiling.h


class Request(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "rows", "channels", "anchors")),
        *((name, ctypes.c_int64) for name in ("points", "cameras", "scales", "groups")),
        *((name, ctypes.c_int64) for name in ("y_axis", "cores", "automatic_sync")),
        *((name, ctypes.c_int64) for name in ("deterministic", "naive")),
        *((name, ctypes.c_int64) for name in ("maps_format", "weight_format")),
        ("seed", ctypes.c_uint64),
        ("dma_latency", ctypes.c_double),
        ("l2_bytes", ctypes.c_uint64),
        ("inputs", ctypes.c_void_p * 6),
        ("outputs", ctypes.c_void_p * 3),
        ("trace", ctypes.c_char_p),
    )


class Answer(ctypes.Structure):
    _fields_ = (
        ("findings", ctypes.c_int64),
        ("microseconds", ctypes.c_double),
        ("set_microseconds", ctypes.c_double),
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
        maps_format=FORMATS.index(features.dtype.name),
        weight_format=FORMATS.index(weight.dtype.name),
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
        results = [np.empty(shape, features.dtype), None, None]
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


@cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL(str(cxx.build("kernels") / "ascend" / "kernels.so"))


def library_of(kernels: Path, folder: Path, **settings: object) -> ctypes.CDLL:
    """Of other kernels than the project's own, with the emulator that is there."""
    emulator = cxx.build("ascend_emulator") / "emulator/core/libascend_emulator.a"
    settings |= {"JDA_KERNELS": kernels, "JDA_EMULATOR": emulator}
    built = cxx.build("kernels", source=HERE, folder=folder, **settings)
    return ctypes.CDLL(str(built / "kernels.so"))
