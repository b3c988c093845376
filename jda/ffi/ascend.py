"""The kernels for Ascend: a launcher library, and the driver that it opens.

The library is part of every installation. It holds the launcher, the sources of the
kernels and XLA's handlers, and needs CANN only when a kernel is to run. The same two
targets are registered for three platforms: on ``cpu`` the handlers copy to the card and
back; on the platforms of a card they take the pointers that they are given.
"""

# mypy: allow-untyped-calls

import atexit
import ctypes
import functools
import importlib.resources
import logging
import os
import threading
from importlib.resources.abc import Traversable
from typing import Any

import jax
import numpy as np

from jda._backend import Backend, Found
from jda._environment import flag
from jda.ffi import call, open_library

LIBRARY = "libjda_ascend.so"
OPERATIONS = ("forward", "backward")
TARGETS = tuple(f"jda_ascend_{operation}" for operation in OPERATIONS)
CARDS = ("ascend", "ASCEND")  # what JAX and XLA's plugin call the platform of a card
HANDLERS = {"cpu": "host"} | dict.fromkeys(CARDS, "device")  # by platform

ORIGINS = {
    "compiled": "compiled by this process",
    "cache": "compiled before, from the cache",
}
NO_KERNELS = (
    "this CANN cannot compile kernels at run time, and JDA_ASCEND_KERNELS names no "
    "file that was built ahead"
)

_loading = threading.Lock()


def _log(line: bytes) -> None:
    """What takes a while: compiling kernels, and waiting for who compiles them."""
    logging.getLogger("jda").info("%s", line.decode(errors="replace"))


_Listener = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_listener = _Listener(_log)  # kept, as the library calls it


DESCRIBED_IN_WORDS = ("runtime", "compiler", "toolkit", "problem", "soc", "kernels")


class Description(ctypes.Structure):
    """`jda_ascend_description` of csrc/ascend/launcher/launcher.h."""

    _fields_ = (
        *((name, ctypes.c_char_p) for name in DESCRIBED_IN_WORDS),
        *((name, ctypes.c_int32) for name in ("emulated", "card", "cores")),
    )

    def text(self, name: str) -> str | None:
        """A text, which may be in any encoding; None where it is null."""
        found: bytes | None = getattr(self, name)
        return None if found is None else found.decode(errors="replace")


def driver() -> Found:
    """Opens the driver and its card: what was found, or why it cannot be used."""
    opened = _open()
    if not opened.available:
        return opened
    launcher = _load()
    found = Description()
    if launcher.jda_ascend_describe(ctypes.byref(found)):
        return Found(False, _one_line(_error(launcher)))
    return _described(found)


def _open() -> Found:
    """Opens the driver that the environment names, without a look at any card."""
    with _loading:
        try:
            launcher = _load()
        except (OSError, AttributeError) as error:
            return Found(False, f"the native library did not load: {error}")
        folder = _driver_folder()
        if folder is not None and not os.path.isdir(folder):
            return Found(False, _not_a_driver())
        if launcher.jda_ascend_open(folder):
            reason, _, tried = _error(launcher).partition("; tried\n")
            searched = (line.strip() for line in tried.splitlines())
            return Found(False, _one_line(reason), tuple(searched))
        return Found(True, "")


def _error(launcher: Any) -> str:
    text: bytes = launcher.jda_ascend_error()
    return text.decode(errors="replace")


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines())


@functools.cache
def _load() -> Any:
    """Loads the library and registers its handlers, once for the whole process."""
    launcher = open_library(LIBRARY)
    launcher.jda_ascend_open.argtypes = [ctypes.c_char_p]
    launcher.jda_ascend_error.restype = ctypes.c_char_p
    launcher.jda_ascend_tell.argtypes = [_Listener]
    launcher.jda_ascend_tell(_listener)
    # Python ends before its threads do.
    atexit.register(launcher.jda_ascend_tell, _Listener())
    for platform, kind in HANDLERS.items():
        for operation, target in zip(OPERATIONS, TARGETS, strict=True):
            handler = getattr(launcher, f"jda_ascend_{kind}_{operation}")
            capsule = jax.ffi.pycapsule(handler)
            # JAX keeps what is meant for a platform until that platform is there.
            jax.ffi.register_ffi_target(target, capsule, platform=platform)
    return launcher


def _home() -> Traversable:
    return importlib.resources.files("jda.ffi")


def _driver_folder() -> bytes | None:
    """None: the system's, as CANN's environment says."""
    name = os.environ.get("JDA_ASCEND_DRIVER")
    if name == "emulated":
        return os.fsencode(str(_home() / "emulated"))
    return os.fsencode(name) if name else None


def _not_a_driver() -> str:
    word = os.fsencode(os.environ["JDA_ASCEND_DRIVER"]).decode(errors="replace")
    return (
        f"JDA_ASCEND_DRIVER is '{word}'; it may be a folder that holds libacl_rt.so "
        "or, where jda is built for development, 'emulated'"
    )


def _described(found: Description) -> Found:
    emulated = "emulated " if found.emulated else ""
    paths = filter(None, (found.text("runtime"), found.text("compiler")))
    where = f"{emulated}driver {' and '.join(paths)}"
    toolkit = f"toolkit {found.text('toolkit') or 'of unknown version'}"
    kernels = _kernels(found.text("kernels"), found.compiler is not None)
    problem = found.text("problem") or (None if kernels else NO_KERNELS)
    if problem:
        return Found(False, f"{_one_line(problem)} ({where}, {toolkit})")
    card = f"{emulated}card {found.card} is an {found.text('soc')}"
    cores = f"{found.cores} vector cores"
    return Found(True, f"{where}, {toolkit}, {card}, {cores}, kernels {kernels}")


def _kernels(origin: str | None, has_compiler: bool) -> str | None:
    """Where the kernels came from or will come from; None if from nowhere."""
    ahead = os.environ.get("JDA_ASCEND_KERNELS")
    if origin is None:
        if ahead:
            return f"to be loaded from {ahead}"
        return "not compiled yet" if has_compiler else None
    return ORIGINS.get(origin, f"loaded from {origin}")


def forward(*operands: jax.Array, coordinate_order: str) -> list[jax.Array]:
    """The result, as a list of one array."""
    return call.forward(
        "jda_ascend", *operands, coordinate_order=coordinate_order, **_attributes()
    )


def backward(
    *operands: jax.Array, coordinate_order: str, which: tuple[str, ...]
) -> list[jax.Array]:
    """The gradients of the operands `which`."""
    return call.backward(
        "jda_ascend",
        *operands,
        coordinate_order=coordinate_order,
        which=which,
        **_attributes(),
    )


def _attributes() -> dict[str, np.int64]:
    _open()  # a program that is only lowered here needs no driver: failure may pass
    return {"deterministic": np.int64(flag("JDA_ASCEND_DETERMINISTIC"))}


BACKEND = Backend(
    name="ascend",
    platforms=(*CARDS, "cpu"),  # on "cpu" where it is asked for, through copies
    operations={
        "forward": forward,
        "backward": backward,
    },
    find=driver,
    dtypes=("float32", "bfloat16", "float16"),
    default_on=CARDS,
    remote=CARDS,  # the card may be in another machine
    targets=TARGETS,
)
