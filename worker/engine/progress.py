"""What an attempt tells while it works, and how it hears that it should stop."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from app.domain.models.weight_delta import WeightDeltas
from app.domain.runs.result import Evaluation, StepMetrics
from app.domain.runs.status import Phase
from worker.engine.clocks import ClockName, Stopwatch
from worker.engine.memory.ledger import Ledgers
from worker.engine.memory.measured import MemoryMeter


class Stopped(Exception):
    """The attempt was asked to stop, and did so between two steps."""


class ProgressSink(Protocol):
    """Where reports go. The engine calls it a few times a second at most, so a sink need not buffer."""

    def phase(self, phase: Phase, total_steps: int | None = None) -> None:
        """A phase begins; `total_steps` once it is known."""

    def download(self, done_bytes: int, total_bytes: int) -> None:
        """How far the base model's download is."""

    def steps(self, steps: Sequence[StepMetrics]) -> None:
        """Optimizer steps, in order, each once."""

    def evaluation(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        """A finished evaluation; on the test split, items and their scores from 0 to 1 in the metric of the verdict."""

    def log(self, message: str) -> None:
        """A line for the run's log."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """A checkpoint of so many steps lies in a folder; whoever wants to keep it moves it away before the one
        after the next is written."""

    def weight_deltas(self, weight_deltas: WeightDeltas) -> None:
        """What training did to each matrix."""

    def raise_if_stopped(self) -> None:
        """Raise `Stopped` if somebody asked for it. Called before every batch: must cost nothing."""


@dataclass(frozen=True)
class Instruments:
    """What follows an attempt through its phases."""

    sink: ProgressSink
    clocks: Stopwatch
    memory: MemoryMeter
    evaluations: list[Evaluation] = field(default_factory=list)
    """All of the attempt's, in order."""
    ledgers: Ledgers = field(default_factory=Ledgers)

    def enter(self, phase: Phase, total_steps: int | None = None) -> None:
        """Begin a phase: tell the sink, start its clock, and measure its own peak of memory."""
        self.sink.phase(phase, total_steps)
        self.memory.enter(phase.value)
        self.clocks.enter(_CLOCK[phase])

    def evaluated(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        """Keep an evaluation for the result, and tell the sink."""
        self.evaluations.append(evaluation)
        self.sink.evaluation(evaluation, items, scores)


_CLOCK: dict[Phase, ClockName] = {
    Phase.DOWNLOAD: "download",
    Phase.LOAD: "load",
    Phase.TOKENIZE: "tokenize",
    Phase.BASELINE: "baseline",
    Phase.TRAIN: "data",  # the loop itself divides it further
    Phase.EVALUATE: "evaluate",
    Phase.SAVE: "save",
}
