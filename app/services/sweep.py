"""The sweep: ends leases that ran out, and rings again for what was lost on the way. Nothing else notices a loss."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from app.domain.runs import FAILURES, FailureCode, RunStatus
from app.queue import INSPECT, TRAIN, Doorbell
from app.services.attempts import back_to_queue
from app.settings import Settings
from app.store.queries import base_models, events, runs, workers
from app.store.session import after_commit
from app.store.tables import RunRow, now


@dataclass(frozen=True)
class Swept:
    """What a sweep did."""

    rung: int
    requeued: int
    ended: int


def sweep(session: Session, bell: Doorbell, settings: Settings) -> Swept:
    """End expired leases, and ring again for what waits while a worker has nothing to do."""
    at = now()
    requeued = ended = 0
    for run in runs.expired(session, at):
        if _expire(session, bell, run, settings.max_attempts):
            requeued += 1
        else:
            ended += 1
    waiting: list[RunRow] = []
    if workers.idle(session, at - timedelta(seconds=settings.lease_seconds)):
        waiting = runs.to_ring_again(session, at - timedelta(seconds=settings.ring_again_seconds))
        runs.rung(session, [run.id for run in waiting], at)
        for run in waiting:
            after_commit(session, partial(bell.ring, TRAIN, run.id))
    for model in base_models.uninspected(session):
        after_commit(session, partial(bell.ring, INSPECT, model.id))
    return Swept(len(waiting), requeued, ended)


def _expire(session: Session, bell: Doorbell, run: RunRow, max_attempts: int) -> bool:
    """Take a run from a worker that was lost. True if it was queued again."""
    lost = f"the worker {run.worker} was lost in attempt {run.epoch}"
    if run.cancel_requested_at is not None:
        if runs.move(
            session, run.id, RunStatus.RUNNING, RunStatus.CANCELLED, of_epoch=run.epoch, finished_at=now(), phase=None
        ):
            events.add(session, run.id, "status", f"cancelled; {lost}")
        return False
    if run.attempts >= max_attempts:
        values = {"failure_code": FailureCode.LOST.value, "failure_message": FAILURES[FailureCode.LOST]}
        if runs.move(
            session,
            run.id,
            RunStatus.RUNNING,
            RunStatus.FAILED,
            of_epoch=run.epoch,
            finished_at=now(),
            phase=None,
            **values,
        ):
            events.add(session, run.id, "status", f"failed, lost: {lost}")
        return False
    return back_to_queue(session, bell, run.id, run.epoch, run.worker or "", lost, counted=True)
