"""Attempts of several runs as one group: they load the base model and read the rows once."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from app.domain.data.dataset import Row, Split
from app.domain.resources.speed import DeviceRates
from app.domain.runs.job import TrainJob
from app.domain.runs.result import RunResult
from worker.engine.data.batches.batches import Examples
from worker.engine.device.environment import choose_device
from worker.engine.group.joint import shared_copy
from worker.engine.group.members import Group, Member
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.progress import Instruments, ProgressSink
from worker.engine.memory.ledger import Ledgers
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.architecture import head_names
from worker.engine.models.load import Loaded, new_head
from worker.engine.models.quantized.quantization import NF4


class TrainsAlone(Exception):
    """Why a run cannot share the base model of its group; it can be run by itself."""


class Together:
    def __init__(self, device: torch.device, size: int, claimed_at: float) -> None:
        self.size = size
        self.waited = max(0.0, time.time() - claimed_at) / size
        """Each member's share of the time before the group began."""
        self.meter = _Meter(device)
        self.loaded: Loaded | None = None
        """The base model as it was loaded; no method is applied to it."""
        self.seed = 0
        """Seed of the base model's randomly initialized weights."""
        self.splits: Mapping[Split, Examples] | None = None
        self.rates: DeviceRates | None = None


class GroupedAttempt(Attempt):
    def __init__(self, job: TrainJob, sink: ProgressSink, member: Member, together: Together) -> None:
        super().__init__(job, sink)
        self._together = together
        clocks = Stopwatch(time.time() - together.waited, torch.device("cpu"), member.now)
        self.instruments = Instruments(sink, clocks, together.meter, ledgers=_NoLedgers())
        self.instruments.trained_together = together.size
        self.forward_and_back = member.forward_and_back
        self.caches_prefix = False  # a joint pass computes all layers

    def run(self) -> RunResult:
        """Run the attempt. Its memory is that of the group, its clocks are its share of the group's time, and the
        energy of the device is left out. Raises `TrainsAlone`, and as a run by itself."""
        return super().run().model_copy(update={"energy_joules": None})

    def _load(self, nf4: NF4 | None) -> Loaded:
        """The first attempt loads the base model. Every attempt gets a copy that shares its tensors, with its own
        head."""
        if self._together.loaded is None:
            self._together.loaded = super()._load(nf4)
            self._together.seed = self.job.spec.training.seed
        loaded, seed = self._together.loaded, self.job.spec.training.seed
        if loaded.missing and seed != self._together.seed:
            raise TrainsAlone(f"the checkpoint lacks {loaded.missing[0]}, which each seed draws anew")
        names = head_names(loaded.model, self.job.spec.task)
        model: Any = shared_copy(loaded.model, [loaded.model.get_submodule(name) for name in names])
        new_head(model, names, seed)
        return loaded._replace(model=model)

    def _splits(self, rows: Mapping[Split, Sequence[Row]], base: Loaded) -> dict[Split, Examples]:
        """Encoded once: the runs of a group differ in neither rows nor lengths."""
        if self._together.splits is None:
            self._together.splits = super()._splits(rows, base)
        return dict(self._together.splits)

    def _rates(self) -> DeviceRates:
        if self._together.rates is None:
            self._together.rates = super()._rates()
        return self._together.rates


def run_group(
    jobs: Sequence[TrainJob],
    sinks: Sequence[ProgressSink],
    ended: Callable[[int, RunResult | BaseException, GroupedAttempt | None], None],
) -> None:
    """Run jobs of the same base model, rows and shapes as one group, and report the end of each by its place: the
    result, or the exception that ended it, with the attempt if it began."""
    device = choose_device(jobs[0].device)
    together = Together(device, len(jobs), jobs[0].claimed_at)

    def log(line: str) -> None:
        for sink in sinks:
            sink.log(line)

    def work(place: int) -> Callable[[Member], None]:
        def attempt(member: Member) -> None:
            attempt: GroupedAttempt | None = None
            try:
                attempt = GroupedAttempt(jobs[place], sinks[place], member, together)
                ended(place, attempt.run(), attempt)
            except BaseException as error:
                ended(place, error, attempt)

        return attempt

    Group(device, log).run([work(place) for place in range(len(jobs))])


class _Meter(MemoryMeter):
    """Measures the memory of the whole process, so all members report the same."""

    def __init__(self, device: torch.device) -> None:
        self._begun = False
        super().__init__(device)

    def begin(self) -> None:
        """Count from the first member's beginning."""
        if not self._begun:
            self._begun = True
            super().begin()


class _NoLedgers(Ledgers):
    """A joint pass has several owners."""

    def following(self, *arguments: Any) -> Any:
        return nullcontext()
