"""Devices that a run could use, a live worker's or a well-known GPU, and how much of their memory it may take."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.runs.capabilities import Capability

MIB = 2**20
GIB = 2**30

DeviceKind = Literal["cpu", "cuda"]

CONTEXT_BYTES = 600 * MIB
"""GPU memory of CUDA's context and kernels, beside the allocator, where no worker has measured it. 300 to 700 MiB by
GPU and driver."""
RESERVED_SHARE = 0.05
"""Share of a GPU's memory that the allocator reserves beyond what is allocated, because of fragmentation."""
HOST_BYTES = 700 * MIB
"""Host memory of the trainer before its model is loaded (interpreter, torch, transformers)."""


class Device(BaseModel):
    """A device that a run could use."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The worker's, or the GPU's."""
    worker: bool
    """A live worker's; else a well-known GPU."""
    kind: DeviceKind
    device_name: str
    """As runs record it; calibration goes by it."""
    memory_bytes: int | None
    context_bytes: int | None = None
    """Memory of CUDA's context on it, measured; None where it is unknown."""
    bf16: bool
    """It has bfloat16 arithmetic."""
    matmul_flops: float | None = None
    """Measured matrix-product throughput, in bfloat16 where supported; None until a run has measured it."""
    matmul_rates: dict[int, float] = Field(default_factory=dict)
    """The same for the products of a layer, by its width; empty until a run has measured it."""
    capabilities: tuple[Capability, ...] = ()

    @property
    def usable_bytes(self) -> float | None:
        """What a run may take of its memory; None where its memory is not known."""
        return None if self.memory_bytes is None else usable_bytes(self.memory_bytes, self.kind, self.context_bytes)


class WorkerDevice(Device):
    """A live worker's device."""

    worker: bool = True


class Gpu(BaseModel):
    """A GPU of a worker's host."""

    model_config = ConfigDict(frozen=True)

    uuid: str
    """The same on every worker that sees it: `GPU-…`, `MIG-…`."""
    name: str
    memory_bytes: int


class VisibleGpu(BaseModel):
    """A GPU as a worker saw it at a heartbeat."""

    model_config = ConfigDict(frozen=True)

    uuid: str
    free_bytes: int | None = None
    """By its driver; None if unknown."""
    problem: str = ""
    """Why runs cannot use it any more; empty if they can."""


class GpuModel(Device):
    """A well-known GPU."""

    worker: bool = False
    kind: DeviceKind = "cuda"
    memory_bytes: int
    bf16: bool = True
    """GPUs since Ampere (2020) have bfloat16 arithmetic."""


def usable_bytes(memory_bytes: int, kind: DeviceKind, context_bytes: int | None = None) -> float:
    """Device memory that a run may take: a GPU's without CUDA's context (measured, or else assumed) and fragmentation;
    nine tenths of a host's without the trainer's own libraries."""
    if kind == "cuda":
        context = CONTEXT_BYTES if context_bytes is None else context_bytes
        return max(0.0, (memory_bytes - context) / (1 + RESERVED_SHARE))
    return max(0.0, 0.9 * memory_bytes - HOST_BYTES)


def size(number: float) -> str:
    """Bytes for a person: `12.3 GiB`, `850 MiB`."""
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"


def _gpu(name: str, gibibytes: int, *, bf16: bool = True) -> GpuModel:
    return GpuModel(name=name, device_name=name, memory_bytes=gibibytes * GIB, bf16=bf16)


GPU_MODELS = (
    _gpu("RTX 3060", 12),
    _gpu("T4", 16, bf16=False),
    _gpu("RTX 4080", 16),
    _gpu("RTX 3090, 4090", 24),
    _gpu("L4, A10G", 24),
    _gpu("RTX 5090", 32),
    _gpu("A100 40 GB", 40),
    _gpu("L40S", 48),
    _gpu("A100 80 GB, H100", 80),
    _gpu("H200", 141),
)
"""Memory from NVIDIA's data sheets; drivers show a little less."""
