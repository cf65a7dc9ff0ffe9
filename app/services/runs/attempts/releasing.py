"""Freeing what an attempt has: its GPUs and its workers."""

from collections.abc import Iterable
from functools import partial

from sqlalchemy.orm import Session

from app.domain.runs.hosts import HostEnd
from app.queue import TRAIN, Doorbell
from app.services.runs.attempts.claiming import Attempt
from app.store.database.session import after_commit
from app.store.resources import devices
from app.store.runs import hosts as run_hosts
from app.store.tables import RunHostRow
from app.store.workers import clock, queue
from app.store.workers import queries as workers


def free_workers(session: Session, bell: Doorbell, run_id: int, epoch: int, names: Iterable[str]) -> None:
    """Free an attempt's GPUs on some workers and these workers, and ring for as many runs that found no free GPU. The
    workers' rows come last, as in a claim, so that neither waits for the other."""
    freed = sum(devices.release(session, run_id, epoch, name) for name in names)
    refused = queue.unrung(session, limit=freed) if freed else []
    queue.rung(session, refused, clock.now(session))
    for refused_id in refused:
        after_commit(session, partial(bell.ring, TRAIN, refused_id))
    for name in names:
        workers.release(session, name, run_id)


def release(session: Session, bell: Doorbell, attempt: Attempt) -> None:
    """Free the GPUs and the worker of an attempt, and of its further hosts those that have not joined. One that has
    frees its own when its processes are gone (`hosts.leave`), or the sweep does (`hosts.expire`)."""
    freed = [attempt.worker]
    for row in run_hosts.of_attempt(session, attempt.run_id, attempt.epoch):
        here = row.worker == attempt.worker
        unjoined = RunHostRow.lease_expires_at.is_(None)
        ended: HostEnd = "done" if here else "released"
        if run_hosts.end(session, attempt.run_id, attempt.epoch, row.worker, ended, unjoined) and not here:
            freed.append(row.worker)
    free_workers(session, bell, attempt.run_id, attempt.epoch, sorted(freed))
