"""Freeing what an attempt has: its GPUs and its worker."""

from functools import partial

from sqlalchemy.orm import Session

from app.queue import TRAIN, Doorbell
from app.services.runs.attempts.claiming import Attempt
from app.store.database.session import after_commit
from app.store.resources import devices
from app.store.workers import clock, queue
from app.store.workers import queries as workers


def release(session: Session, bell: Doorbell, attempt: Attempt) -> None:
    """Free the GPUs and the worker of an attempt, and ring for as many runs that found no free GPU. The worker's row
    comes last, as in a claim, so that neither waits for the other."""
    freed = devices.release(session, attempt.run_id, attempt.epoch)
    refused = queue.unrung(session, limit=freed) if freed else []
    queue.rung(session, refused, clock.now(session))
    for refused_id in refused:
        after_commit(session, partial(bell.ring, TRAIN, refused_id))
    workers.release(session, attempt.worker, attempt.run_id)
