"""Events of fine-tuning jobs in OpenAI's form: lines of the run's log, and the metrics of its steps."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.runs.result import STEP_DTYPE, Steps
from app.features.openai_jobs.tables import FineTuningJobRow
from app.store.runs import events, steps
from app.store.tables import RunEventRow, RunRow
from app.words.i18n import stored

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


class JobEvents:
    """The events of a job, the newest first, of which only those of a page are made: a run may have 100,000 steps."""

    def __init__(self, session: Session, job: FineTuningJobRow, run: RunRow | None) -> None:
        self._job = job
        self._lines: Sequence[RunEventRow] = events.last(session, run.id, limit=LOG_LINES) if run else ()
        self._steps: Steps = steps.read(session, run.id) if run else np.empty(0, dtype=STEP_DTYPE)
        begun = (run.started_at or run.queued_at).timestamp() if run else 0.0
        self._times = np.concatenate([[row.at.timestamp() for row in self._lines], begun + self._steps["seconds"]])
        places = np.concatenate([[row.id for row in self._lines], self._steps["step"]])  # among those of one time
        self._order: NDArray[np.int64] = np.lexsort((places, self._times))[::-1]
        """Indices into the lines and, behind them, the steps."""

    def page(self, after: str, limit: int) -> EventList:
        """At most so many events after one, or from the newest on. Raises NotFound without that one."""
        begin, count = self._place(after) + 1 if after else 0, len(self._order) + 1
        chosen = [self._event(int(index)) for index in self._order[begin : begin + limit]]
        if len(chosen) < limit and begin < count:
            chosen.append(self._created)
        return EventList(data=chosen, has_more=begin + limit < count)

    def _place(self, event_id: str) -> int:
        if event_id == self._created.id:
            return len(self._order)
        lines = {f"ftevent-{row.id}": index for index, row in enumerate(self._lines)}
        index = lines.get(event_id)
        number = event_id.removeprefix("ftevent-step-")
        if index is None and number != event_id and number.isascii() and number.isdecimal() and len(number) < 12:
            found = np.flatnonzero(self._steps["step"] == int(number))
            index = len(self._lines) + int(found[0]) if len(found) else None
        if index is None:
            raise NotFound(_("There is no event %(id)s of this job.", id=event_id[:60]))
        return int(np.flatnonzero(self._order == index)[0])

    def _event(self, index: int) -> JobEvent:
        at = int(self._times[index])
        if index < len(self._lines):
            row = self._lines[index]
            message = stored(row.message)
            return JobEvent(id=f"ftevent-{row.id}", created_at=at, level="info", message=message, type="message")
        step, loss, rate = self._steps[["step", "loss", "learning_rate"]][index - len(self._lines)].item()
        return JobEvent(
            id=f"ftevent-step-{step}",
            created_at=at,
            level="info",
            message=f"Step {step}: training loss={loss:.4f}",
            type="metrics",
            data={"step": step, "train_loss": loss, "learning_rate": rate},
        )

    @property
    def _created(self) -> JobEvent:
        """The oldest event."""
        return JobEvent(
            id=f"ftevent-job-{self._job.id}",
            created_at=int(self._job.created_at.timestamp()),
            level="info",
            message=f"Created fine-tuning job: ftjob-{self._job.id}",
            type="message",
        )
