"""Changes of the queue by users: pause, resume, reorder, prioritize, one's own waiting runs and studies.

A change of a study is one of its runs that have not ended, and of those that it queues later; a study goes on once the
last of its paused runs is resumed. Studies are locked before their runs, and runs by id: a move locks the owner's queue
with them. The claim itself compares: whatever is decided here, a worker takes no run that is paused.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app.broker.queue import TRAIN, Doorbell
from app.domain.accounts.audit import Action
from app.domain.errors import Conflict, Invalid
from app.domain.messages import _
from app.domain.runs.listing.queue import QueueChange, require_may_raise
from app.domain.runs.status import RunStatus
from app.services.users import audit
from app.store.database.ownership import require_change, viewer_of
from app.store.database.session import after_commit
from app.store.runs import events
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow, StudyRow
from app.store.workers import clock, queue


def change_run(session: Session, bell: Doorbell, run_id: int, change: QueueChange) -> RunRow:
    """Change when a run starts. Raises NotFound; Forbidden if it is another user's, or the priority needs an admin;
    Conflict if it has ended, or is to move and does not wait; Invalid for another run's place that it cannot have."""
    run = runs.get(session, run_id)
    require_change(session, run)
    require_may_raise(viewer_of(session), change.priority, [run.precedence])
    study = None
    if change.paused is False and run.study_id is not None:
        study = studies.get(session, run.study_id, lock=True)
    if change.moves:
        queue.lock_to_move(session, run.owner_id, run_id=run_id)
    live = queue.live_of(session, run_id=run_id)
    if not live:
        if run.imported:
            raise Conflict(_("Run %(run)s is trained elsewhere, so it waits in no queue here.", run=run_id))
        raise Conflict(_("Run %(run)s has ended, so it waits in no queue.", run=run_id))
    if change.moves and run.status != RunStatus.QUEUED:
        raise Conflict(_("Run %(run)s is running, so it has no place in the queue. You can pause it.", run=run_id))
    _change(session, bell, live, change)
    if study is not None and study.paused:
        study.paused = queue.any_paused(session, study.id)
    audit.record(session, Action.QUEUE_RUN, run_id, **_details(change))
    session.refresh(run)
    return run


def change_study(session: Session, bell: Doorbell, study_id: int, change: QueueChange) -> StudyRow:
    """Change when the runs of a study start, also those that are added after all others have ended. Raises as
    `change_run` does."""
    study = studies.get(session, study_id, lock=True)
    require_change(session, study)
    if change.moves:
        queue.lock_to_move(session, study.owner_id, study_id=study_id)
    live = queue.live_of(session, study_id=study_id)
    require_may_raise(viewer_of(session), change.priority, [study.precedence, *(run.precedence for run in live)])
    if change.moves and not any(run.status == RunStatus.QUEUED for run in live):
        raise Conflict(_("No run of study %(study)s waits, so it has no place in the queue.", study=study_id))
    if change.paused is not None:
        study.paused = change.paused
    if change.priority is not None:
        study.precedence = change.priority.precedence
    session.flush()
    _change(session, bell, live, change)
    audit.record(session, Action.QUEUE_STUDY, study_id, runs=len(live), **_details(change))
    return study


def _change(session: Session, bell: Doorbell, live: Sequence[RunRow], change: QueueChange) -> None:
    """`live`: locked runs of one owner."""
    ids = [run.id for run in live]
    if change.priority is not None:
        queue.set_precedence(session, ids, change.priority.precedence)
        for run in live:
            session.refresh(run)
    if change.moves:
        _move(session, live, change)
    if change.paused is not None:
        _pause(session, bell, [run for run in live if run.paused is not change.paused], change.paused)


def _pause(session: Session, bell: Doorbell, changing: Sequence[RunRow], paused: bool) -> None:
    """Pause runs, or resume them and ring for those that wait."""
    queue.set_paused(session, [run.id for run in changing], paused)
    for run in changing:
        events.add(session, run.id, "status", "paused" if paused else "resumed")
    waiting = [] if paused else [run.id for run in changing if run.status == RunStatus.QUEUED]
    queue.rung(session, waiting, clock.now(session))
    for run_id in waiting:
        after_commit(session, partial(bell.ring, TRAIN, run_id))


def _move(session: Session, live: Sequence[RunRow], change: QueueChange) -> None:
    """Give runs other places among those of their owner and priority; the runs exchange the places that they have."""
    moving = {run.id for run in live if run.status == RunStatus.QUEUED}
    levels = {run.precedence for run in live if run.id in moving}
    if change.before is not None:
        follower = runs.find(session, change.before)
        levels &= {follower.precedence} if follower else set()
        if not levels:
            raise _no_place(change.before)
    for precedence in sorted(levels):
        rows = queue.queued_of(session, live[0].owner_id, precedence)
        order = _reordered([run.id for run in rows], moving, change)
        places = sorted(run.place for run in rows)
        before = {run.id: run.place for run in rows}
        given = dict(zip(order, _distinct(places), strict=True))
        queue.set_places(session, {run_id: place for run_id, place in given.items() if place != before[run_id]})


def _reordered(order: Sequence[int], moving: Collection[int], change: QueueChange) -> list[int]:
    """Ids in another order. Raises Invalid if `change.before` is not among those that stay."""
    moved = [run_id for run_id in order if run_id in moving]
    others = [run_id for run_id in order if run_id not in moving]
    if change.before is None:
        return [*moved, *others] if change.move == "first" else [*others, *moved]
    if change.before in moved:
        raise Invalid.field(
            "before",
            _("Run %(run)s is among those that move", run=change.before),
            _("Choose a waiting run that keeps its place"),
        )
    if change.before not in others:
        raise _no_place(change.before)
    place = others.index(change.before)
    return [*others[:place], *moved, *others[place:]]


def _no_place(before: int) -> Invalid:
    return Invalid.field(
        "before",
        _("Run %(run)s does not wait in this queue", run=before),
        _("Choose a waiting run of the same owner and priority"),
    )


def _distinct(places: Sequence[int]) -> list[int]:
    """Ascending places, each above the one before: runs of an earlier version may share one."""
    distinct: list[int] = []
    for place in places:
        distinct.append(max(place, distinct[-1] + 1) if distinct else place)
    return distinct


def _details(change: QueueChange) -> dict[str, Any]:
    return change.model_dump(mode="json", exclude_none=True)
