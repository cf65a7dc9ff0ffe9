"""The queue as a user sees it: in which order its runs will start as things are now, and why.

The order is what workers would choose (`services.scheduling`) if every run took the device time that it reserves. Runs
that a user may not see are in it without a name, so that the others' positions are right.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.orm import Session

from app.domain.resources.device_time import ASSUMED_SECONDS
from app.domain.runs.listing.queue import Priority
from app.services.workers.scheduling import Shares
from app.store.database.ownership import viewer_of
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow
from app.store.users import queries as users
from app.store.workers import queue
from app.store.workers.queue import WaitingRun


class Turn(StrEnum):
    """Why a run is where it is."""

    FIRST = "first"
    """Next, since it is the first in the only queue."""
    SHARE = "share"
    """Next, since its owner used the least device time recently."""
    RAISED = "raised"
    """Next, since its priority is high."""
    LOW = "low"
    """After all others, since its priority is low."""
    LIMIT = "limit"
    """It waits for another run of its owner to end: no more may run at once."""
    PAUSED = "paused"
    """Not before it is resumed."""
    LATER = "later"
    """It waits for its turn."""


@dataclass(frozen=True)
class QueueEntry:
    position: int | None
    """From 1; None while it is paused."""
    run: RunRow | None
    """None: a run that the viewer may not see."""
    owner: str
    """Name or e-mail address; empty without an owner, and for a run that the viewer may not see."""
    study_name: str
    priority: Priority
    turn: Turn
    may_change: bool
    """The viewer may pause and move it."""

    @property
    def paused(self) -> bool:
        """It is not started before it is resumed."""
        return self.turn is Turn.PAUSED


@dataclass(frozen=True)
class QueueView:
    """The first entries of the queue, then paused runs."""

    entries: Sequence[QueueEntry]
    waiting: int
    paused: int


def view(session: Session, *, limit: int) -> QueueView:
    """The queue: at most so many waiting runs, then at most as many paused ones."""
    waiting = queue.first_of_each(session, limit)
    user_ids = {run.owner_id for run in waiting if run.owner_id is not None}
    shares = Shares.of(session, user_ids)
    order = in_order(waiting, shares)[:limit]
    resting = queue.paused(session, limit)
    shown = {run.id: run for run in (*runs.listed(session, [run.run_id for run, _turn in order]), *resting)}
    names = users.names(session) if user_ids or any(run.owner_id for run in resting) else {}
    titles = studies.names(session, {run.study_id for run in shown.values() if run.study_id})
    viewer = viewer_of(session)

    def entry(position: int | None, run: RunRow | None, precedence: int, turn: Turn) -> QueueEntry:
        return QueueEntry(
            position,
            run,
            owner=names.get(run.owner_id or 0, "") if run else "",
            study_name=titles.get(run.study_id or 0, "") if run else "",
            priority=Priority.of(precedence),
            turn=turn,
            may_change=run is not None and (viewer is None or viewer.may_change(run.owner_id)),
        )

    entries = [
        entry(number, shown.get(run.run_id), run.precedence, turn) for number, (run, turn) in enumerate(order, 1)
    ]
    entries += [entry(None, run, run.precedence, Turn.PAUSED) for run in resting]
    return QueueView(entries, *queue.counts(session))


def in_order(waiting: Sequence[WaitingRun], shares: Shares) -> list[tuple[WaitingRun, Turn]]:
    """Runs in the order in which they would start. `waiting`: each owner's in the order of its queue."""
    queues: dict[int | None, deque[WaitingRun]] = {}
    for run in waiting:
        queues.setdefault(run.owner_id, deque()).append(run)
    several, seconds = len(queues) > 1, dict[int | None, float](shares.seconds.items())
    room = {owner: shares.rooms.get(owner) if owner is not None else None for owner in queues}
    order: list[tuple[WaitingRun, Turn]] = []
    while queues:
        full = {owner for owner in queues if (left := room[owner]) is not None and left <= 0}
        owner = min(queues.keys() - full or queues, key=lambda o: _key(queues[o][0], seconds))
        run = queues[owner].popleft()
        order.append((run, _turn(run, owner in full, several, is_next=not order)))
        seconds[owner] = seconds.get(owner, 0.0) + (run.reserved or ASSUMED_SECONDS)
        if (left := room[owner]) is not None:
            room[owner] = left - 1
        if not queues[owner]:
            del queues[owner]
    return order


def _key(run: WaitingRun, seconds: dict[int | None, float]) -> tuple[int, float, int]:
    return run.precedence, seconds.get(run.owner_id, 0.0), run.run_id


def _turn(run: WaitingRun, full: bool, several: bool, *, is_next: bool) -> Turn:
    priority = Priority.of(run.precedence)
    if full:
        return Turn.LIMIT
    if is_next and priority is Priority.HIGH:
        return Turn.RAISED
    if is_next:
        return Turn.SHARE if several else Turn.FIRST
    return Turn.LOW if priority is Priority.LOW else Turn.LATER
