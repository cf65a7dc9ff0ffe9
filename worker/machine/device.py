"""The devices that this machine trains on. torch probes its GPUs in a process of its own (`worker.machine.probe`)."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from app.domain.errors import Unavailable
from app.domain.runs.capabilities import Capability
from worker.children.environment import child_environment

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAG = "avx512_bf16"
PROBE = (sys.executable, "-P", "-m", "worker.machine.probe")
PROBE_SECONDS = 180.0
"""torch's import and a context on each card take seconds; a driver that hangs never answers."""
GPU_SIGNS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Device files of NVIDIA's and AMD's drivers, and of a GPU under WSL."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
BITSANDBYTES = (0, 48)
"""The oldest version whose four-bit weights are correct on a CPU; 0.46 crashes there."""


class Card(BaseModel):
    """A GPU as torch sees it."""

    model_config = ConfigDict(frozen=True)

    uuid: str
    """`GPU-…` or `MIG-…`: the same in every process, on every host."""
    visible: str = ""
    """The value of CUDA_VISIBLE_DEVICES with which a process sees this GPU only."""
    name: str
    memory_bytes: int
    """What a process can allocate, by `cudaMemGetInfo`; of a MIG slice, the slice's."""
    bf16: bool
    context_bytes: int | None = None
    """Memory of a process before its first tensor, measured; None if nvidia-smi does not tell."""
    problem: str = ""
    """Why it does not work; empty if it does."""


class Probe(BaseModel):
    """The answer of `worker.machine.probe`."""

    model_config = ConfigDict(frozen=True)

    cards: list[Card] = []
    problem: str = ""
    """Why there is no card."""

    @property
    def working(self) -> list[Card]:
        return [card for card in self.cards if not card.problem]

    @property
    def complaint(self) -> str:
        """Why a card, or every card, does not work; empty if all do."""
        return self.problem or "; ".join(f"{card.name}: {card.problem}" for card in self.cards if card.problem)


@dataclass(frozen=True)
class Device:
    """The CPU, or the GPUs, that runs are trained on; the facts of several GPUs are those of the smallest."""

    kind: Literal["cpu", "cuda"]
    name: str
    memory_bytes: int | None
    cores: int
    bf16: bool
    """It computes bfloat16 natively: the same answer as `worker.engine.device.environment.computes_in_bf16`."""
    context_bytes: int | None = None
    """CUDA only: memory of a process before its first tensor, measured."""
    problem: str = ""
    """A sentence about a GPU of this machine that cannot be used; empty if there is none."""
    cards: tuple[Card, ...] = ()
    """CUDA only: every GPU that works. Each trains one run at a time."""


def find(choice: Literal["auto", "cpu", "cuda"], command: Sequence[str] = PROBE, *, most: int | None = None) -> Device:
    """Every GPU that works, or the first `most` of them, unless the CPU is requested or there is none, else the CPU.

    With `auto` a GPU that does not work is a `problem` of the CPU's `Device`. Raises Unavailable if CUDA is requested
    and no GPU works.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    problem = ""
    if choice == "cuda" or (choice == "auto" and _may_have_gpu()):
        probe = _probe(command)
        if working := probe.working[: most or None]:
            card = min(working, key=lambda card: card.memory_bytes)
            problem = f"A GPU does not work: {probe.complaint}." if probe.complaint else ""
            cards = tuple(working)
            return Device("cuda", card.name, card.memory_bytes, cores, card.bf16, card.context_bytes, problem, cards)
        if choice == "cuda":
            raise Unavailable(
                f"VEZNA_DEVICE is cuda, but no GPU can be used: {probe.complaint}. Repair it, or set VEZNA_DEVICE=cpu."
            )
        problem = f"Runs use the CPU, because the GPU does not work: {probe.complaint}."
    elif choice == "auto" and sys.platform == "darwin" and platform.machine() == "arm64":
        problem = "Runs use the CPU: Vezna does not support Apple's GPU (MPS)."
    name, flags = _processor()
    return Device("cpu", name, _host_memory(), cores, BF16_FLAG in flags, problem=problem)


def _may_have_gpu() -> bool:
    """Whether anything of a GPU's driver is installed; without a sign the libraries are not loaded to look for one."""
    return shutil.which("nvidia-smi") is not None or any(Path(sign).exists() for sign in GPU_SIGNS)


def _probe(command: Sequence[str]) -> Probe:
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, env=child_environment(), text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Probe(problem=f"its driver did not answer within {PROBE_SECONDS:.0f} seconds")
    except OSError as error:
        return Probe(problem=f"the probe could not be started ({error.strerror})")
    try:
        return Probe.model_validate_json(done.stdout)
    except ValidationError:
        last = done.stderr.strip().split("\n")[-1].rstrip(".")
        return Probe(problem=f"the probe ended with status {done.returncode} ({last})")


def capabilities(kind: Literal["cpu", "cuda"] = "cpu") -> list[Capability]:
    others: list[Capability] = []
    if kind == "cuda":
        others.append("gpu")
    if _has_compiler(kind):
        others.append("compile")
    try:
        major, minor = re.findall(r"\d+", version("bitsandbytes"))[:2]
    except (PackageNotFoundError, ValueError):
        return others
    return ["qlora", "adamw-8bit", *others] if (int(major), int(minor)) >= BITSANDBYTES else others


def _has_compiler(kind: Literal["cpu", "cuda"]) -> bool:
    """Whether torch.compile finds the compiler that it calls: for a CPU `CXX`, g++ or Apple's clang++, for a GPU triton
    and the C compiler of triton's launcher. An attempt tries it before it loads a model."""
    if kind == "cuda":
        names = [os.environ.get("CC"), "gcc", "clang", "cc"]
        return find_spec("triton") is not None and any(name and shutil.which(name) for name in names)
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")) is not None


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
