"""Events of fine-tuning jobs in OpenAI's form: lines of the run's log, and the metrics of its steps."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.store.queries import events, steps
from app.store.tables import FineTuningJobRow, RunRow
from app.web.i18n import stored

LOG_LINES = 500


class JobEvent(BaseModel):
    """A line of the log, or the metrics of a step."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, float | None] | None = None


class EventList(BaseModel):
    """Events, the newest first."""

    object: Literal["list"] = "list"
    data: list[JobEvent]
    has_more: bool


def events_of(session: Session, job: FineTuningJobRow, run: RunRow | None) -> Sequence[JobEvent]:
    """The newest first."""
    created = JobEvent(
        id=f"ftevent-job-{job.id}",
        created_at=int(job.created_at.timestamp()),
        level="info",
        message=f"Created fine-tuning job: ftjob-{job.id}",
        type="message",
    )
    if run is None:
        return [created]
    found: list[tuple[float, int, JobEvent]] = []  # with their exact times, and their places among those of one time
    for row in events.last(session, run.id, limit=LOG_LINES):
        line = JobEvent(
            id=f"ftevent-{row.id}",
            created_at=int(row.at.timestamp()),
            level="info",
            message=stored(row.message),
            type="message",
        )
        found.append((row.at.timestamp(), row.id, line))
    begun = (run.started_at or run.queued_at).timestamp()
    array = steps.read(session, run.id)
    columns = zip(*(array[name].tolist() for name in ("step", "loss", "learning_rate", "seconds")), strict=True)
    for step, loss, rate, seconds in columns:
        metrics = JobEvent(
            id=f"ftevent-step-{step}",
            created_at=int(begun + seconds),
            level="info",
            message=f"Step {step}: training loss={loss:.4f}",
            type="metrics",
            data={"step": step, "train_loss": loss, "learning_rate": rate},
        )
        found.append((begun + seconds, step, metrics))
    newest_first = sorted(found, key=lambda timed: timed[:2], reverse=True)
    return [*(event for _time, _place, event in newest_first), created]
