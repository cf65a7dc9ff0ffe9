"""Memory of this machine that a process may still take."""

from contextlib import suppress
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
WORKING_BYTES = 256 << 20
"""Beside the weights: activations, keys and values, logits (docs/playground.md)."""
NO_LIMIT = 2**62


def available_bytes() -> int:
    """What the kernel can give without swapping (man 5 proc, MemAvailable), and what is left of the limit of this
    process's control group: its limit, less what it uses without the file cache that it can drop."""
    return min(_machine(), _group())


def _machine() -> int:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:  # not Linux
        return NO_LIMIT
    known = {name: value for name, _colon, value in (line.partition(":") for line in lines)}
    return int(known["MemAvailable"].split()[0]) << 10 if "MemAvailable" in known else NO_LIMIT


def _group() -> int:
    with suppress(OSError, ValueError, KeyError):  # no control group of its own, or no limit
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        facts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(facts["inactive_file"]))
    return NO_LIMIT
