"""What decides when a run starts: columns of runs, and of studies for the runs that they queue."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.runs.listing.queue import NORMAL, Priority

IS_WAITING = text("status = 'queued' AND NOT paused")
"""Condition of a partial index, verbatim and without bound values: otherwise SQLite does not use the index."""
WAITING_RUNS = Index(
    "ix_runs_waiting", "owner_id", "precedence", "place", "id", sqlite_where=IS_WAITING, postgresql_where=IS_WAITING
)


class Queued:
    """A row with a priority that can be paused. Of a study both are those of the runs that it queues from now on."""

    precedence: Mapped[int] = mapped_column(default=NORMAL, server_default=str(NORMAL))
    """Order of its priority (`app.domain.runs.listing.queue`): the least starts first."""
    paused: Mapped[bool] = mapped_column(default=False, server_default=false())
    """No worker takes it; one that has it stops it at a checkpoint."""

    @property
    def priority(self) -> Priority:
        """What starts before what."""
        return Priority.of(self.precedence)


class QueuedRun(Queued):
    place: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Among the waiting runs of its owner and priority, the least first; its id unless the owner moved it."""
    rung_at: Mapped[datetime | None] = mapped_column(default=None)
    """When a worker was last rung for; None: the next sweep rings."""


def as_its_study(study: Queued | None, first: int) -> dict[str, int | bool]:
    """The columns of a run that a study queues, with a precedence of `first` at the earliest."""
    return {"precedence": max(study.precedence, first), "paused": study.paused} if study else {}
