"""Seconds by phase. Exactly one clock runs at any moment, so the clocks sum to the wall time. Neither includes the
download of a base model, which happens once per machine."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from app.domain.runs.clocks import Clocks

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
    "compile",
    "weight_delta",
]

_TRAIN: tuple[ClockName, ...] = ("forward", "backward", "optimizer", "data")
_APART = "|ledger"
"""Suffix of a clock's name in a checkpoint, for its seconds in the steps whose memory is recorded."""
_WAITING = "waiting"
"""Name in a checkpoint of the seconds without a processor."""


@dataclass
class Lap:
    seconds: float = 0.0
    """Seconds of training up to it, with the steps that are measured; on CUDA 0 until the clocks are settled."""


class Stopwatch:
    """A set of clocks of which one is running.

    On CUDA kernels are queued, so a switch within training only records an event on the device. `settle` waits for the
    device once and reads all of them, a few times a second. Every other switch settles too.

    The steps whose memory is recorded by owner, and the first, in which CUDA loads its kernels, are slower than others.
    `aside` books them apart, so that they do not count as train time.
    """

    def __init__(
        self,
        claimed_at: float,
        device: torch.device,
        now: Callable[[], float] | None = None,
        waited: Callable[[], float] | None = None,
    ) -> None:
        """Start with `load`. `claimed_at`: Unix seconds; the time since then is booked as `start`. `now`: seconds, from
        any beginning; `waited`: of them, those without a processor."""
        self._now, self._waited = now or time.perf_counter, waited or waited_for_processor
        # max: the wall clock may have been set back since the claim
        self._start = max(0.0, time.time() - claimed_at)
        self._began = self._entered = self._now()
        self._cuda = device if device.type == "cuda" else None
        self._running: ClockName = "load"
        self._seconds: dict[ClockName, float] = {}
        self._aside = False
        self._apart: dict[ClockName, float] = {}
        """Seconds of the training clocks in the steps whose memory is recorded."""
        self._waiting = 0.0
        """Seconds of the training clocks without a processor."""
        self._waited_before: float | None = None
        """What `_waited` was when these clocks began to run; None while none of them does."""
        self._settled: Any = None
        """CUDA: an event at the moment of the last `settle`."""
        self._marks: list[tuple[ClockName, Any, Lap]] = []
        """CUDA: clocks that ended since then, each with an event."""

    @property
    def running(self) -> ClockName:
        return self._running

    def enter(self, clock: ClockName) -> None:
        """Stop the running clock and start another."""
        if self._cuda is not None and self._running in _TRAIN and clock in _TRAIN:
            self._mark()
        else:
            self.settle()
        self._running = clock
        self._watch_waiting()

    def aside(self, measured: bool) -> None:
        """Book training apart from here on, or no longer."""
        if measured != self._aside:
            self.settle()
            self._aside = measured
            self._watch_waiting()

    def _watch_waiting(self) -> None:
        """Count waiting while training is booked as such."""
        steady = self._running in _TRAIN and not self._aside
        if steady and self._waited_before is None:
            self._waited_before = self._waited()
        elif not steady and self._waited_before is not None:
            self._waiting += self._waited() - self._waited_before
            self._waited_before = None

    @property
    def waiting(self) -> float:
        """Seconds of training without a processor, of those that are not booked apart."""
        return self._waiting + (0.0 if self._waited_before is None else self._waited() - self._waited_before)

    def lap(self) -> Lap:
        """This moment; the running clock continues."""
        if self._cuda is not None and self._running in _TRAIN:
            return self._mark()
        self.settle()
        return Lap(self._trained())

    def settle(self) -> None:
        """Book all seconds up to now. On CUDA this waits for the device."""
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        now = self._now()
        left, last = now - self._entered, self._settled
        for clock, event, lap in self._marks:
            seconds = last.elapsed_time(event) / 1000
            left, last = left - seconds, event
            self._book(clock, seconds)
            lap.seconds = self._trained()
        self._book(self._running, left)
        self._entered = now
        self._marks.clear()
        if self._cuda is not None:
            self._settled = self._event()

    def _mark(self) -> Lap:
        self._marks.append((self._running, self._event(), lap := Lap()))
        return lap

    def _event(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _book(self, clock: ClockName, seconds: float) -> None:
        booked = self._apart if self._aside and clock in _TRAIN else self._seconds
        booked[clock] = booked.get(clock, 0.0) + seconds

    def _trained(self) -> float:
        return sum(booked.get(clock, 0.0) for booked in (self._seconds, self._apart) for clock in _TRAIN)

    def of_training(self) -> dict[str, float]:
        """Seconds that training and its evaluations have taken, for a checkpoint."""
        self.settle()
        seconds: dict[str, float] = {
            clock: self._seconds.get(clock, 0.0) for clock in (*_TRAIN, "evaluate", "save", "compile")
        }
        apart = {f"{clock}{_APART}": self._apart.get(clock, 0.0) for clock in _TRAIN}
        return seconds | apart | {_WAITING: self.waiting}

    def carry(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds of earlier attempts; their time counts as wall time too."""
        self._waiting += seconds.get(_WAITING, 0.0)
        for name, value in seconds.items():
            if name == _WAITING:
                continue
            booked = self._apart if name.endswith(_APART) else self._seconds
            clock = cast(ClockName, name.removesuffix(_APART))
            booked[clock] = booked.get(clock, 0.0) + value
            self._began -= value

    @property
    def train_seconds(self) -> float:
        """Seconds of training up to now, with the steps that are measured and without evaluation."""
        self.settle()
        return self._trained()

    def read(self, steady_share: float = 1.0) -> Clocks:
        """All clocks at this moment; the running one continues. `steady_share`: the share of all tokens in the steps
        that are not measured; if there is no such step, the others are the train time."""
        self.settle()
        wall_seconds = self._entered - self._began - self._seconds.get("download", 0.0)
        seconds: dict[str, float] = {clock: value for clock, value in self._seconds.items()}
        if steady_share > 0:
            steady = sum(self._seconds.get(clock, 0.0) for clock in _TRAIN)
            waiting = self.waiting / steady_share
            steady_rest = steady * (1 / steady_share - 1)
            seconds |= {"ledger": sum(self._apart.values()), "ledger_steady": steady_rest, "waiting": waiting}
        else:
            seconds |= {clock: seconds.get(clock, 0.0) + value for clock, value in self._apart.items()}
        return Clocks(**seconds, start=self._start, wall=self._start + wall_seconds)


def waited_for_processor() -> float:
    """Seconds in which this process's threads were ready to run and others had the processor (proc_pid_schedstat(5)),
    added up: in a pass all wait for the last one. 0 where the kernel does not count them."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread may end meanwhile
            total += int(path.read_text().split()[1])
    return total / 1e9
