"""Our kernels on arrays that another library has on the card, without JAX or copies.

The C interface is that of csrc/ascend/launcher/launcher.h.
"""

import ctypes
from collections.abc import Mapping

from jda.ffi import ascend
from tests.support.cases import Inputs

SIZES = (
    *("batch", "rows", "channels", "anchors", "points", "cameras", "scales", "groups"),
    *("y_axis", "deterministic"),
)
ARRAYS = (
    *Inputs._fields,
    *("cotangent", "out"),
    *("grad_feature_maps", "grad_sample_locations", "grad_weight"),
)


class _Problem(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in SIZES)


class _Arrays(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ARRAYS)


def enqueue(
    inputs: Inputs, pointers: Mapping[str, int], stream: int, order: str = "xy"
) -> None:
    """Forward and backward on a stream; does not wait for them.

    Args:
        inputs: for their sizes alone.
        pointers: one to each of `ARRAYS`, in the memory of the thread's current card.
        stream: an `aclrtStream`.
        order: of the coordinates.
    """
    batch, anchors, points, cameras, scales, groups = inputs.weight.shape
    _, rows, channels = inputs.feature_maps.shape
    problem = _Problem(
        *(batch, rows, channels, anchors, points, cameras, scales, groups),
        order.index("y"),
        0,
    )
    arrays = _Arrays(*(pointers[name] for name in ARRAYS))
    launcher = ascend._load()
    for direction in ("forward", "backward"):
        call = getattr(launcher, f"jda_ascend_enqueue_{direction}")
        if call(ctypes.byref(problem), ctypes.byref(arrays), ctypes.c_void_p(stream)):
            raise RuntimeError(launcher.jda_ascend_error().decode())
