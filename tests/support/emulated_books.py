"""Controls and books of the emulated driver (emulator/driver/controls.h)."""

import ctypes
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources

import numpy as np

FOLDER = resources.files("jda.ffi") / "emulated"
OnCard = tuple[list[int], int, Callable[[], list[np.ndarray]]]
KEPT = ("device", "device_bytes", "pinned", "pinned_bytes", "streams", "events")


class EmulatedDriver:
    """The driver that this process has open."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(FOLDER / "libacl_rt.so"))
        for name in ("live", "finding_count"):
            getattr(self._library, f"jda_emulated_{name}").restype = ctypes.c_int64
        for name in ("findings", "trace"):
            getattr(self._library, f"jda_emulated_{name}").restype = ctypes.c_char_p

    @contextmanager
    def memory(self, arrays: Sequence[np.ndarray]) -> Iterator[OnCard]:
        """Copies of arrays on card 0, a stream, and what brings the arrays back."""
        acl = self._library
        stream = ctypes.c_void_p()
        pointers = [ctypes.c_void_p() for _ in arrays]
        assert acl.aclrtSetDevice(0) == 0
        assert acl.aclrtCreateStream(ctypes.byref(stream)) == 0
        sizes = [ctypes.c_size_t(array.nbytes) for array in arrays]
        for array, pointer, size in zip(arrays, pointers, sizes, strict=True):
            assert acl.aclrtMalloc(ctypes.byref(pointer), size, 0) == 0
            self._copy(pointer, array.ctypes.data, size, 1, stream)

        def fetch() -> list[np.ndarray]:
            found = [np.empty_like(array) for array in arrays]
            for array, pointer, size in zip(found, pointers, sizes, strict=True):
                self._copy(array.ctypes.data, pointer, size, 2, stream)
            assert acl.aclrtSynchronizeStream(stream) == 0
            return found

        yield [pointer.value for pointer in pointers], stream.value, fetch
        assert acl.aclrtSynchronizeStream(stream) == 0
        for pointer in pointers:
            assert acl.aclrtFree(pointer) == 0
        assert acl.aclrtDestroyStream(stream) == 0

    def _copy(self, to: object, source: object, size: object, *rest: object) -> None:
        copy = self._library.aclrtMemcpyAsync
        pointer, count = ctypes.c_void_p, ctypes.c_size_t
        copy.argtypes = [pointer, count, pointer, count, ctypes.c_int, pointer]
        assert copy(to, size, source, size, *rest) == 0

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
        return Counter(self.called())

    def called(self) -> list[str]:
        """The functions of ACL in the order of their calls."""
        lines = self.trace().splitlines()
        return [line.split("(")[0] for line in lines if line.startswith("acl")]

    def copies(self, start: str) -> list[int]:
        """The bytes of every copy that starts at the "host" or the "device"."""
        found = re.findall(rf"copy of (\d+) bytes {start} to", self.trace())
        return list(map(int, found))

    def kernels(self) -> list[str]:
        """What ran: "deformable_aggregation on 3 blocks at once" and the like."""
        return re.findall(r"kernel (\w+ on \d+ blocks.*)", self.trace())

    def trace(self) -> str:
        """Calls and the work of streams, a line each."""
        text: bytes = self._library.jda_emulated_trace()
        return text.decode()

    def findings(self) -> str:
        """Broken rules, a line each."""
        text: bytes = self._library.jda_emulated_findings()
        return text.decode()
