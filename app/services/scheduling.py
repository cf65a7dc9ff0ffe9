"""Whose run starts next: fair shares of device time among users.

A ring says that there is work, not which. The worker that hears it takes, of the first waiting run of each user, that
of the user with the least device time: used in the last seven days, or reserved by runs that run now. A user at the
limit of concurrent runs, and a run that this worker cannot execute, are passed over, so that they keep no one else's
waiting. Within a user's queue the oldest run is first. Runs without an owner (no login) start as they are rung for.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.accounts.quotas import reserved
from app.domain.runs.status import RunStatus
from app.services import quotas
from app.store.queries import devices, runs, users, workers
from app.store.queries import quotas as queries
from app.store.tables import RunRow, WorkerRow, now

RECENT = timedelta(days=7)
MOST_TRIED = 16
"""Runs that a worker passes over or loses to other workers before it gives up."""


def choose(
    session: Session,
    run_id: int,
    worker: str,
    gpus: Sequence[str] | None = None,
    tried: Collection[int] = (),
) -> int | None:
    """The run that a worker is to claim when it hears a ring for a run; the run itself if there is nothing better. None
    once every candidate was `tried`. `gpus`: UUIDs of the worker's GPUs; None on a CPU."""
    rung = runs.find(session, run_id)
    passed = set(tried)
    if rung is None or rung.owner_id is not None:
        signed_on = workers.get(session, worker)
        capabilities = set(signed_on.capabilities if signed_on else ())
        free = None if gpus is None else len(_working(signed_on, gpus) & devices.free(session))
        while len(passed) < MOST_TRIED and (candidate := _least_share(session, passed)) is not None:
            run = runs.find(session, candidate)
            if run is not None and run.spec.method.needed <= capabilities and _fits(run, free):
                return candidate
            if run is not None and not _fits(run, free):
                runs.to_ring(session, candidate)  # when GPUs are free, if this worker may have them
            passed.add(candidate)
    return None if run_id in tried else run_id


def _working(worker: WorkerRow | None, gpus: Sequence[str]) -> set[str]:
    return set(gpus) - {gpu.uuid for gpu in (worker.devices if worker else ()) if gpu.problem}


def _least_share(session: Session, passed: Collection[int]) -> int | None:
    """Of the users that may start a run, the first waiting one, which is not `passed`, of that with the least device
    time."""
    first = queries.first_queued(session, passed)
    if not first:
        return None
    running: dict[int, int] = {}
    shares = queries.used_seconds(session, list(first), now() - RECENT)
    for run in queries.running_runs(session):
        running[run.owner_id] = running.get(run.owner_id, 0) + 1
        shares[run.owner_id] = shares.get(run.owner_id, 0.0) + reserved(run.reserved, run.charged, run.attempt)
    limits = quotas.limits_of(session, users.some(session, list(first)))
    may_start = [
        (shares.get(owner_id, 0.0), run_id)
        for owner_id, run_id in first.items()
        if (limit := limits[owner_id].concurrent_runs) is None or running.get(owner_id, 0) < limit
    ]
    return min(may_start)[1] if may_start else None


def _fits(run: RunRow, free: int | None) -> bool:
    return run.status == RunStatus.QUEUED and (free is None or run.spec.training.devices <= free)
