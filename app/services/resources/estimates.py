"""Estimates: ask for a prediction once, claim it, note the answer, and copy it to the runs that it is of.

One is worked on at a time, and who is done rings for the next. So the backlog lies in the database and not in the
broker's queue, where the sweep would have to wait behind it, and one warm process (`worker.estimation.host`) does them
all.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.domain.data.previews import Preview, PreviewRequest
from app.domain.resources.estimate import DeviceKind, EstimateRequest, MapRequest, MemoryMap, ResourceEstimate, of_run
from app.domain.runs.spec import RunSpec
from app.queue import ESTIMATE, Doorbell
from app.services.models import reference_of
from app.services.workers import REMEMBER as REMEMBER_WORKERS
from app.store.queries import base_models, datasets, estimates, runs, workers
from app.store.queries.estimates import GivenUp
from app.store.session import after_commit
from app.store.tables import BaseModelRow, DatasetRow, EstimateRow, RunRow, WorkerRow, now

Request = EstimateRequest | PreviewRequest | MapRequest
KINDS = {EstimateRequest: "run", PreviewRequest: "preview", MapRequest: "map"}
ESTIMATE_SECONDS = 60.0
MAP_SECONDS = 300.0
"""An estimate that takes longer is given up."""
START_SECONDS = 120.0
"""What a fresh process may take on top, to import the ML libraries beside a run that has the cores."""
SLACK_SECONDS = 30.0
"""A claim this much older than that is of a worker that was lost."""
AGAIN = timedelta(minutes=10)
"""What failed so long ago is tried again when it is asked for: a hub may have been away."""
REMEMBER = timedelta(days=30)
"""An estimate that no run is held against is kept so long."""


def wanted(session: Session, bell: Doorbell, request: Request) -> EstimateRow:
    """The estimate of a request; whoever asks first has it worked out, the others share it."""
    return all_wanted(session, bell, [request])[request.key]


def all_wanted(session: Session, bell: Doorbell, requests: Iterable[Request]) -> dict[str, EstimateRow]:
    """The estimates of several requests, by key."""
    by_key = {request.key: request for request in requests}
    found = estimates.by_keys(session, by_key)
    at = now()
    for key, request in by_key.items():
        row = found.get(key)
        if row is None:
            new = EstimateRow(
                key=key, kind=KINDS[type(request)], request_json=request.model_dump(mode="json"), rung_at=at
            )
            found[key] = estimates.insert(session, new)
        elif row.status == "failed" and (row.started_at or row.created_at) < at - AGAIN:
            row.status, row.message, row.rung_at = "queued", "", at
        else:
            continue
        _ring(session, bell, found[key].id)
    return found


def begin(session: Session, estimate_id: int) -> EstimateRow | None:
    """Claim an estimate. None if it is done, or somebody is at it, or at another: who is done rings for it."""
    at = now()
    if not estimates.begin(session, estimate_id, at, given_up(at)):
        return None
    row = estimates.get(session, estimate_id)
    session.refresh(row)
    return row


def ready(
    session: Session, bell: Doorbell, claimed: EstimateRow, answer: ResourceEstimate | Preview | MemoryMap
) -> bool:
    """Note an answer, and copy it to its runs. False if the claim was given up meanwhile; then nothing is written."""
    written = estimates.end(session, claimed, "ready", result_json=answer.model_dump(mode="json"), message="")
    if written and isinstance(answer, ResourceEstimate):
        estimates.fill_in(session, claimed.id, answer)
    _ring_for_next(session, bell)
    return written


def failed(session: Session, bell: Doorbell, claimed: EstimateRow, message: str) -> bool:
    """Note why there is no answer: a sentence. False if the claim was given up meanwhile."""
    written = estimates.end(session, claimed, "failed", message=message.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    _ring_for_next(session, bell)
    return written


def ring_again(session: Session, bell: Doorbell, at: datetime, rung_before: datetime) -> None:
    """Ring for an estimate that waits and whose ring was lost, and forget old ones. The sweep does this."""
    if row := estimates.next_waiting(session, given_up(at), rung_before):
        estimates.rung(session, [row.id], at)
        _ring(session, bell, row.id)
    estimates.forget(session, at - REMEMBER)


def for_submitted(session: Session, bell: Doorbell, run: RunRow, model: BaseModelRow, dataset: DatasetRow) -> None:
    """Have a queued run predicted for the worker that would probably take it; without a worker its claim will."""
    seen = workers.all_seen(session, now() - REMEMBER_WORKERS)
    able = [worker for worker in seen if run.spec.method.needs <= set(worker.capabilities)]
    if able:
        worker = max(able, key=lambda row: row.heartbeat_at)
        _attach(session, bell, run, request_of(run.spec, model, dataset, worker.device, worker.bf16))


def for_claimed(session: Session, bell: Doorbell, run_id: int, worker: WorkerRow | None) -> None:
    """Have a run predicted for the device that it is made on."""
    run = runs.get(session, run_id)
    model, dataset = base_models.by_id(session, run.base_model_id), datasets.by_id(session, run.dataset_id)
    if model and dataset and worker:
        _attach(session, bell, run, request_of(run.spec, model, dataset, worker.device, worker.bf16))


def request_of(
    spec: RunSpec, model: BaseModelRow, dataset: DatasetRow, device: str, device_bf16: bool
) -> EstimateRequest:
    """What a run's prediction follows from. Raises ValueError for a device of a kind that is not known."""
    return of_run(
        spec,
        location=reference_of(model.source, model.location),
        revision=model.pinned if model.source == "hub" else "",
        fingerprint=model.pinned,
        labels=len(dataset.facts.labels),
        dataset_file=dataset.file,
        dataset_format=dataset.facts.format,
        dataset_hash=dataset.content_hash,
        device=kind_of(device),
        device_bf16=device_bf16,
    )


def kind_of(device: str) -> DeviceKind:
    """Of a worker's device: `cuda` for `cuda:0`."""
    return "cuda" if device.startswith("cuda") else "cpu"


def given_up(at: datetime) -> GivenUp:
    """Since when a claim must be for somebody still to be at it."""
    spare = START_SECONDS + SLACK_SECONDS
    return GivenUp(
        run=at - timedelta(seconds=ESTIMATE_SECONDS + spare), map=at - timedelta(seconds=MAP_SECONDS + spare)
    )


def _attach(session: Session, bell: Doorbell, run: RunRow, request: EstimateRequest) -> None:
    row = wanted(session, bell, request)
    found = row.prediction
    run.estimate_id = row.id
    run.estimated_bytes = found.peak_bytes if found else None
    run.estimated_flops = float(found.train_flops) if found else None
    session.flush()


def _ring_for_next(session: Session, bell: Doorbell) -> None:
    if row := estimates.next_waiting(session, given_up(now())):
        _ring(session, bell, row.id)


def _ring(session: Session, bell: Doorbell, estimate_id: int) -> None:
    after_commit(session, lambda: bell.ring(ESTIMATE, estimate_id))
