"""Estimates: request one, claim it, store the answer, and copy it to its runs.

One estimate is in progress at a time, and the worker that finishes it rings for the next. The backlog therefore stays
in the database: in the broker's queue the sweep would wait behind it. One warm process (`worker.estimation.host`)
computes all estimates.

runs teach about the device.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.broker.queue import ESTIMATE, Doorbell
from app.domain.data.baselines import BaselineRequest
from app.domain.data.previews import PreviewRequest
from app.domain.resources.computations import Computation
from app.domain.resources.estimate import EstimateRequest, MapRequest, ResourceEstimate
from app.domain.resources.memory_fit import Moment, StoredEstimate
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.services.resources.calibration import Calibrations
from app.services.resources.devices import kind_of, of_worker
from app.services.resources.requests import run_request
from app.services.workers.workers import REMEMBER as REMEMBER_WORKERS
from app.store.data import queries as datasets
from app.store.database.messages import as_stored
from app.store.database.session import Database, after_commit
from app.store.models import queries as base_models
from app.store.resources import estimates
from app.store.runs import queries as runs
from app.store.tables import BaseModelRow, DatasetRow, EstimateRow, RunRow, WorkerRow
from app.store.workers import clock
from app.store.workers import queries as workers


def store(session: Session, run: RunRow, row: EstimateRow, worker: WorkerRow, moment: Moment) -> None:
    """Store what a run's estimate says of a worker's device, unless that was stored or is not ready."""
    request, estimate = row.request, row.estimate
    if estimate is None or not isinstance(request, EstimateRequest):
        return
    device = of_worker(worker)
    if moment == "ended" and run.device_name:
        device = device.model_copy(update={"device_name": run.device_name})
    earlier = run.stored_estimates
    if earlier and (earlier[-1].estimate_id, earlier[-1].device.device_name) == (row.id, device.device_name):
        return
    bands = Calibrations(session, without=run.id).bands(device, request, estimate)
    stored = StoredEstimate(
        estimate_id=row.id,
        stored_at=clock.now(session),
        moment=moment,
        device=device,
        **bands._asdict(),
    )
    run.stored_estimates_json = [*(run.stored_estimates_json or ()), stored.model_dump(mode="json")]
    session.flush()


Request = EstimateRequest | PreviewRequest | MapRequest | BaselineRequest | Computation
KINDS = {
    EstimateRequest: "run",
    PreviewRequest: "preview",
    MapRequest: "map",
    BaselineRequest: "baseline",
}
SILENT_SECONDS = 180.0
"""A claim without a heartbeat for this long is a lost worker's; files are fetched before the first one."""
AGAIN = timedelta(minutes=10)
"""A failed estimate that is older is retried when it is requested: a hub may have been unreachable."""
SOON = timedelta(seconds=10)
"""The same after an internal error; an open page that asks again and again does not repeat it at once."""
REMEMBER = timedelta(days=30)
"""How long an estimate without runs is kept."""


def kind_of_request(request: Request) -> str:
    """As its estimate has it."""
    return request.feature if isinstance(request, Computation) else KINDS[type(request)]


class Report(Protocol):
    """An answer that may be incomplete."""

    @property
    def settled(self) -> bool: ...

    @property
    def unrequested(self) -> int:
        """Estimates to request."""


Answer = TypeVar("Answer", bound=Report)


def read_or_request(db: Database, bell: Doorbell, make: Callable[[Session, Doorbell | None], Answer]) -> Answer:
    """A report; if estimates are missing, request them. Raises what `make` raises."""
    with db.reading() as session:
        report = make(session, None)
    return request(db, bell, make) if report.unrequested else report


def request(db: Database, bell: Doorbell, make: Callable[[Session, Doorbell | None], Answer]) -> Answer:
    """A report that requests what is missing."""
    with db.transaction() as session:
        return make(session, bell)


def wanted(session: Session, bell: Doorbell, request: Request) -> EstimateRow:
    """The estimate of a request. The first request starts it; the same request later shares it."""
    return all_wanted(session, bell, [request])[request.key]


def all_wanted(session: Session, bell: Doorbell, requests: Iterable[Request]) -> dict[str, EstimateRow]:
    """The estimates of several requests, by key."""
    by_key = {request.key: request for request in requests}
    rows = estimates.by_keys(session, by_key)
    at = clock.now(session)
    for key, request in by_key.items():
        row = rows.get(key)
        if row is None:
            new = EstimateRow(
                key=key, kind=kind_of_request(request), request_json=request.model_dump(mode="json"), rung_at=at
            )
            rows[key] = estimates.insert(session, new)
        elif row.status == "failed" and again_at(row) < at:
            row.status, row.message, row.internal, row.rung_at = "queued", "", False, at
        else:
            continue
        _ring(session, bell, rows[key].id)
    return rows


def again_at(row: EstimateRow) -> datetime:
    """When a failed estimate can be requested again."""
    return (row.seen_at or row.created_at) + (SOON if row.internal else AGAIN)


