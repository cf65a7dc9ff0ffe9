"""Reporting and ending: what a worker writes about its attempt until the run has ended or is queued again."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app.broker.queue import TRAIN, Doorbell
from app.domain.errors import VeznaError
from app.domain.failures import Failure
from app.domain.resources.devices import VisibleGpu
from app.domain.runs.checkpoint import KEPT, StoredCheckpoint
from app.domain.runs.ending import Orders
from app.domain.runs.job import (
    DownloadReport,
    EvaluationReport,
    LogReport,
    PhaseReport,
    Report,
    StepsReport,
    WeightDeltasReport,
)
from app.domain.runs.result import RunResult, to_array
from app.domain.runs.status import RunStatus
from app.services.runs import ended as ended_runs
from app.services.runs.attempts.claiming import Attempt, Claim
from app.services.runs.log import PHASES, numbers, weight_deltas_summary
from app.services.studies import tuning
from app.services.workers import ringing
from app.store.database.messages import as_stored
from app.store.database.session import after_commit
from app.store.files.files import run_folder
from app.store.resources import devices
from app.store.runs import evaluations, events, steps, weight_deltas
from app.store.runs import queries as runs
from app.store.tables import ArtifactRow, RunRow, now
from app.store.workers import clock, queue
from app.store.workers import queries as workers


def changed_columns(item: Report) -> dict[str, Any]:
    """The columns of the run that a report changes."""
    match item:
        case PhaseReport(total_steps=None):
            return {"phase": item.phase.value}
        case PhaseReport():
            return {"phase": item.phase.value, "total_steps": item.total_steps}
        case DownloadReport():
            return {"downloaded_bytes": item.done_bytes, "download_bytes": item.total_bytes}
        case StepsReport() if item.steps:
            last = item.steps[-1]
            return {
                "step": last.step,
                "train_loss": last.loss,
                "train_seconds": last.seconds,
                "memory_bytes": last.memory_bytes,
            }
        case EvaluationReport(evaluation=evaluation) if evaluation.split == "validation":
            return {"validation_score": evaluation.score}
        case _:
            return {}


def keep_rows(session: Session, run_id: int, item: Report) -> None:
    """Write a report's rows in other tables, and its line in the log."""
    match item:
        case PhaseReport():
            events.add(session, run_id, "phase", PHASES[item.phase])
        case EvaluationReport(evaluation=evaluation):
            evaluations.add(session, run_id, evaluation, item.items, item.scores)
            model = "base model" if evaluation.subject == "base" else f"step {evaluation.step}"
            line = f"{model}: {evaluation.split} {numbers(evaluation)}, {evaluation.n} items"
            events.add(session, run_id, "evaluation", line)
        case LogReport():
            events.add(session, run_id, "log", as_stored(item.message))
        case WeightDeltasReport():
            weight_deltas.add(session, run_id, item.weight_deltas)
            if line := weight_deltas_summary(item.weight_deltas):
                events.add(session, run_id, "log", line)
        case _:
            pass


def release(session: Session, bell: Doorbell, attempt: Attempt) -> None:
    """Free the GPUs and the worker of an attempt, and ring for as many runs that found no free GPU. The worker's row
    comes last, as in a claim, so that neither waits for the other."""
    freed = devices.release(session, attempt.run_id, attempt.epoch)
    refused = queue.unrung(session, limit=freed) if freed else []
    queue.rung(session, refused, clock.now(session))
    for refused_id in refused:
        after_commit(session, partial(bell.ring, TRAIN, refused_id))
    workers.release(session, attempt.worker, attempt.run_id)


class Fenced(VeznaError):
    """The run is in another attempt, has ended, or was deleted."""


def report(session: Session, claimed: Claim, number: int, reports: Sequence[Report], lease_seconds: float) -> Orders:
    """Renew the lease and write the attempt's report with that number, once. Raises Fenced.

    Numbers ascend from 1. A report that was already written, because only the answer to its commit was lost, renews the
    lease and nothing else.
    """
    at = clock.now(session)
    lease: dict[str, Any] = {"lease_expires_at": at + timedelta(seconds=lease_seconds)}
    if claimed.clock is not None:
        lease["attempt_seconds"] = claimed.clock.device_seconds
    progress = {name: value for item in reports for name, value in changed_columns(item).items()}
    unwritten = RunRow.reported < number
    if runs.write(session, claimed.run_id, claimed.epoch, unwritten, reported=number, **lease, **progress):
        for item in reports:
            keep_rows(session, claimed.run_id, item)
        done = [step for item in reports if isinstance(item, StepsReport) for step in item.steps]
        steps.append(session, claimed.run_id, to_array(done))
    elif not runs.write(session, claimed.run_id, claimed.epoch, **lease):
        raise fenced(claimed)
    workers.beat(session, claimed.worker, at)
    return Orders(
        cancel=runs.cancel_requested(session, claimed.run_id),
        drain=workers.draining(session, claimed.worker),
        pause=queue.pause_requested(session, claimed.run_id),
    )


