"""The kernels for the CPU, a shared library that is loaded when it is first needed."""

# mypy: allow-untyped-calls

import ctypes
import functools
import importlib.resources
import os
import threading
from functools import partial

import jax

from jda.ffi import call
from jda.ffi.library import Library

LIBRARY = "libjda_cpu.so"
TARGETS = ("jda_cpu_forward", "jda_cpu_tangent", "jda_cpu_backward")

_loading = threading.Lock()


def library() -> Library:
    """Loads the library and registers its kernels, once for the whole process.

    Raises:
        ValueError: if JDA_CPU_ISA names no instruction set.
    """
    with _loading:
        return _load()


@functools.cache
def _load() -> Library:
    path = str(importlib.resources.files("jda.ffi") / LIBRARY)
    try:
        handle = ctypes.CDLL(path)
        handlers = {name: getattr(handle, name) for name in TARGETS}
        isa = handle.jda_cpu_isa
    except (OSError, AttributeError) as error:
        return Library(False, f"the native library did not load: {error}")
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
    return Library(True, f"{path}, {name.decode()} instructions")


forward = partial(call.forward, "jda_cpu")
tangent = partial(call.tangent, "jda_cpu")
backward = partial(call.backward, "jda_cpu")
