"""The hosts of an attempt that trains on several: join, renew, report, end.

The claim of the first host's worker inserts a row for each (`claiming`). That worker has the run's lease, as of any
run; each other one has a lease of its own on its row, which ends with the attempt: with each renewal it learns whether
the run is still in this attempt. It frees its own GPUs once its processes are gone.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.domain.failures import Failure
from app.domain.resources.devices import VisibleGpu
from app.domain.runs.hosts import HostEnd
from app.queue import Doorbell
from app.services.runs.attempts.claiming import Claim, claim_of, shares_of
from app.services.runs.attempts.releasing import free_workers
from app.services.runs.attempts.reporting import Orders, fenced
from app.store.runs import hosts as run_hosts
from app.store.runs import queries as runs
from app.store.tables import RunHostRow
from app.store.workers import clock
from app.store.workers import queries as workers


def publish(session: Session, claimed: Claim, endpoint: str, resumes_from: str | None) -> None:
    """Let the other hosts know where rank 0 is met, and from which checkpoint all resume. Raises Fenced."""
    values = {"endpoint": endpoint, "resumes_from": resumes_from}
    if not run_hosts.write(session, claimed.run_id, claimed.epoch, claimed.worker, **values):
        raise fenced(claimed)


def rendezvous(session: Session, joined: Claim) -> tuple[str, str | None] | None:
    """What the first host has published; None until then."""
    first = run_hosts.of_attempt(session, joined.run_id, joined.epoch)[0]
    return (first.endpoint, first.resumes_from) if first.endpoint else None


def join(session: Session, run_id: int, worker: str, lease_seconds: float) -> Claim | None:
    """Take a worker's part in a run, once. None if there is none for it any more."""
    row = run_hosts.waiting_for(session, run_id, worker)
    run = runs.find(session, run_id)
    if row is None or run is None:
        return None
    rows = run_hosts.of_attempt(session, run_id, row.epoch)
    if any(other.ended for other in rows):
        return None
    expires = clock.now(session) + timedelta(seconds=lease_seconds)
    waiting = RunHostRow.lease_expires_at.is_(None)
    if not run_hosts.write(session, run_id, row.epoch, worker, waiting, lease_expires_at=expires):
        return None
    session.refresh(run)
    workers.occupy(session, worker, run_id)
    return claim_of(session, run, workers.get(session, worker), worker, shares_of(session, rows), host=row.host)


def renew(session: Session, joined: Claim, lease_seconds: float, *, ready: bool) -> Orders:
    """Renew the lease of a further host. Raises Fenced if its attempt has ended, or its lease was taken from it."""
    at = clock.now(session)
    draining = workers.draining(session, joined.worker)
    values = {"lease_expires_at": at + timedelta(seconds=lease_seconds), "ready": ready, "draining": draining}
    if not run_hosts.write(session, joined.run_id, joined.epoch, joined.worker, **values):
        raise fenced(joined)
    workers.beat(session, joined.worker, at)
    return Orders(cancel=False, drain=draining)


def leave(
    session: Session,
    bell: Doorbell,
    joined: Claim,
    ended: HostEnd,
    failure: Failure | None = None,
    lost: tuple[VisibleGpu, ...] = (),
) -> None:
    """Record how the part of a further host has ended, and free its GPUs: its processes are gone, also if its run is.
    No later run takes a GPU that is `lost`."""
    values = {"failure_json": failure.model_dump(mode="json") if failure else None}
    run_hosts.end(session, joined.run_id, joined.epoch, joined.worker, ended, **values)
    free_workers(session, bell, joined.run_id, joined.epoch, [joined.worker])
    workers.see(session, joined.worker, lost)


def expire(session: Session, bell: Doorbell, expired: Sequence[RunHostRow], at: datetime) -> int:
    """End the parts of lost workers, whose rows are locked (`run_hosts.expired`), as their GPUs are. Returns their
    number."""
    late = RunHostRow.lease_expires_at < at
    ended = [row for row in expired if run_hosts.end(session, row.run_id, row.epoch, row.worker, "lost", late)]
    for row in ended:
        free_workers(session, bell, row.run_id, row.epoch, [row.worker])
    return len(ended)