def checkpoint_prefix(run_id: int) -> str:
    """The folder of a run's checkpoints in the files store."""
    return f"{run_folder(run_id)}/checkpoints"


def checkpointed(session: Session, claimed: Claim, stored: StoredCheckpoint) -> list[StoredCheckpoint]:
    """Record a stored checkpoint. Returns the checkpoints older than the last two, whose files can be removed. Raises
    Fenced."""
    known = _run(session, claimed).checkpoints
    every = [*(c for c in known if c.prefix != stored.prefix), stored]
    kept = [c.model_dump() for c in every[-KEPT:]]
    if not runs.write(session, claimed.run_id, claimed.epoch, checkpoints_json=kept):
        raise fenced(claimed)
    events.add(session, claimed.run_id, "log", f"checkpoint of step {stored.step} stored")
    return every[:-KEPT]


def finish(
    session: Session,
    bell: Doorbell,
    claimed: Claim,
    result: RunResult,
    stored: dict[str, str],
    shared_seconds: float | None = None,
) -> None:
    """Write a result, once. `stored` gives each artifact's place in the files store; `shared_seconds`: its share of a
    group's time, for a run that trained in one and has neither times nor memory of its own. A run that left a group and
    resumed alone has them in its clocks. Raises Fenced."""
    environment = result.environment.model_copy(update={"gpus": list(claimed.gpus)})
    result = result.model_copy(update={"environment": environment})
    test, base = (None if claimed.trial else result.evaluation(subject, "test") for subject in ("adapted", "base"))
    train = result.clocks.train
    own: dict[str, Any] = {
        "peak_bytes": result.memory.peak_bytes,
        "train_seconds": train,
        "wall_seconds": result.clocks.wall,
        "tokens_per_second": result.tokens / train if train else None,
        "shared_seconds": None,
    }
    if result.trained_together > 1:
        seconds = result.clocks.wall if shared_seconds is None else shared_seconds  # None: it ended alone
        own = dict.fromkeys(own) | {"shared_seconds": seconds}
    ended = end(
        session,
        bell,
        claimed,
        RunStatus.SUCCEEDED,
        step=result.steps,
        score=test.score if test else None,
        loss=test.loss if test else None,
        base_score=base.score if base else None,
        trainable_parameters=result.parameters.trainable,
        total_parameters=result.parameters.total,
        artifact_bytes=result.artifact_bytes,
        device_name=environment.device_name,
        precision=environment.precision,
        libraries=environment.libraries,
        result_json=result.model_dump(mode="json"),
        **own,
    )
    if not ended:
        raise fenced(claimed)
    bf16 = environment.precision == "bf16"
    gpu_name = environment.device_name if claimed.gpus else None
    flops, rates = environment.matmul_flops, environment.matmul_rates
    workers.measured(session, claimed.worker, flops, rates, bf16=bf16, gpu_name=gpu_name)
    for file in result.artifacts:
        session.add(ArtifactRow(run_id=claimed.run_id, file=stored[file.name], **file.model_dump()))
    score = f": test {numbers(test)}" if test else ""
    events.add(session, claimed.run_id, "status", f"succeeded{score}")


def fail(
    session: Session, bell: Doorbell, claimed: Claim, failure: Failure, shared_seconds: float | None = None
) -> None:
    """End a run as failed; `shared_seconds`: its share of a group's time. Raises Fenced."""
    message = as_stored(failure.message)
    values = {
        "failure_code": failure.code.value,
        "failure_message": message,
        "failure_ledger_json": failure.ledger.model_dump(mode="json") if failure.ledger else None,
        "failure_requested_bytes": failure.requested_bytes,
        "shared_seconds": shared_seconds,
    }
    if not end(session, bell, claimed, RunStatus.FAILED, **values):
        raise fenced(claimed)
    events.add(session, claimed.run_id, "status", f"failed, {failure.code}: {message}")


