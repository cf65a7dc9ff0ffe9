"""Ringing for runs that wait: after the end of an attempt, and again where a ring may be lost."""

from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from app.broker.queue import TRAIN, Doorbell
from app.services.users import limits
from app.store.database.session import after_commit
from app.store.tables import now
from app.store.workers import clock, queue, usage


def settle(session: Session, bell: Doorbell, run_id: int, owner_id: int | None) -> None:
    """In the transaction that ends an attempt: charge its owner, and ring for the run that a limit of the owner may
    have kept."""
    if owner_id is None:
        return
    usage.charge(session, run_id, now())
    if limits.concurrent_runs(session, [owner_id]):
        waiting = queue.next_queued(session, owner_id, limit=1)
        queue.rung(session, waiting, clock.now(session))
        for next_id in waiting:
            after_commit(session, partial(bell.ring, TRAIN, next_id))


def to_ring_again(session: Session, rung_before: datetime, *, lock: bool = True) -> list[int]:
    """Ids of waiting runs for which no worker was rung since a time, as many of each user as may start."""
    rooms = limits.rooms(session, queue.heads(session), usage.running_by_owner(session))
    return queue.to_ring_again(session, rung_before, rooms=rooms, lock=lock)
