"""The native libraries: loading them and calling their kernels through XLA's FFI."""

import ctypes
import importlib.resources


def open_library(name: str) -> ctypes.CDLL:
    """Opens a native library of this package.

    Args:
        name: its file in this folder.

    Raises:
        OSError: if it is not there or does not load.
    """
    path = importlib.resources.files("jda.ffi") / name
    if not path.is_file():
        raise OSError(
            f"{path} is not there. Wheels with kernels are for Linux on x86-64 and "
            "aarch64, with glibc 2.28 or newer; the wheel for all other platforms has "
            "the reference alone"
        )
    return ctypes.CDLL(str(path))
