"""glibc's allocator, set for exactness or for speed while the process runs (man 3 mallopt).

Exact: blocks of 64 KiB and more are mapped from the kernel and unmapped one by one, so that resident memory follows
live tensors. That is what a measurement needs and what it costs: every new tensor's pages are faulted in anew, and an
elementwise operation takes 3 to 10 times as long. Fast: freed blocks stay in the heap for the next tensor.

A process starts exact by its environment (`worker.training.environment`). Other allocators know none of it: nothing
happens.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
EXACT_BYTES = 64 * 2**10
_FAST_MMAP, _FAST_TRIM = 32 * 2**20, 256 * 2**20
"""32 MiB is the largest mmap threshold that glibc takes; what is above is mapped either way."""


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
        )
    ]  # fmt: skip


def _load() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    found = ctypes.CDLL(None)
    if not hasattr(found, "mallinfo2"):  # glibc 2.33
        return None
    found.mallinfo2.restype = _Mallinfo2
    return found


_LIBC = _load()
ADJUSTABLE = _LIBC is not None
"""Whether the functions below do anything."""


def exact() -> None:
    """Give back what is free, and from now on everything as soon as it is."""
    if _LIBC is not None:
        _LIBC.mallopt(_MMAP_THRESHOLD, EXACT_BYTES)
        _LIBC.mallopt(_TRIM_THRESHOLD, EXACT_BYTES)
        _LIBC.malloc_trim(0)


def fast() -> None:
    """Keep freed blocks."""
    if _LIBC is not None:
        _LIBC.mallopt(_MMAP_THRESHOLD, _FAST_MMAP)
        _LIBC.mallopt(_TRIM_THRESHOLD, _FAST_TRIM)


def trim() -> None:
    """Give back what is free. A block that fits into a hole of the heap is put there, however large, and stays when it
    is freed: with `exact` alone resident memory would follow live tensors only as far as the heap has no holes."""
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def free_bytes() -> int:
    """Bytes that are free in the heap and not given back."""
    return int(_LIBC.mallinfo2().fordblks) if _LIBC is not None else 0
