"""The progress reports of an attempt, and the check for a stop request."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from app.domain.models.weight_delta import WeightDeltas
from app.domain.runs.result import Evaluation, StepMetrics
from app.domain.runs.status import Phase
from worker.engine.loop.clocks import ClockName, Stopwatch
from worker.engine.memory.ledger import Ledgers
from worker.engine.memory.measured import MemoryMeter


class Stopped(Exception):
    """The attempt was asked to stop, and did so between two steps."""


class ProgressSink(Protocol):
    """Receives reports. The engine calls it a few times a second at most, so a sink need not buffer."""

    def phase(self, phase: Phase, total_steps: int | None = None) -> None:
        """A phase begins; `total_steps` once it is known."""

    def download(self, done_bytes: int, total_bytes: int) -> None:
        """Progress of the base model's download."""

    def steps(self, steps: Sequence[StepMetrics]) -> None:
        """Optimizer steps, in order, each once."""

    def evaluation(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        """A finished evaluation; for the test split also the items and their scores from 0 to 1 in the primary
        metric."""

    def log(self, message: str) -> None:
        """Write a line to the run's log."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """A checkpoint of this step lies in a folder; to keep it, move it away before the one after the next is
        written."""

    def weight_deltas(self, weight_deltas: WeightDeltas) -> None:
        """The weight delta of each matrix."""

    def raise_if_stopped(self) -> None:
        """Raise `Stopped` if a stop was requested. Called before every batch, so it must cost nothing."""


class Silence:
    """A `ProgressSink` that reports nothing and never stops."""

    def phase(self, phase: Phase, total_steps: int | None = None) -> None: ...

    def download(self, done_bytes: int, total_bytes: int) -> None: ...

    def steps(self, steps: Sequence[StepMetrics]) -> None: ...

    def evaluation(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None: ...

    def log(self, message: str) -> None: ...

    def checkpoint(self, step: int, folder: Path) -> None: ...

    def weight_deltas(self, weight_deltas: WeightDeltas) -> None: ...

    def raise_if_stopped(self) -> None: ...


@dataclass
class Instruments:
    """The clocks, memory meter and sink of an attempt."""

    sink: ProgressSink
    clocks: Stopwatch
    memory: MemoryMeter
    evaluations: list[Evaluation] = field(default_factory=list)
    """All evaluations of the attempt, in order."""
    ledgers: Ledgers = field(default_factory=Ledgers)
    trained_together: int = 1
    """Runs that clocks and memory are of, in this attempt or before the checkpoint from which it resumes."""

    def enter(self, phase: Phase, total_steps: int | None = None) -> None:
        """Begin a phase: report it, start its clock, and measure its own memory peak."""
        self.sink.phase(phase, total_steps)
        self.memory.enter(phase.value)
        self.clocks.enter(_CLOCK[phase])

    def evaluated(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        """Keep an evaluation for the result, and report it."""
        self.evaluations.append(evaluation)
        self.sink.evaluation(evaluation, items, scores)


_CLOCK: dict[Phase, ClockName] = {
    Phase.DOWNLOAD: "download",
    Phase.LOAD: "load",
    Phase.TOKENIZE: "tokenize",
    Phase.BASELINE: "baseline",
    Phase.TRAIN: "data",  # the training loop divides it further
    Phase.EVALUATE: "evaluate",
    Phase.SAVE: "save",
}
