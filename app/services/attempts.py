"""The life of an attempt as its worker sees it: claim, report, finish, fail, hand back. Lost workers: `sweep.py`.

Every change of state is one compare-and-set UPDATE, and every write is fenced by the attempt's epoch.
A call for an attempt that is no longer the run's raises `Fenced`: its caller has nothing more to write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.domain.errors import VeznaError
from app.domain.failures import Failure
from app.domain.models.base_model import ModelFile
from app.domain.runs.checkpoint import KEPT, StoredCheckpoint
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
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.domain.tasks import Format
from app.queue import TRAIN, Doorbell
from app.services import tuning
from app.services.run_log import PHASES, numbers, weight_deltas_summary
from app.services.workers import unable
from app.store.queries import (
    artifacts,
    base_models,
    datasets,
    evaluations,
    events,
    runs,
    steps,
    studies,
    weight_deltas,
    workers,
)
from app.store.session import after_commit
from app.store.tables import ArtifactRow, RunRow, now


class Fenced(VeznaError):
    """The run has passed on to another attempt, or has ended."""


@dataclass(frozen=True)
class Attempt:
    """One execution of a run, and whose it is."""

    run_id: int
    epoch: int
    worker: str


@dataclass(frozen=True)
class Claim(Attempt):
    """A run that this worker may execute, and what it needs for it."""

    spec: RunSpec
    model_source: str
    model_location: str
    model_revision: str
    model_files: list[ModelFile]
    """What a run needs of a hub's model."""
    dataset_file: str
    """Name in the files store."""
    dataset_format: Format
    labels: list[str]
    trial: bool
    """It tries a learning rate, and leaves the test split alone."""
    general_file: str | None
    """The same for the text on which forgetting is measured."""
    checkpoints: tuple[StoredCheckpoint, ...]
    """What earlier attempts have left to go on from, oldest first."""
    claimed_at: datetime


@dataclass(frozen=True)
class Orders:
    """What the database answers to a report."""

    cancel: bool
    """Someone wants the run cancelled."""
    drain: bool
    """The worker was told to stop: hand the run back."""


def claim(session: Session, run_id: int, worker: str, lease_seconds: float) -> Claim | None:
    """Take a queued run for a new attempt. None if there is nothing to claim: it runs, has ended, or never was; or if
    its method needs what this worker cannot do, and it waits for one that can, as its log then says."""
    at = now()
    wanted = runs.find(session, run_id)
    if wanted is None or wanted.status != RunStatus.QUEUED:
        return None
    if waits_for := unable(session, worker, wanted.spec.method.needs):
        events.add_once(session, run_id, "log", waits_for)
        return None
    taken = runs.move(
        session,
        run_id,
        RunStatus.QUEUED,
        RunStatus.RUNNING,
        worker=worker,
        lease_expires_at=at + timedelta(seconds=lease_seconds),
        started_at=at,
        phase=None,
        step=0,
        total_steps=None,
        train_loss=None,
        train_seconds=None,
        memory_bytes=None,
        validation_score=None,
        downloaded_bytes=None,
        download_bytes=None,
        **runs.next_attempt(),
    )
    if not taken:
        return None
    run = runs.get(session, run_id)
    session.refresh(run)
    steps.clear(session, run_id)
    evaluations.clear(session, run_id)
    artifacts.clear(session, run_id)
    weight_deltas.clear(session, run_id)
    workers.occupy(session, worker, run_id)
    events.add(session, run_id, "status", f"claimed by {worker}, attempt {run.epoch}")
    model = base_models.by_id(session, run.base_model_id)
    dataset = datasets.by_id(session, run.dataset_id)
    general = datasets.as_of(session, run.spec.general_text, _asked_at(session, run)) if run.spec.general_text else None
    assert model is not None and dataset is not None  # noqa: S101 foreign keys hold them
    return Claim(
        run_id=run_id,
        epoch=run.epoch,
        worker=worker,
        spec=run.spec,
        model_source=model.source,
        model_location=model.location,
        model_revision=model.pinned,
        model_files=model.facts.files if model.source == "hub" and model.facts else [],
        dataset_file=dataset.file,
        dataset_format=dataset.facts.format,
        labels=dataset.facts.labels,
        trial=run.trial_round is not None,
        general_file=general.file if general else None,
        checkpoints=run.checkpoints,
        claimed_at=at,
    )