def known(session: Session, keys: Iterable[str]) -> dict[str, EstimateRow]:
    """The estimates that exist, by key, without internal errors that may be tried again: those are no answer."""
    at = clock.now(session)
    rows = estimates.by_keys(session, keys)
    return {
        key: row for key, row in rows.items() if not (row.status == "failed" and row.internal and again_at(row) < at)
    }


def begin(session: Session, estimate_id: int) -> EstimateRow | None:
    """Claim an estimate. None if it is done, or if it or another one is in progress, whose end rings for it."""
    at = clock.now(session)
    if not estimates.begin(session, estimate_id, at, _silent_since(at)):
        return None
    row = estimates.get(session, estimate_id)
    session.refresh(row)
    return row


def heartbeat(session: Session, claimed: EstimateRow) -> datetime | None:
    """Write that a claimed estimate is being computed; the claim's `seen_at` from then on. None if it has expired."""
    at = clock.now(session)
    return at if estimates.beat(session, claimed, at) else None


def ready(session: Session, bell: Doorbell, claimed: EstimateRow, answer: BaseModel) -> bool:
    """Store an answer, and copy it to its runs. False if the claim has expired; then nothing is written."""
    written = estimates.end(session, claimed, "ready", result_json=answer.model_dump(mode="json"), message="")
    if written and isinstance(answer, ResourceEstimate):
        estimates.fill_in(session, claimed.id, answer)
        _store_for_runs(session, claimed.id)
    _ring_for_next(session, bell)
    return written


def failed(session: Session, bell: Doorbell, claimed: EstimateRow, message: str, *, internal: bool = False) -> bool:
    """Store why there is no answer: a sentence. `internal`: the error is Vezna's. False if the claim has expired."""
    written = estimates.end(session, claimed, "failed", message=as_stored(message), internal=internal)
    _ring_for_next(session, bell)
    return written


def give_back(session: Session, claimed: EstimateRow) -> None:
    """Let another worker compute an estimate whose worker shuts down."""
    estimates.give_back(session, claimed)


def ring_again(session: Session, bell: Doorbell, at: datetime, rung_before: datetime) -> None:
    """Ring for an estimate whose ring was lost, and delete old ones. The sweep does this."""
    if row := estimates.next_waiting(session, _silent_since(at), rung_before):
        estimates.rung(session, [row.id], at)
        _ring(session, bell, row.id)
    estimates.forget(session, at - REMEMBER)


def for_submitted(session: Session, bell: Doorbell, run: RunRow, model: BaseModelRow, dataset: DatasetRow) -> None:
    """Request a queued run's estimate for the device of the worker that will probably take it; without a worker its
    claim does."""
    if worker := likely_worker(session, run.spec):
        _attach(session, bell, run, model, dataset, worker, "submission")


def likely_worker(session: Session, spec: RunSpec) -> WorkerRow | None:
    """The worker that will probably take a run: of those that can, the one with the newest heartbeat."""
    recent = workers.all_seen(session, clock.now(session) - REMEMBER_WORKERS)
    capable = [worker for worker in recent if spec.needed <= set(worker.capabilities)]
    return max(capable, key=lambda row: row.heartbeat_at, default=None)


def for_claimed(session: Session, bell: Doorbell, run_id: int, worker: WorkerRow | None) -> None:
    """Request a run's estimate for the device that it runs on."""
    run = runs.get(session, run_id)
    model, dataset = base_models.by_id(session, run.base_model_id), datasets.by_id(session, run.dataset_id)
    if model and dataset and worker:
        _attach(session, bell, run, model, dataset, worker, "claim")


def _attach(
    session: Session,
    bell: Doorbell,
    run: RunRow,
    model: BaseModelRow,
    dataset: DatasetRow,
    worker: WorkerRow,
    moment: Moment,
) -> None:
    request = run_request(run.spec, model, dataset, run.owner_id).on_device(kind_of(worker.device), worker.bf16)
    row = wanted(session, bell, request)
    estimate = row.estimate
    run.estimate_id = row.id
    run.estimated_bytes = estimate.peak_bytes if estimate else None
    run.estimated_flops = float(estimate.train_flops) if estimate else None
    session.flush()
    store(session, run, row, worker, moment)


def _store_for_runs(session: Session, estimate_id: int) -> None:
    """Store for each of its runs what an estimate that has just become ready says; the runs are locked."""
    row = estimates.get(session, estimate_id)
    session.refresh(row)
    for run in estimates.runs_of(session, estimate_id):
        worker = workers.get(session, run.worker) if run.worker else likely_worker(session, run.spec)
        if worker is not None:
            store(session, run, row, worker, _moment(run))


def _moment(run: RunRow) -> Moment:
    if RunStatus(run.status).terminal:
        return "ended"
    return "running" if run.epoch else "submission"


def _ring_for_next(session: Session, bell: Doorbell) -> None:
    if row := estimates.next_waiting(session, _silent_since(clock.now(session))):
        _ring(session, bell, row.id)


def _silent_since(at: datetime) -> datetime:
    return at - timedelta(seconds=SILENT_SECONDS)


def _ring(session: Session, bell: Doorbell, estimate_id: int) -> None:
    after_commit(session, lambda: bell.ring(ESTIMATE, estimate_id))
