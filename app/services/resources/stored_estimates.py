"""What is estimated for a run, stored when it is said. Pages compare the measurement with that, not with what later
runs teach about the device."""

from sqlalchemy.orm import Session

from app.domain.resources.estimate import EstimateRequest
from app.domain.resources.memory_fit import Moment, StoredEstimate
from app.services.resources.calibration import Calibrations
from app.services.resources.devices import of_worker
from app.store.tables import EstimateRow, RunRow, WorkerRow
from app.store.workers import clock


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
