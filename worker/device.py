"""What this machine can train on, found without the ML libraries."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from app.domain.capabilities import Capability

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
BITSANDBYTES = (0, 48)
"""The oldest version whose four-bit weights are right on a CPU too; 0.46 crashes there."""


@dataclass(frozen=True)
class Device:
    """A device that runs are trained on."""

    kind: Literal["cpu", "cuda"]
    name: str
    memory_bytes: int | None
    cores: int


def find(wanted: Literal["auto", "cpu", "cuda"]) -> Device:
    """The first CUDA card if there is one (and CPU is not asked for), else the CPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if wanted != "cpu" and (card := _first_card()):
        name, mebibytes = card
        return Device("cuda", name, mebibytes << 20, cores)
    return Device("cpu", _cpu_name(), _host_memory(), cores)


def capabilities() -> list[Capability]:
    """What this machine can do that not every worker can."""
    try:
        major, minor = re.findall(r"\d+", version("bitsandbytes"))[:2]
    except (PackageNotFoundError, ValueError):
        return []
    return ["qlora"] if (int(major), int(minor)) >= BITSANDBYTES else []


def _first_card() -> tuple[str, int] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
        name, mebibytes = answer.splitlines()[0].rsplit(",", 1)
        return name.strip(), int(mebibytes)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")


def _host_memory() -> int | None:
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
        return min(physical, int(limit)) if limit.isdigit() else physical
    except (OSError, ValueError):
        return None
