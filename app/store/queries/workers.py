"""Workers."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.store.tables import WorkerRow


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
    """The number of idle live workers."""
    query = select(func.count()).where(
        WorkerRow.heartbeat_at >= since, WorkerRow.run_id.is_(None), WorkerRow.draining.is_(False)
    )
    return int(session.scalar(query) or 0)


def get(session: Session, name: str) -> WorkerRow | None:
    """A worker by name."""
    return session.get(WorkerRow, name)


def beat(session: Session, name: str, at: datetime) -> None:
    """Record a heartbeat."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(heartbeat_at=at))


def occupy(session: Session, name: str, run_id: int) -> None:
    """Record that a worker executes a run."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(run_id=run_id))


def release(session: Session, name: str, run_id: int) -> None:
    """Record that a worker no longer executes a run."""
    query = update(WorkerRow).where(WorkerRow.name == name, WorkerRow.run_id == run_id)
    session.execute(query.values(run_id=None))


def draining(session: Session, name: str) -> bool:
    """Whether the worker was told to stop."""
    return bool(session.scalar(select(WorkerRow.draining).where(WorkerRow.name == name)))


def drain(session: Session, name: str) -> None:
    """Record that a worker was told to stop."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(draining=True))


def measured(
    session: Session, name: str, matmul_flops: float | None, matmul_rates: Mapping[int, float], *, bf16: bool
) -> None:
    """Record the matrix-product throughput of a worker's device if an attempt has measured it, in bfloat16 where the
    device has that."""
    if matmul_flops is not None:
        query = update(WorkerRow).where(WorkerRow.name == name, WorkerRow.bf16.is_(bf16))
        rates = {str(width): rate for width, rate in matmul_rates.items()}
        session.execute(query.values(matmul_flops=matmul_flops, matmul_rates=rates))
