"""Workers."""

from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.store.tables import WorkerRow


def all_seen(session: Session, since: datetime) -> list[WorkerRow]:
    """Workers whose last heartbeat is not older than `since`, by name."""
    query = select(WorkerRow).where(WorkerRow.heartbeat_at >= since).order_by(WorkerRow.name)
    return list(session.scalars(query))


def idle(session: Session, since: datetime) -> int:
    """How many live workers have nothing to do."""
    query = select(func.count()).where(
        WorkerRow.heartbeat_at >= since, WorkerRow.run_id.is_(None), WorkerRow.draining.is_(False)
    )
    return int(session.scalar(query) or 0)


def get(session: Session, name: str) -> WorkerRow | None:
    """A worker by name."""
    return session.get(WorkerRow, name)


def beat(session: Session, name: str, at: datetime, run_id: int | None) -> bool:
    """Note a sign of life. Returns whether the worker is draining."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(heartbeat_at=at, run_id=run_id))
    return bool(session.scalar(select(WorkerRow.draining).where(WorkerRow.name == name)))


def drain(session: Session, name: str) -> None:
    """The worker was told to stop."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(draining=True))
