"""The device that this machine trains on, detected without the ML libraries."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from app.domain.runs.capabilities import Capability

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAG = "avx512_bf16"
AMPERE = (8, 0)
"""The first compute capability with native bfloat16 arithmetic."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
BITSANDBYTES = (0, 48)
"""The oldest version whose four-bit weights are correct on a CPU; 0.46 crashes there."""


@dataclass(frozen=True)
class Device:
    """A device that runs are trained on."""

    kind: Literal["cpu", "cuda"]
    name: str
    memory_bytes: int | None
    cores: int
    bf16: bool
    """It computes bfloat16 natively: the same answer as `worker.engine.environment.computes_in_bf16`."""


def find(choice: Literal["auto", "cpu", "cuda"]) -> Device:
    """The first CUDA GPU, unless CPU is requested or there is none, else the CPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if choice != "cpu" and (gpu := _first_gpu()):
        name, mebibytes, capability = gpu
        return Device("cuda", name, mebibytes << 20, cores, capability >= AMPERE)
    name, flags = _processor()
    return Device("cpu", name, _host_memory(), cores, BF16_FLAG in flags)


def capabilities() -> list[Capability]:
    """The optional capabilities of this machine."""
    try:
        major, minor = re.findall(r"\d+", version("bitsandbytes"))[:2]
    except (PackageNotFoundError, ValueError):
        return []
    return ["qlora"] if (int(major), int(minor)) >= BITSANDBYTES else []


def _first_gpu() -> tuple[str, int, tuple[int, int]] | None:
    """Name, MiB and compute capability."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
        name, mebibytes, capability = answer.splitlines()[0].rsplit(",", 2)
        major, minor = capability.strip().split(".")
        return name.strip(), int(mebibytes), (int(major), int(minor))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _processor() -> tuple[str, frozenset[str]]:
    """The name, as in an attempt's environment, so that past runs are matched by it; and the instruction-set flags."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = f"{facts['model name']}, {os.cpu_count()} CPUs" if "model name" in facts else ""
    return name or platform.processor() or platform.machine(), frozenset(facts.get("flags", "").split())


def _host_memory() -> int | None:
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
        return min(physical, int(limit)) if limit.isdigit() else physical
    except (OSError, ValueError):
        return None
