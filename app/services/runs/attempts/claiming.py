"""Claiming: a worker takes a queued run for a new attempt, and receives everything that it needs to execute it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy.orm import Session

from app.domain.models.base_model import ModelFile
from app.domain.resources.devices import DeviceKind
from app.domain.runs.checkpoint import StoredCheckpoint
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.domain.tasks import Format
from app.services.resources.devices import kind_of
from app.services.users import limits
from app.services.workers.workers import unable
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.resources import devices
from app.store.runs import artifacts, evaluations, events, steps, weight_deltas
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import DatasetRow, RunRow, WorkerRow, now
from app.store.workers import clock, queue
from app.store.workers import queries as workers


class DeviceClock:
    """Device-seconds of an attempt: the time since its claim, times its devices. In a group a run has its share of the
    group's time instead (`worker.training.supervisor`)."""

    def __init__(self, devices: int) -> None:
        self._devices, self._began = devices, time.monotonic()
        self.share: Callable[[], float] | None = None
        """Seconds of a run that trains in a group."""

    @property
    def device_seconds(self) -> float:
        """So far."""
        seconds = self.share() if self.share else time.monotonic() - self._began
        return seconds * self._devices


UNASSIGNED = (
    "Not executed by {worker}: it has GPUs, but its pool gives none to a run. Start it without -P, or with -P prefork."
)
AT_LIMIT = "Waiting for another run to end: its owner may have no more at the same time."
PROGRESS = (
    "phase",
    "total_steps",
    "train_loss",
    "train_seconds",
    "memory_bytes",
    "validation_score",
    "downloaded_bytes",
    "download_bytes",
)
"""Columns of a run that are empty when an attempt begins."""


@dataclass(frozen=True)
class Attempt:
    """One execution of a run by a worker."""

    run_id: int
    epoch: int
    worker: str
    clock: DeviceClock | None = field(default=None, compare=False, kw_only=True)
    """Of the worker that executes it; None elsewhere: then its time is that of its last report."""


@dataclass(frozen=True)
class Claim(Attempt):
    """A run that this worker executes, with everything that it needs."""

    spec: RunSpec
    model_source: str
    model_location: str
    model_revision: str
    model_files: list[ModelFile]
    """The files that a run needs of a model on the hub."""
    hub_user: int | None
    """The run's owner, if the model opens to a user's hub token only."""
    dataset_file: str
    """Name in the files store."""
    dataset_format: Format
    labels: list[str]
    trial: bool
    """A trial of a learning rate, which never reads the test split."""
    general_file: str | None
    """Name in the files store of the text on which forgetting is measured."""
    checkpoints: tuple[StoredCheckpoint, ...]
    """Of earlier attempts, oldest first."""
    claimed_at: datetime
    device: DeviceKind | Literal["auto"]
    """What the worker signed on with. `auto` only if it never did: a worker's GPU that is lost must not make its runs
    train on the CPU."""
    gpus: tuple[str, ...] = ()
    """UUIDs of the GPUs that the attempt has; empty on a CPU."""


