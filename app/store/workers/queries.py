"""Workers."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.domain.resources.devices import VisibleGpu
from app.store.resources import devices
from app.store.tables import DeviceRow, WorkerRow


def all_seen(session: Session, since: datetime) -> list[WorkerRow]:
    """Workers with a heartbeat since a time, by name."""
    query = select(WorkerRow).where(WorkerRow.heartbeat_at >= since).order_by(WorkerRow.name)
    return list(session.scalars(query))


def of_device(session: Session, device_name: str, *, bf16: bool) -> WorkerRow | None:
    """The worker with a device of this name, which has bfloat16 or not, whose throughput was measured; the one with
    the newest heartbeat of several."""
    query = select(WorkerRow).where(
        WorkerRow.device_name == device_name, WorkerRow.bf16.is_(bf16), WorkerRow.matmul_flops.is_not(None)
    )
    return session.scalars(query.order_by(WorkerRow.heartbeat_at.desc(), WorkerRow.name).limit(1)).first()


def delete_unseen(session: Session, since: datetime) -> None:
    """Delete the workers without a heartbeat since a time."""
    session.execute(delete(WorkerRow).where(WorkerRow.heartbeat_at < since))


def idle(session: Session, since: datetime) -> int:
    """The number of runs that live workers could take: one for each free GPU, and for each worker without GPUs and
    without a run."""
    query = select(WorkerRow).where(WorkerRow.heartbeat_at >= since, WorkerRow.draining.is_(False))
    rows = list(session.scalars(query))
    working = {gpu.uuid for row in rows for gpu in row.devices if not gpu.problem}
    without = sum(not row.devices_json and row.run_id is None for row in rows)
    return len(working & devices.free(session)) + without


def get(session: Session, name: str) -> WorkerRow | None:
    return session.get(WorkerRow, name)


def beat(session: Session, name: str, at: datetime, gpus: Sequence[VisibleGpu] = ()) -> None:
    """Record a heartbeat, and how the worker sees its GPUs if it has looked."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(heartbeat_at=at))
    see(session, name, gpus)


def see(session: Session, name: str, gpus: Sequence[VisibleGpu]) -> None:
    """Record how a worker sees some of its GPUs. A problem stays until the worker signs on again."""
    if not gpus:
        return
    latest = {gpu.uuid: gpu for gpu in gpus}
    query = select(WorkerRow.devices_json).where(WorkerRow.name == name)
    known = [VisibleGpu.model_validate(gpu) for gpu in session.scalar(query.with_for_update()) or ()]
    merged = [gpu if gpu.problem else latest.get(gpu.uuid, gpu) for gpu in known]
    values = {"devices_json": [gpu.model_dump() for gpu in merged]}
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(**values))


def occupy(session: Session, name: str, run_id: int) -> None:
    """Record that a worker executes a run."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(run_id=run_id))


def release(session: Session, name: str, run_id: int) -> None:
    """Record that a worker no longer executes a run, whose GPUs are free by now."""
    another = select(func.min(DeviceRow.run_id)).where(DeviceRow.worker == name, DeviceRow.run_id != run_id)
    query = update(WorkerRow).where(WorkerRow.name == name, WorkerRow.run_id == run_id)
    session.execute(query.values(run_id=another.scalar_subquery()))


def draining(session: Session, name: str) -> bool:
    """Whether the worker was told to stop."""
    return bool(session.scalar(select(WorkerRow.draining).where(WorkerRow.name == name)))


def drain(session: Session, name: str) -> None:
    """Record that a worker was told to stop."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(draining=True))


def measured(
    session: Session,
    name: str,
    matmul_flops: float | None,
    matmul_rates: Mapping[int, float],
    *,
    bf16: bool,
    gpu_name: str | None,
) -> None:
    """Record the matrix-product throughput of a worker's device if an attempt has measured it, in bfloat16 where the
    device has that. `gpu_name`: of the attempt's GPU, since a worker may have GPUs of several kinds; None on a CPU."""
    if matmul_flops is not None:
        query = update(WorkerRow).where(WorkerRow.name == name, WorkerRow.bf16.is_(bf16))
        query = query.where(WorkerRow.device_name == gpu_name) if gpu_name is not None else query
        rates = {str(width): rate for width, rate in matmul_rates.items()}
        session.execute(query.values(matmul_flops=matmul_flops, matmul_rates=rates))
