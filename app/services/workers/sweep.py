"""The sweep: ends expired leases, and rings again for lost work. Nothing else notices a loss."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.orm import Session

from app.broker.queue import INSPECT, TRAIN, Doorbell
from app.domain.failures import FAILURES, FailureCode
from app.domain.runs.status import RunStatus
from app.services.data import ingestion
from app.services.hooks import hooks
from app.services.models import models
from app.services.resources import estimates
from app.services.runs.attempts import Attempt, back_to_queue, end
from app.services.studies import tuning
from app.services.users import login
from app.services.workers import ringing
from app.services.workers.workers import forget
from app.settings import Settings
from app.store.database.session import after_commit
from app.store.requests import idempotency
from app.store.resources import devices
from app.store.runs import events
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow, now
from app.store.workers import clock, queue
from app.store.workers import queries as workers


@dataclass(frozen=True)
class Swept:
    rung: int
    requeued: int
    ended: int


def sweep(session: Session, bell: Doorbell, settings: Settings) -> Swept:
    """End expired leases, and ring again for waiting work while a worker is idle."""
    at = clock.now(session)
    for study_id in studies.being_tuned(session):  # first: a study is always locked before its runs
        tuning.try_to_advance(session, bell, study_id)
    lost = runs.expired(session, at)
    for run in lost:
        tuning.hold(session, run)
    runs.lock(session, [run.id for run in lost])  # before their worker's row, which each report locks last
    devices.lock_of(session, [run.id for run in lost])  # before any worker's row
    became = [_expire(session, bell, run, at, settings.max_attempts) for run in lost]
    waiting: list[int] = []
    if workers.idle(session, at - timedelta(seconds=settings.lease_seconds)):
        waiting = ringing.to_ring_again(session, at - timedelta(seconds=settings.ring_again_seconds))
        queue.rung(session, waiting, at)
        for run_id in waiting:
            after_commit(session, partial(bell.ring, TRAIN, run_id))
    for model_id in models.to_inspect(session, at):
        after_commit(session, partial(bell.ring, INSPECT, model_id))
    rung_before = at - timedelta(seconds=settings.ring_again_seconds)
    estimates.ring_again(session, bell, at, rung_before)
    ingestion.ring_again(session, bell, at, rung_before)
    for added in hooks():
        for kind in added.work:
            kind.ring_again(session, bell, at, rung_before, settings.max_attempts)
    forget(session)
    idempotency.forget(session, now())
    login.forget(session, now())
    for added in hooks():
        added.sweep(session)
    return Swept(
        len(waiting), became.count(RunStatus.QUEUED), len(became) - became.count(RunStatus.QUEUED) - became.count(None)
    )


def _expire(session: Session, bell: Doorbell, run: RunRow, at: datetime, max_attempts: int) -> RunStatus | None:
    """Take a run from a lost worker, unless its lease was renewed in the meantime. Returns its new status; None if it
    was renewed."""
    attempt = Attempt(run.id, run.epoch, run.worker or "")
    expired = RunRow.lease_expires_at < at
    lost = f"the worker {run.worker} was lost in attempt {run.epoch}"
    if end(session, bell, attempt, RunStatus.CANCELLED, runs.CANCEL_REQUESTED, expired):
        events.add(session, run.id, "status", f"cancelled; {lost}")
        return RunStatus.CANCELLED
    if run.attempts < max_attempts:
        return RunStatus.QUEUED if back_to_queue(session, bell, attempt, lost, expired, counted=True) else None
    failure = {"failure_code": FailureCode.LOST.value, "failure_message": FAILURES[FailureCode.LOST]}
    if end(session, bell, attempt, RunStatus.FAILED, expired, **failure):
        events.add(session, run.id, "status", f"failed, lost: {lost}")
        return RunStatus.FAILED
    return None
