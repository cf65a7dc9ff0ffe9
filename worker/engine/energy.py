"""What the device draws, by its own counter.

NVML counts the energy of a whole GPU, in millijoules since its driver was loaded
(`nvmlDeviceGetTotalEnergyConsumption`, from Volta on): twice read, the difference is what was drawn in between, whoever
caused it. It is read through `nvidia-ml-py`, which torch uses for `torch.cuda.power_draw` and which one may leave out.
Where there is no such counter (a CPU, an older card, a slice of a card) nothing is said; nothing is guessed.
"""

from typing import Any

import torch

try:
    import pynvml
except ImportError:  # the extra `energy` is not installed
    pynvml = None

MILLIJOULE = 1e-3


class EnergyMeter:
    """The counter of one device."""

    def __init__(self, device: torch.device, nvml: Any = pynvml) -> None:
        """`nvml`: the module, or what stands in for it; None where there is none."""
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
        """Drawn since the meter was made, by the whole device; None where it has no counter."""
        now = self._count()
        if now is None or self._began is None or now < self._began:  # the driver was loaded anew in between
            return None
        return (now - self._began) * MILLIJOULE

    def _count(self) -> int | None:
        if self._handle is None:
            return None
        if self._device.type == "cuda" and torch.cuda.is_available():
            torch.cuda.synchronize(self._device)  # what was queued is drawn before it is read
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            return None


def _uuid(device: torch.device) -> str:
    """By which NVML knows the device, whatever CUDA_VISIBLE_DEVICES has made of its number."""
    return str(torch.cuda.get_device_properties(device).uuid)
