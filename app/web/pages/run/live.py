"""The progress of a run that is queued or running: its phases with their clocks, its steps, the time left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from app.domain.runs.status import RunStatus
from app.services.run_log import PHASES
from app.store.tables import RunEventRow, RunRow, now
from app.web.i18n import gettext as _
from app.web.text.metrics import title, written
from app.web.text.phases import PHASE_HEADINGS, PHASE_LABELS

PhaseState = Literal["done", "current", "ahead"]

PHASE_OF_MESSAGE = {message: phase.value for phase, message in PHASES.items()}


@dataclass(frozen=True)
class PhaseLine:
    """A phase and its clock so far."""

    name: str
    state: PhaseState
    seconds: float | None


@dataclass(frozen=True)
class RunLive:
    """A run that is queued or running."""

    phase: str
    queue_position: int | None
    """From 1; None once it has started."""
    resumes_from: int | None
    """The step of the checkpoint from which its next attempt resumes; None if it starts over, or has started."""
    download: tuple[int, int] | None
    """Bytes of the base model fetched so far, and in total."""
    epoch: int | None
    epochs: float
    seconds_left: float | None
    """Estimated, of the training."""
    validation: str
    """`validation accuracy 84.3 %`; empty before the first validation, and where the metric needs generated text."""
    phases: tuple[PhaseLine, ...]

    @property
    def heading(self) -> str:
        """What the run is doing."""
        return _(PHASE_HEADINGS[self.phase])

    @classmethod
    def of(cls, run: RunRow, events: Sequence[RunEventRow], queue_position: int | None) -> "RunLive":
        """From the row and its log."""
        phase = "queue" if run.status == RunStatus.QUEUED else run.phase or "start"
        epochs = run.spec.training.num_train_epochs
        done = run.step / run.total_steps * epochs if run.total_steps else None
        return cls(
            phase=phase,
            queue_position=queue_position,
            resumes_from=run.checkpoints[-1].step if phase == "queue" and run.checkpoints else None,
            download=run.download if phase == "download" else None,
            epoch=min(int(done) + 1, max(1, round(epochs))) if done is not None else None,
            epochs=epochs,
            seconds_left=run.eta_seconds if phase == "train" else None,
            validation=_validation(run),
            phases=_phases(phase, _seconds_by_phase(run, events)),
        )


def _validation(run: RunRow) -> str:
    if run.validation_score is None:
        return ""
    metric = run.spec.verdict_metric
    return _("validation %(metric)s %(value)s", metric=title(metric), value=written(metric, run.validation_score))


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


def _phases(current: str, seconds: Mapping[str, float]) -> tuple[PhaseLine, ...]:
    """Without a download where the worker already had the base model."""
    names = [name for name in PHASE_LABELS if name != "download" or name == current or name in seconds]
    at, lines = names.index(current), []
    for place, name in enumerate(names):
        state: PhaseState = "done" if place < at else "current" if place == at else "ahead"
        lines.append(PhaseLine(_(PHASE_LABELS[name]), state, seconds.get(name) if place <= at else None))
    return tuple(lines)
