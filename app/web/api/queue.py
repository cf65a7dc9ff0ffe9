"""The queue over REST: its order, and changes of one's own runs and studies in it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.runs.listing.queue import Priority, QueueChange
from app.services.workers import queue_order, queue_view
from app.services.workers.queue_view import QueueEntry, Turn
from app.web.http.dependencies import Bell, Db, Reading, RowId
from app.web.http.errors import problems

router = APIRouter(prefix="/queue", tags=["queue"])
SHOWN = 100


class QueueEntryOut(BaseModel):
    """A run in the queue."""

    position: int | None
    """From 1, in the order in which runs start as things are now; null while it is paused."""
    run_id: int | None
    """Null: a private run of another user."""
    study_id: int | None
    owner: str
    """Name or e-mail address; empty without an owner, and for a private run of another user."""
    priority: Priority
    turn: Turn
    """Why it is there. `first`, `share` and `raised`: it is next, as the first in the only queue, because its owner
    used the least device time of the last 7 days, or because its priority is high. `limit`: its owner runs as many at
    once as permitted. `low`: it has a low priority. `paused`. `later`: it waits for its turn."""
    may_change: bool
    """The user of the request may pause and move it."""

    @classmethod
    def of(cls, entry: QueueEntry) -> "QueueEntryOut":
        return cls(
            position=entry.position,
            run_id=entry.run.id if entry.run else None,
            study_id=entry.run.study_id if entry.run else None,
            owner=entry.owner,
            priority=entry.priority,
            turn=entry.turn,
            may_change=entry.may_change,
        )


class QueueOut(BaseModel):
    """The first entries of the queue, then paused runs."""

    waiting: int
    paused: int
    entries: list[QueueEntryOut]


@router.get("", operation_id="getQueue")
def get(session: Reading, limit: Annotated[int, Query(ge=1, le=500)] = SHOWN) -> QueueOut:
    """Runs that wait, in the order in which they start as things are now: by priority, then by the device time that
    their owners used, then by the order of the owner. Then paused runs; there are at most `limit` of each."""
    return _queue(session, limit)


@router.patch("/{noun}/{row_id}", operation_id="changeQueue", responses=problems(404, 409, 422))
def change(
    db: Db,
    bell: Bell,
    noun: Literal["runs", "studies"],
    row_id: RowId,
    change: Annotated[QueueChange, Body()],
) -> QueueOut:
    """Pause, resume, move or prioritize a run, or the runs of a study that have not ended. A running run that is paused
    stops at a checkpoint and continues from it. Only the owner and admins may; a high priority needs an admin."""
    act = queue_order.change_run if noun == "runs" else queue_order.change_study

    def changed(session: Session) -> QueueOut:
        act(session, bell, row_id, change)
        return _queue(session, SHOWN)

    return db.write(changed)


def _queue(session: Session, limit: int) -> QueueOut:
    view = queue_view.view(session, limit=limit)
    return QueueOut(waiting=view.waiting, paused=view.paused, entries=[QueueEntryOut.of(e) for e in view.entries])
