"""Controls and books of the emulated driver (csrc/emulator/acl/controls.h)."""

import ctypes
from collections import Counter
from importlib import resources

FOLDER = resources.files("jda.ffi") / "emulated"
KEPT = ("device", "device_bytes", "pinned", "pinned_bytes", "streams", "events")


class EmulatedDriver:
    """The driver that this process has open."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(FOLDER / "libacl_rt.so"))
        for name in ("live", "finding_count"):
            getattr(self._library, f"jda_emulated_{name}").restype = ctypes.c_int64
        for name in ("findings", "trace"):
            getattr(self._library, f"jda_emulated_{name}").restype = ctypes.c_char_p

    def reset(self) -> None:
        """Clears the books; everything works again."""
        self._library.jda_emulated_reset()

    def set(self, **numbers: int) -> None:
        """What the machine has: devices, memory, cores..."""
        for name, value in numbers.items():
            number = ctypes.c_int64(value)
            assert self._library.jda_emulated_set(name.encode(), number)

    def fail(self, function: str, n: int, code: int) -> None:
        """Lets the n-th call from now on fail."""
        self._library.jda_emulated_fail(function.encode(), ctypes.c_int64(n), code)

    def live(self) -> dict[str, int]:
        """What exists now: memory, streams, events."""
        return {n: self._library.jda_emulated_live(n.encode()) for n in KEPT}

    def calls(self) -> Counter[str]:
        """How often each function of ACL was called since the reset."""
        lines = self.trace().splitlines()
        return Counter(line.split("(")[0] for line in lines if line.startswith("acl"))

    def trace(self) -> str:
        """Calls and the work of streams, a line each."""
        text: bytes = self._library.jda_emulated_trace()
        return text.decode()

    def findings(self) -> str:
        """Broken rules, a line each."""
        text: bytes = self._library.jda_emulated_findings()
        return text.decode()