def stop(
    session: Session,
    bell: Doorbell,
    claimed: Claim,
    *conditions: runs.Condition,
    shared_seconds: float | None = None,
) -> None:
    """End a run that was cancelled while it was running; `shared_seconds`: its share of a group's time. Raises Fenced,
    also if a condition does not hold."""
    if not end(session, bell, claimed, RunStatus.CANCELLED, *conditions, shared_seconds=shared_seconds):
        raise fenced(claimed)
    events.add(session, claimed.run_id, "status", "cancelled")


def hand_back(session: Session, bell: Doorbell, claimed: Claim, why: str) -> None:
    """Queue a run again because its worker stops or it was paused; this attempt does not count. Raises Fenced."""
    if not back_to_queue(session, bell, claimed, why, counted=False):
        stop(session, bell, claimed, runs.CANCEL_REQUESTED)


def retry(
    session: Session,
    bell: Doorbell,
    claimed: Claim,
    failure: Failure,
    max_attempts: int,
    lost: Sequence[VisibleGpu] = (),
) -> None:
    """Queue a run again whose trainer was killed, or fail it after `max_attempts`; no later run takes a GPU that is
    `lost`. Raises Fenced."""
    if _run(session, claimed).attempts >= max_attempts:
        fail(session, bell, claimed, failure)
    elif not back_to_queue(session, bell, claimed, failure.message, counted=True):
        stop(session, bell, claimed, runs.CANCEL_REQUESTED)
    workers.see(session, claimed.worker, lost)


def back_to_queue(
    session: Session, bell: Doorbell, attempt: Attempt, why: str, *conditions: runs.Condition, counted: bool
) -> bool:
    """Queue a running run again and ring for it, unless it was cancelled.

    False if the run is no longer in this attempt, was cancelled, or a condition does not hold.
    """
    run = runs.find(session, attempt.run_id)
    if run is None:
        return False
    moved = runs.move(
        session,
        attempt.run_id,
        RunStatus.RUNNING,
        RunStatus.QUEUED,
        RunRow.epoch == attempt.epoch,
        ~runs.CANCEL_REQUESTED,
        *conditions,
        phase=None,
        lease_expires_at=None,
        rung_at=clock.now(session),
        attempts=RunRow.attempts - (0 if counted else 1),
        **_device_time(attempt),
    )
    if moved:
        release(session, bell, attempt)
        ringing.settle(session, bell, attempt.run_id, run.owner_id)
        events.add(session, attempt.run_id, "status", f"queued again: {as_stored(why)}")
        if not queue.pause_requested(session, attempt.run_id):
            after_commit(session, lambda: bell.ring(TRAIN, attempt.run_id))
    return moved


def end(
    session: Session, bell: Doorbell, attempt: Attempt, status: RunStatus, *conditions: runs.Condition, **values: Any
) -> bool:
    """End an attempt in a terminal state; after a trial, queue what follows from it.

    False if the run is no longer in this attempt, or a condition does not hold.
    """
    run = runs.find(session, attempt.run_id)
    if run is None:
        return False
    tuning.hold(session, run)
    values = {"phase": None, "lease_expires_at": None, "finished_at": now(), **_device_time(attempt), **values}
    current = RunRow.epoch == attempt.epoch
    ended = runs.move(session, attempt.run_id, RunStatus.RUNNING, status, current, *conditions, **values)
    if ended:
        release(session, bell, attempt)
        ringing.settle(session, bell, attempt.run_id, run.owner_id)
        steps.compact(session, attempt.run_id)
        tuning.trial_ended(session, bell, run)
        ended_runs.note(session, attempt.run_id)
    return ended


def _device_time(attempt: Attempt) -> dict[str, Any]:
    """What an attempt has used at its end: by its worker's clock, or up to its last report if the worker was lost."""
    used = RunRow.attempt_seconds if attempt.clock is None else attempt.clock.device_seconds
    return {"attempt_seconds": used, "charged_seconds": RunRow.charged_seconds + used}


def _run(session: Session, claimed: Claim) -> RunRow:
    if (run := runs.find(session, claimed.run_id)) is None:
        raise fenced(claimed)
    return run


def fenced(claimed: Claim) -> Fenced:
    """The error of a call for an attempt that is no longer the run's."""
    return Fenced(f"run {claimed.run_id} is no longer in attempt {claimed.epoch}")
