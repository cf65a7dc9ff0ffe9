"""Seconds by phase. Exactly one clock runs at any moment, so they sum to the wall time by construction. The download of
a base model, which happens once per machine, is in neither."""

import time
from collections.abc import Mapping
from typing import Literal, cast

import torch

from app.domain.runs.result import Clocks

ClockName = Literal[
    "download",
    "load",
    "tokenize",
    "baseline",
    "forward",
    "backward",
    "optimizer",
    "data",
    "evaluate",
    "save",
    "audit",
    "cache",
    "weight_delta",
]

_TRAIN: tuple[ClockName, ...] = ("forward", "backward", "optimizer", "data")


class Stopwatch:
    """A set of clocks of which one is running.

    On CUDA every switch synchronizes the device: kernels are queued, and otherwise a forward pass would be booked on
    whatever clock runs when its result is first needed. A synchronization idles the device for about 10 µs, four times
    a step.
    """

    def __init__(self, claimed_at: float, device: torch.device) -> None:
        """Start with `load`. `claimed_at`: Unix seconds; the time since then is booked as `start`."""
        # max: the wall clock may have been set back since the claim
        self._start = max(0.0, time.time() - claimed_at)
        self._began = self._entered = time.perf_counter()
        self._cuda = device if device.type == "cuda" else None
        self._running: ClockName = "load"
        self._seconds: dict[ClockName, float] = {}

    @property
    def running(self) -> ClockName:
        """The running clock."""
        return self._running

    def enter(self, clock: ClockName) -> None:
        """Stop the running clock and start another."""
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        now = time.perf_counter()
        self._seconds[self._running] = self._seconds.get(self._running, 0.0) + now - self._entered
        self._running, self._entered = clock, now

    def of_training(self) -> dict[str, float]:
        """Seconds that training and its evaluations have taken, for a checkpoint."""
        self.enter(self._running)
        return {clock: self._seconds.get(clock, 0.0) for clock in (*_TRAIN, "evaluate", "save")}

    def carry(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds of earlier attempts; their time counts as wall time too."""
        for clock, value in seconds.items():
            self._seconds[cast(ClockName, clock)] = self._seconds.get(cast(ClockName, clock), 0.0) + value
            self._began -= value

    @property
    def train_seconds(self) -> float:
        """The train clock up to now, without evaluation."""
        self.enter(self._running)
        return sum(self._seconds.get(clock, 0.0) for clock in _TRAIN)

    def read(self) -> Clocks:
        """All clocks at this moment; the running one continues."""
        self.enter(self._running)
        wall_seconds = self._entered - self._began - self._seconds.get("download", 0.0)
        return Clocks(**self._seconds, start=self._start, wall=self._start + wall_seconds)
