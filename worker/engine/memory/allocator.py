"""glibc's allocator, switched between exact and fast while the process runs (man 3 mallopt).

Exact: blocks of 64 KiB and more are mapped from the kernel and unmapped one by one, so that resident memory follows
live tensors. A measurement needs that, and pays for it: every new tensor's pages are faulted in again, and an
elementwise operation takes 3 to 10 times as long. Fast: freed blocks stay in the heap for the next tensor.

A process starts exact, by its environment (`worker.children.environment`). With other allocators these functions do
nothing.
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
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):  # glibc 2.33
        return None
    libc.mallinfo2.restype = _Mallinfo2
    return libc


_LIBC = _load()
ADJUSTABLE = _LIBC is not None
"""Whether the functions below have an effect."""


def exact() -> None:
    """Return free memory to the kernel, and from now on all memory as soon as it is freed."""
    if _LIBC is not None:
        _LIBC.mallopt(_MMAP_THRESHOLD, EXACT_BYTES)
        _LIBC.mallopt(_TRIM_THRESHOLD, EXACT_BYTES)
        _LIBC.malloc_trim(0)


def fast() -> None:
    """Keep freed blocks in the heap."""
    if _LIBC is not None:
        _LIBC.mallopt(_MMAP_THRESHOLD, _FAST_MMAP)
        _LIBC.mallopt(_TRIM_THRESHOLD, _FAST_TRIM)


def trim() -> None:
    """Return free memory to the kernel. A block that fits into a hole of the heap is placed there, however large, and
    stays when it is freed, so with `exact` alone resident memory exceeds live tensors once the heap has holes."""
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def free_bytes() -> int:
    """Bytes that are free in the heap and not returned."""
    return int(_LIBC.mallinfo2().fordblks) if _LIBC is not None else 0
