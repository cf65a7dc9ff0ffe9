"""The hosts of attempts that train on several. Lock their rows after the run's and before those of GPUs and workers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.orm import Session

from app.domain.runs.hosts import HostEnd
from app.domain.runs.status import RunStatus
from app.store.database.rows import changed
from app.store.tables import RunHostRow, RunRow

OPEN = RunHostRow.ended.is_(None)


def add(session: Session, run_id: int, epoch: int, hosts: Sequence[tuple[str, str]]) -> None:
    """Insert the hosts of an attempt, in order: worker and address of each."""
    for place, (worker, address) in enumerate(hosts):
        session.add(RunHostRow(run_id=run_id, epoch=epoch, worker=worker, host=place, address=address))


def of_attempt(session: Session, run_id: int, epoch: int) -> list[RunHostRow]:
    """The hosts of an attempt, in order; none if it is on one."""
    query = select(RunHostRow).where(RunHostRow.run_id == run_id, RunHostRow.epoch == epoch).order_by(RunHostRow.host)
    return list(session.scalars(query, execution_options={"populate_existing": True}))


def write(
    session: Session, run_id: int, epoch: int, worker: str, *conditions: ColumnElement[bool], **values: Any
) -> bool:
    """Change the row of a host whose attempt is current and whose part has not ended. False if there is none."""
    current = select(RunRow.id).where(
        RunRow.id == run_id, RunRow.epoch == epoch, RunRow.status == RunStatus.RUNNING.value
    )
    query = update(RunHostRow).where(_of(run_id, epoch, worker), OPEN, current.exists(), *conditions)
    return changed(session, query.values(**values))


def end(
    session: Session,
    run_id: int,
    epoch: int,
    worker: str,
    ended: HostEnd,
    *conditions: ColumnElement[bool],
    **values: Any,
) -> bool:
    """Record how the part of a host has ended, once."""
    query = update(RunHostRow).where(_of(run_id, epoch, worker), OPEN, *conditions)
    return changed(session, query.values(ended=ended, **values))


def waiting_for(session: Session, run_id: int, worker: str) -> RunHostRow | None:
    """The newest part of a run that a worker has not joined."""
    query = select(RunHostRow).where(
        RunHostRow.run_id == run_id, RunHostRow.worker == worker, OPEN, RunHostRow.lease_expires_at.is_(None)
    )
    return session.scalars(query.where(RunHostRow.host > 0).order_by(RunHostRow.epoch.desc()).limit(1)).first()


def expired(session: Session, at: datetime) -> Sequence[RunHostRow]:
    """Hosts whose lease has run out, locked until the transaction ends; without those that another transaction has
    locked."""
    query = select(RunHostRow).where(OPEN, RunHostRow.lease_expires_at < at)
    order = RunHostRow.run_id, RunHostRow.epoch, RunHostRow.worker
    return session.scalars(query.order_by(*order).with_for_update(skip_locked=True)).all()


def delete_orphaned(session: Session) -> None:
    """Delete the rows of deleted runs, once their part has ended."""
    run = select(RunRow.id).where(RunRow.id == RunHostRow.run_id)
    session.execute(delete(RunHostRow).where(RunHostRow.ended.is_not(None), ~run.exists()))


def _of(run_id: int, epoch: int, worker: str) -> ColumnElement[bool]:
    return and_(RunHostRow.run_id == run_id, RunHostRow.epoch == epoch, RunHostRow.worker == worker)
