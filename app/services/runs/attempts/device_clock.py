"""The device time of an attempt, as its worker measures it: by a clock that never jumps, from the claim on."""

import time
from collections.abc import Callable


class DeviceClock:
    """Device-seconds of an attempt: the time since its claim, times its devices. In a group a run has its share of the
    group's time instead (`worker.training.supervisor`)."""

    def __init__(self, devices: int) -> None:
        self._devices, self._began = devices, time.monotonic()
        self.share: Callable[[], float] | None = None
        """Seconds of a run that trains in a group."""

    @property
    def device_seconds(self) -> float:
        """So far."""
        seconds = self.share() if self.share else time.monotonic() - self._began
        return seconds * self._devices
