"""The progress of a run that is queued or running: its phases with their clocks, its steps, the time left."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from app.domain.runs.status import RunStatus
from app.services.runs.log import PHASES
from app.store.tables import RunEventRow, RunRow, now
from app.words.i18n import gettext as _
from app.words.runs.metrics import title, written
from app.words.runs.phases import PHASE_HEADINGS, PHASE_LABELS

PhaseState = Literal["done", "current", "ahead"]

PHASE_OF_MESSAGE = {message: phase.value for phase, message in PHASES.items()}


@dataclass(frozen=True)
class RunLive:
    """A run that is queued or running."""

    run: RunRow
    events: Sequence[RunEventRow]
    queue_position: int | None
    """From 1; None once it has started."""

    @property
    def phase(self) -> str:
        return "queue" if self.run.status == RunStatus.QUEUED else self.run.phase or "start"

    @property
    def heading(self) -> str:
        return _(PHASE_HEADINGS[self.phase])

    @property
    def resumes_from(self) -> int | None:
        """The step of the checkpoint from which its next attempt resumes; None if it starts over, or has started."""
        return self.run.checkpoints[-1].step if self.phase == "queue" and self.run.checkpoints else None

    @property
    def download(self) -> tuple[int, int] | None:
        """Bytes of the base model fetched so far, and in total."""
        return self.run.download if self.phase == "download" else None

    @property
    def epoch(self) -> int | None:
        """The current pass over the training split, from 1."""
        if not self.run.total_steps:
            return None
        epochs = self.run.spec.training.num_train_epochs
        return min(int(self.run.step / self.run.total_steps * epochs) + 1, max(1, round(epochs)))

    @property
    def seconds_left(self) -> float | None:
        """Estimated, of the training."""
        return self.run.eta_seconds if self.phase == "train" else None

    @property
    def validation(self) -> str:
        """`validation accuracy 84.3 %`; empty before the first validation, and for a metric of generated text."""
        if self.run.validation_score is None:
            return ""
        metric = self.run.spec.verdict_metric
        value = written(metric, self.run.validation_score)
        return _("validation %(metric)s %(value)s", metric=title(metric), value=value)

    @property
    def phases(self) -> list[tuple[str, PhaseState, float | None]]:
        """Name, state and clock so far of each; without a download where the worker already had the base model."""
        seconds = _seconds_by_phase(self.run, self.events)
        names = [name for name in PHASE_LABELS if name != "download" or name == self.phase or name in seconds]
        current = names.index(self.phase)
        phases: list[tuple[str, PhaseState, float | None]] = []
        for place, name in enumerate(names):
            state: PhaseState = "done" if place < current else "current" if place == current else "ahead"
            phases.append((_(PHASE_LABELS[name]), state, seconds.get(name) if place <= current else None))
        return phases


def _seconds_by_phase(run: RunRow, events: Sequence[RunEventRow]) -> dict[str, float]:
    """How long each phase of this attempt took, or has taken so far."""
    if run.started_at is None or run.status == RunStatus.QUEUED:
        return {"queue": (now() - run.queued_at).total_seconds()}
    entered: list[tuple[str, datetime]] = [("queue", run.queued_at), ("start", run.started_at)]
    entered += [
        (PHASE_OF_MESSAGE[event.message], event.at)
        for event in events
        if event.kind == "phase" and event.at >= run.started_at and event.message in PHASE_OF_MESSAGE
    ]
    seconds: dict[str, float] = {}
    for (name, begin), (_next, end) in pairwise([*entered, ("", now())]):
        seconds[name] = seconds.get(name, 0.0) + max(0.0, (end - begin).total_seconds())
    return seconds
