"""The kernels for the CPU, a shared library that is loaded when it is first needed."""

# mypy: allow-untyped-calls

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from jda._backend import Backend, Found
from jda.ffi import call, open_library

LIBRARY = "libjda_cpu.so"
OPERATIONS = {
    "forward": partial(call.forward, "jda_cpu"),
    "tangent": partial(call.tangent, "jda_cpu"),
    "backward": partial(call.backward, "jda_cpu"),
}
TARGETS = tuple(
    f"jda_cpu_{name}"
    for name in (*OPERATIONS, "pack", "unpack", "corners", "corners_backward")
)

_loading = threading.Lock()


def library() -> Found:
    """Loads the library and registers its kernels, once for the whole process.

    Raises:
        ValueError: if JDA_CPU_ISA names no instruction set.
    """
    with _loading:
        return _load()


@functools.cache
def _load() -> Found:
    try:
        handle = open_library(LIBRARY)
        handlers = {name: getattr(handle, name) for name in TARGETS}
        isa = handle.jda_cpu_isa
    except (OSError, AttributeError) as error:
        return Found(False, f"the native library did not load: {error}")
    isa.restype = ctypes.c_char_p
    name = isa()
    if name is None:
        raise ValueError(
            f"JDA_CPU_ISA is {os.environ.get('JDA_CPU_ISA')!r}; it may be 'baseline', "
            "'avx2' or 'avx512'"
        )
    for target, handler in handlers.items():
        capsule = jax.ffi.pycapsule(handler)
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")
    return Found(True, f"{handle._name}, {name.decode()} instructions")


def where_native(
    native: Callable[..., Any], elsewhere: Callable[..., Any], platforms: Sequence[str]
) -> Callable[..., Any]:
    """What runs on some platforms of which this library serves the CPU, if it loads."""
    if "cpu" not in platforms or not library().available:
        return elsewhere
    if tuple(platforms) == ("cpu",):
        return native
    return partial(jax.lax.platform_dependent, cpu=native, default=elsewhere)


BACKEND = Backend(
    name="cpu",
    platforms=("cpu",),
    operations=OPERATIONS,
    find=library,
    default_on=("cpu",),
    targets=TARGETS,
)