def _asked_at(session: Session, run: RunRow) -> datetime:
    """When a run was asked for: one of a study, whose runs all have the same data, with the study."""
    return studies.get(session, run.study_id).created_at if run.study_id is not None else run.queued_at


def report(session: Session, claimed: Claim, number: int, reports: Sequence[Report], lease_seconds: float) -> Orders:
    """Renew the lease and write the attempt's report of that number, once. Raises Fenced.

    Numbers rise from 1. A report that was written already, because only the answer to its commit was lost, renews the
    lease and nothing else.
    """
    at = now()
    values: dict[str, Any] = {"lease_expires_at": at + timedelta(seconds=lease_seconds)}
    for item in reports:
        match item:
            case PhaseReport():
                values["phase"] = item.phase.value
                if item.total_steps is not None:
                    values["total_steps"] = item.total_steps
            case DownloadReport():
                values |= {"downloaded_bytes": item.done_bytes, "download_bytes": item.total_bytes}
            case StepsReport() if item.steps:
                last = item.steps[-1]
                values |= {
                    "step": last.step,
                    "train_loss": last.loss,
                    "train_seconds": last.seconds,
                    "memory_bytes": last.memory_bytes,
                }
            case EvaluationReport(evaluation=found) if found.split == "validation":
                values["validation_score"] = found.score
            case _:
                pass
    lease = {"lease_expires_at": values["lease_expires_at"]}
    if runs.write(session, claimed.run_id, claimed.epoch, runs.not_reported(number), reported=number, **values):
        for item in reports:
            _keep(session, claimed.run_id, item)
        done = [step for item in reports if isinstance(item, StepsReport) for step in item.steps]
        steps.append(session, claimed.run_id, to_array(done))
    elif not runs.write(session, claimed.run_id, claimed.epoch, **lease):
        raise _fenced(claimed)
    workers.beat(session, claimed.worker, at)
    return Orders(
        cancel=runs.cancel_requested(session, claimed.run_id), drain=workers.draining(session, claimed.worker)
    )


def _keep(session: Session, run_id: int, item: Report) -> None:
    match item:
        case PhaseReport():
            events.add(session, run_id, "phase", PHASES[item.phase])
        case EvaluationReport():
            found = item.evaluation
            evaluations.add(session, run_id, found, item.items, item.scores)
            whose = "untouched model" if found.subject == "base" else f"step {found.step}"
            events.add(
                session,
                run_id,
                "evaluation",
                f"{whose}: {found.split} {numbers(found)}, {found.n} items",
            )
        case LogReport():
            events.add(session, run_id, "log", item.message)
        case WeightDeltasReport():
            weight_deltas.add(session, run_id, item.weight_deltas)
            if said := weight_deltas_summary(item.weight_deltas):
                events.add(session, run_id, "log", said)
        case _:
            pass


def checkpoint_prefix(run_id: int) -> str:
    """The folder of a run's checkpoints in the files store."""
    return f"runs/{run_id}/checkpoints"


def checkpointed(session: Session, claimed: Claim, stored: StoredCheckpoint) -> list[StoredCheckpoint]:
    """Note a stored checkpoint; returns those that are older than the last two and not needed any more.

    Raises Fenced.
    """
    run = runs.get(session, claimed.run_id)
    every = [*(c for c in run.checkpoints if c.prefix != stored.prefix), stored]
    kept = [c.model_dump() for c in every[-KEPT:]]
    if not runs.write(session, claimed.run_id, claimed.epoch, checkpoints_json=kept):
        raise _fenced(claimed)
    events.add(session, claimed.run_id, "log", f"checkpoint of step {stored.step} stored")
    return every[:-KEPT]


def finish(session: Session, bell: Doorbell, claimed: Claim, result: RunResult, stored: dict[str, str]) -> None:
    """Write a result, once. `stored` gives each artifact's place in the files store. Raises Fenced."""
    test, base = (None if claimed.trial else result.evaluation(subject, "test") for subject in ("adapted", "base"))
    train = result.clocks.train
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
        peak_bytes=result.memory.peak_bytes,
        train_seconds=train,
        wall_seconds=result.clocks.wall,
        artifact_bytes=result.artifact_bytes,
        tokens_per_second=result.tokens / train if train else None,
        device_name=result.environment.device_name,
        precision=result.environment.precision,
        libraries=result.environment.libraries,
        result_json=result.model_dump(mode="json"),
    )
    if not ended:
        raise _fenced(claimed)
    found = result.environment
    workers.measured(session, claimed.worker, found.matmul_flops, bf16=found.precision == "bf16")
    for file in result.artifacts:
        session.add(
            ArtifactRow(
                run_id=claimed.run_id,
                name=file.name,
                kind=file.kind,
                bytes=file.bytes,
                sha256=file.sha256,
                file=stored[file.name],
            )
        )
    reached = f": test {numbers(test)}" if test else ""
    events.add(session, claimed.run_id, "status", f"succeeded{reached}")