def claim(
    session: Session,
    run_id: int,
    worker: str,
    lease_seconds: float,
    gpus: Sequence[str] | None = None,
    count: int = 1,
    beside: Claim | None = None,
) -> Claim | None:
    """Take a queued run for a new attempt, and with it `count` of the worker's `gpus` (UUIDs, the preferred first;
    None on a CPU), which no other attempt has until this one ends. A run that trains `beside` another one of the same
    worker takes none: it has the other's.

    None if there is nothing to claim: the run is running, is paused, has ended, or does not exist. Also None if the
    method needs a capability that this worker lacks, too few of its GPUs are free, or it has GPUs and `gpus` is None,
    or as many runs of its owner as may are executed; the run stays queued, and its log says why.
    """
    at = now()
    run = runs.find(session, run_id)
    if run is None or run.status != RunStatus.QUEUED or run.paused:
        return None
    signed_on = workers.get(session, worker)
    if missing := unable(session, worker, run.spec.needed):
        events.add_once(session, run_id, "log", missing)
        return None
    if beside is None and gpus is None and signed_on and signed_on.devices_json:
        events.add_once(session, run_id, "log", UNASSIGNED.format(worker=worker))
        return None
    if not limits.may_start(session, run.owner_id):
        session.refresh(run)  # meanwhile another worker may have it
        if run.status == RunStatus.QUEUED:
            events.add_once(session, run_id, "log", AT_LIMIT)
        return None
    count = max(count, run.spec.training.devices)
    broken = {gpu.uuid for gpu in signed_on.devices if gpu.problem} if signed_on else set()
    working = [uuid for uuid in gpus or () if uuid not in broken]
    taken_gpus = devices.lock_free(session, working, count)
    if gpus is not None and len(taken_gpus) < count:
        if queue.to_ring(session, run_id):
            events.add_once(session, run_id, "log", waiting(worker, len(working), count))
        return None
    taken = runs.move(
        session,
        run_id,
        RunStatus.QUEUED,
        RunStatus.RUNNING,
        ~RunRow.paused,
        worker=worker,
        lease_expires_at=clock.now(session) + timedelta(seconds=lease_seconds),
        started_at=at,
        step=0,
        **dict.fromkeys(PROGRESS),
        epoch=RunRow.epoch + 1,
        attempts=RunRow.attempts + 1,
        reported=0,
        attempt_seconds=0.0,
    )
    if not taken:
        return None
    session.refresh(run)
    given = devices.take(session, taken_gpus, run_id=run_id, epoch=run.epoch, worker=worker)
    assert given == len(taken_gpus)  # noqa: S101 their rows are locked
    for table in (steps, evaluations, artifacts, weight_deltas):
        table.clear(session, run_id)
    if beside is None:
        workers.occupy(session, worker, run_id)
    on = "".join(f", {uuid}" for uuid in (beside.gpus if beside else taken_gpus))
    events.add(session, run_id, "status", f"claimed by {worker}, attempt {run.epoch}{on}")
    own = beside.gpus if beside else tuple(taken_gpus)
    model = base_models.by_id(session, run.base_model_id)
    dataset = datasets.by_id(session, run.dataset_id)
    general = _general_text(session, run)
    assert model is not None and dataset is not None  # noqa: S101 foreign keys hold them
    return Claim(
        run_id=run.id,
        epoch=run.epoch,
        worker=worker,
        spec=run.spec,
        model_source=model.source,
        model_location=model.location,
        model_revision=model.pinned,
        model_files=model.facts.files if model.source == "hub" and model.facts else [],
        hub_user=run.owner_id if model.restricted else None,
        dataset_file=dataset.file,
        dataset_format=dataset.facts.format,
        labels=dataset.facts.labels,
        trial=run.trial_round is not None,
        general_file=general.file if general else None,
        checkpoints=run.checkpoints,
        claimed_at=run.started_at or now(),
        device=beside.device if beside else _device(signed_on, gpus),
        gpus=own,
        clock=DeviceClock(max(run.spec.training.devices, len(own))),
    )


def waiting(worker: str, has: int, count: int) -> str:
    """A line for the log of a run on `count` GPUs: what it waits for, after a worker with `has` working ones has
    refused it."""
    if count > has > 0:
        return f"Waiting for a worker with {count} GPUs: {worker} has {has}."
    if count > 1:
        return f"Waiting for {count} GPUs: {worker} has fewer that are free."
    return f"Waiting for a GPU: {worker} has none that is free."


def _device(worker: WorkerRow | None, gpus: Sequence[str] | None) -> DeviceKind | Literal["auto"]:
    if gpus is not None:
        return "cuda"
    return kind_of(worker.device) if worker else "auto"


def _general_text(session: Session, run: RunRow) -> DatasetRow | None:
    """The version of the text for forgetting that was current when the run, or its whole study, was submitted."""
    if not run.spec.general_text:
        return None
    submitted_at = studies.get(session, run.study_id).created_at if run.study_id is not None else run.queued_at
    return datasets.as_of(session, run.spec.general_text, submitted_at)
