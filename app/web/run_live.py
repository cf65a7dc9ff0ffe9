"""Where a run stands: its phases with their clocks, its steps, what is left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from app.domain.runs.status import RunStatus
from app.services.run_log import PHASES
from app.store.tables import RunEventRow, RunRow, now
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.text.metrics import title, written

Stand = Literal["done", "now", "ahead"]

NAMES = {
    "queue": marked("queue"),
    "start": marked("start"),
    "download": marked("download"),
    "load": marked("load"),
    "tokenize": marked("tokenize"),
    "baseline": marked("untouched"),
    "train": marked("train"),
    "evaluate": marked("evaluate"),
    "save": marked("save"),
}
"""The way of a run, in order."""
SELDOM = "download"
"""Where the worker had the base model, it is not on the way."""
HEADINGS = {
    "start": marked("Starting"),
    "download": marked("Downloading the base model"),
    "load": marked("Loading the base model"),
    "tokenize": marked("Tokenizing"),
    "baseline": marked("Evaluating the untouched model"),
    "train": marked("Training"),
    "evaluate": marked("Evaluating"),
    "save": marked("Saving"),
}
BY_MESSAGE = {message: phase.value for phase, message in PHASES.items()}


@dataclass(frozen=True)
class PhaseLine:
    """A phase and its clock so far."""

    name: str
    stand: Stand
    seconds: float | None


@dataclass(frozen=True)
class RunLive:
    """A run that is queued or at work."""

    heading: str
    place: int | None
    """In the queue; None once it has begun."""
    goes_on_from: int | None
    """The step of the checkpoint at which its next attempt begins; None where it begins anew, or has begun."""
    step: int
    total_steps: int | None
    download: tuple[int, int] | None
    """Bytes that have come, and of how many, while the base model is fetched."""
    epoch: int | None
    epochs: float
    left_seconds: float | None
    """Estimated, of the training."""
    validation: str
    """`validation accuracy 84.3 %`, at the last look; empty before the first, and where it needs generated text."""
    phases: tuple[PhaseLine, ...]
    cancelling: bool
    worker: str | None
    attempt: int

    @classmethod
    def of(cls, row: RunRow, events: Sequence[RunEventRow], place: int | None) -> "RunLive":
        """From the row and its log."""
        phase = "queue" if row.status == RunStatus.QUEUED else row.phase or "start"
        epochs = row.spec.training.num_train_epochs
        seen = row.step / row.total_steps * epochs if row.total_steps else None
        return cls(
            heading=_("Queued") if phase == "queue" else _(HEADINGS[phase]),
            place=place,
            goes_on_from=row.checkpoints[-1].step if phase == "queue" and row.checkpoints else None,
            step=row.step,
            total_steps=row.total_steps,
            download=row.download if phase == "download" else None,
            epoch=min(int(seen) + 1, max(1, round(epochs))) if seen is not None else None,
            epochs=epochs,
            left_seconds=row.eta_seconds if phase == "train" else None,
            validation=_validation(row),
            phases=_lines(row, phase, _spans(row, events)),
            cancelling=row.cancel_requested_at is not None,
            worker=row.worker,
            attempt=row.epoch,
        )


def _validation(row: RunRow) -> str:
    if row.validation_score is None:
        return ""
    metric = row.spec.verdict_metric
    return _("validation %(metric)s %(value)s", metric=title(metric), value=written(metric, row.validation_score))


def _spans(row: RunRow, events: Sequence[RunEventRow]) -> dict[str, float]:
    """Seconds by phase, from when each was entered in this attempt until the next was, or until now."""
    if row.started_at is None or row.status == RunStatus.QUEUED:
        return {"queue": (now() - row.queued_at).total_seconds()}
    entered: list[tuple[str, datetime]] = [("queue", row.queued_at), ("start", row.started_at)]
    entered += [
        (BY_MESSAGE[event.message], event.at)
        for event in events
        if event.kind == "phase" and event.at >= row.started_at and event.message in BY_MESSAGE
    ]
    spans: dict[str, float] = {}
    for (name, begun), (_next, ended) in pairwise([*entered, ("", now())]):
        spans[name] = spans.get(name, 0.0) + max(0.0, (ended - begun).total_seconds())
    return spans


def _lines(row: RunRow, phase: str, spans: Mapping[str, float]) -> tuple[PhaseLine, ...]:
    order = [name for name in NAMES if name != SELDOM or name == phase or name in spans]
    at = order.index(phase)
    stands: list[Stand] = ["done" if i < at else "now" if i == at else "ahead" for i in range(len(order))]
    return tuple(
        PhaseLine(_(NAMES[name]), stand, spans.get(name) if stand != "ahead" else None)
        for name, stand in zip(order, stands, strict=True)
    )