def fail(session: Session, bell: Doorbell, claimed: Claim, failure: Failure) -> None:
    """End a run as failed. Raises Fenced."""
    message = failure.message.replace("\0", "\N{REPLACEMENT CHARACTER}")
    held = failure.ledger.model_dump(mode="json") if failure.ledger else None
    told = {"failure_code": failure.code.value, "failure_message": message, "failure_ledger_json": held}
    if not end(session, bell, claimed, RunStatus.FAILED, **told):
        raise _fenced(claimed)
    events.add(session, claimed.run_id, "status", f"failed, {failure.code}: {message}")


def stop(session: Session, bell: Doorbell, claimed: Claim) -> None:
    """End a run that was cancelled while it ran. Raises Fenced."""
    if not end(session, bell, claimed, RunStatus.CANCELLED):
        raise _fenced(claimed)
    events.add(session, claimed.run_id, "status", "cancelled")


def hand_back(session: Session, bell: Doorbell, claimed: Claim, why: str) -> None:
    """Queue a run again because its worker stops; this attempt does not count. Raises Fenced."""
    if not back_to_queue(session, bell, claimed, why, counted=False):
        _end_if_cancelled(session, bell, claimed)


def retry(session: Session, bell: Doorbell, claimed: Claim, failure: Failure, max_attempts: int) -> None:
    """Try a run again whose trainer was ended from outside, or fail it when it was tried often enough.

    Raises Fenced.
    """
    if runs.get(session, claimed.run_id).attempts >= max_attempts:
        fail(session, bell, claimed, failure)
    elif not back_to_queue(session, bell, claimed, failure.message, counted=True):
        _end_if_cancelled(session, bell, claimed)


def back_to_queue(
    session: Session, bell: Doorbell, lost: Attempt, why: str, *conditions: runs.Condition, counted: bool
) -> bool:
    """Queue a running run again and ring for it, unless someone wants it cancelled.

    False if the attempt is no longer the run's, or it is to be cancelled, or a condition does not hold.
    """
    moved = runs.move(
        session,
        lost.run_id,
        RunStatus.RUNNING,
        RunStatus.QUEUED,
        runs.in_attempt(lost.epoch),
        runs.cancel_not_wanted(),
        *conditions,
        phase=None,
        lease_expires_at=None,
        rung_at=now(),
        **({} if counted else runs.uncounted_attempt()),
    )
    if moved:
        workers.release(session, lost.worker, lost.run_id)
        events.add(session, lost.run_id, "status", f"queued again: {why}")
        after_commit(session, lambda: bell.ring(TRAIN, lost.run_id))
    return moved


def end(
    session: Session, bell: Doorbell, lost: Attempt, status: RunStatus, *conditions: runs.Condition, **values: Any
) -> bool:
    """End an attempt in a terminal state; of a trial, queue what follows from it. False if it is no longer the run's,
    or a condition does not hold."""
    run = runs.get(session, lost.run_id)
    tuning.hold(session, run)
    values = {"phase": None, "lease_expires_at": None, "finished_at": now(), **values}
    ended = runs.move(
        session, lost.run_id, RunStatus.RUNNING, status, runs.in_attempt(lost.epoch), *conditions, **values
    )
    if ended:
        workers.release(session, lost.worker, lost.run_id)
        steps.compact(session, lost.run_id)
        tuning.trial_ended(session, bell, run)
    return ended


def _end_if_cancelled(session: Session, bell: Doorbell, claimed: Claim) -> None:
    if not end(session, bell, claimed, RunStatus.CANCELLED, runs.cancel_wanted()):
        raise _fenced(claimed)
    events.add(session, claimed.run_id, "status", "cancelled")


def _fenced(claimed: Claim) -> Fenced:
    return Fenced(f"run {claimed.run_id} is no longer in attempt {claimed.epoch}")
