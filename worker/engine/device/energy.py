"""Energy drawn by the GPU, from its own counter.

NVML counts the energy of a whole GPU in millijoules since its driver was loaded (`nvmlDeviceGetTotalEnergyConsumption`,
from Volta on). The difference between two readings is the energy drawn in between, by any process. It is read through
the optional package `nvidia-ml-py`, which torch uses for `torch.cuda.power_draw`. Where there is no counter (a CPU, an
older GPU, a MIG slice) the energy is None, not an estimate.
"""

from typing import Any

import torch

try:
    import pynvml
except ImportError:  # the extra `energy` is not installed
    pynvml = None

MILLIJOULE = 1e-3


class EnergyMeter:
    def __init__(self, device: torch.device, nvml: Any = pynvml) -> None:
        """`nvml`: the module, or a fake in tests; None if it is not installed."""
        self._device = device
        self._nvml = nvml
        self._handle: Any = None
        if nvml is not None and device.type == "cuda":
            try:
                nvml.nvmlInit()
                self._handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{_uuid(device)}")
            except nvml.NVMLError:
                self._handle = None
        self._began = self._count()

    def joules(self) -> float | None:
        """Joules drawn by the whole device since the meter was created; None if it has no counter."""
        now = self._count()
        if now is None or self._began is None or now < self._began:  # the driver was reloaded in between
            return None
        return (now - self._began) * MILLIJOULE

    def _count(self) -> int | None:
        if self._handle is None:
            return None
        if self._device.type == "cuda" and torch.cuda.is_available():
            torch.cuda.synchronize(self._device)  # finish queued work before reading the counter
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            return None


def _uuid(device: torch.device) -> str:
    """The UUID by which NVML identifies the device, independent of CUDA_VISIBLE_DEVICES."""
    return str(torch.cuda.get_device_properties(device).uuid)
