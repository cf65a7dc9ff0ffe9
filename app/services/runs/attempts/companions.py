"""Claiming runs that train together: the first one as any run, then others of its arm.

A group is limited by the study's `train_together`, by the memory of the worker's device, and by what leaves every idle
worker and free GPU an equal number of runs. A run whose estimate is not ready trains alone, and so does one that was
claimed before. Trials whose budget is a time train alone: a shared time is no budget.
"""

from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.resources.estimate import EstimateRequest
from app.domain.runs.together import MOST_MEMBERS, can_train_together, most_members, same_shapes
from app.services.resources.calibration import Calibrations
from app.services.resources.devices import of_worker
from app.services.runs.attempts.claiming import Claim, claim
from app.store.resources import devices, estimates
from app.store.runs import events
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow, StudyRow
from app.store.workers import clock, queue
from app.store.workers import queries as workers


def claim_companions(session: Session, leader: Claim, lease_seconds: float) -> list[Claim]:
    """Claim the runs that train together with a claimed one, on its devices. Empty if it trains alone."""
    run = runs.get(session, leader.run_id)
    if run.study_id is None or run.epoch > 1 or not _permitted(studies.get(session, run.study_id), run):
        return []
    if not can_train_together(run.spec):
        return []
    limit = min(MOST_MEMBERS, _fitting(session, run, leader.worker))
    if limit < 2:
        return []
    waiting = [row for row in queue.lock_companions(session, run) if same_shapes(row.spec, run.spec)]
    idle = workers.idle(session, clock.now(session) - timedelta(seconds=lease_seconds))
    share = -(-(1 + len(waiting)) // (1 + idle))  # the leader has its worker or GPU by now
    claims = [
        companion
        for row in waiting[: min(limit, share) - 1]
        if (companion := claim(session, row.id, leader.worker, lease_seconds, beside=leader)) is not None
    ]
    members = [leader, *claims] if claims else []
    for member in members:
        others = ", ".join(str(other.run_id) for other in members if other is not member)
        events.add(session, member.run_id, "log", f"trains together with {others} in one process, on one base model")
        runs.write(session, member.run_id, member.epoch, shared_seconds=0.0)
    return claims


def pass_on(session: Session, ended: Claim, going_on: Claim) -> None:
    """Before a member of a group ends: another one has the worker and its GPUs."""
    devices.pass_on(session, ended.run_id, ended.epoch, to_run_id=going_on.run_id, to_epoch=going_on.epoch)
    workers.occupy(session, going_on.worker, going_on.run_id)


def _permitted(study: StudyRow, run: RunRow) -> bool:
    """The study lets such a run train with others. Where it lets none, its spec is not validated at every claim."""
    which = study.spec_json.get("train_together", "none")
    if run.trial_round is None or which == "none":
        return bool(which == "trials_and_seeds")
    return study.spec.tuning.unit != "seconds"


def _fitting(session: Session, run: RunRow, worker: str) -> int:
    """How many such runs fit into the memory of the worker's device; 1 where that is not known."""
    signed_on = workers.get(session, worker)
    row = estimates.get(session, run.estimate_id) if run.estimate_id else None
    if signed_on is None or row is None or row.estimate is None or not isinstance(row.request, EstimateRequest):
        return 1
    device, request = of_worker(signed_on), row.request
    if device.usable_bytes is None:
        return 1
    constants = Calibrations(session).of(device, request.bf16, request.task, request.method.kind)
    return most_members(row.estimate, device.usable_bytes, constants.constant_bytes + constants.band_bytes)
