"""Claims of workers on exports, pushes, parity checks and judgements."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.store.database.rows import changed
from app.store.tables import WorkRow
from app.store.workers.tables import LIVE

Work = TypeVar("Work", bound=WorkRow)


def of(session: Session, table: type[Work], parent: str, parent_ids: Sequence[int]) -> list[Work]:
    """Rows whose column `parent` has one of some ids, the oldest first."""
    return list(session.scalars(select(table).where(getattr(table, parent).in_(parent_ids)).order_by(table.id)))


def with_key(session: Session, table: type[Work]) -> Sequence[Work]:
    """Rows of a table that have an API key, locked: those that have not ended."""
    query = select(table).where(getattr(table, "api_key") != "").order_by(table.id).with_for_update()  # noqa: B009
    return session.scalars(query.execution_options(populate_existing=True)).all()


def begin(session: Session, table: type[Work], row_id: int, at: datetime, silent_since: datetime) -> bool:
    """Claim a row that no worker has, or whose worker has sent no heartbeat since `silent_since`."""
    query = update(table).where(table.id == row_id, _waits(table, silent_since))
    values: dict[str, Any] = {"status": "running", "started_at": at, "seen_at": at, "progress": 0.0}
    return changed(session, query.values(epoch=table.epoch + 1, attempts=table.attempts + 1, **values))


def write(session: Session, table: type[Work], row_id: int, epoch: int, **values: Any) -> bool:
    """Write for a claim, if it is still valid."""
    query = update(table).where(table.id == row_id, table.epoch == epoch, table.status == "running")
    return changed(session, query.values(**values))


def cancel(session: Session, table: type[Work], row_id: int, **values: Any) -> bool:
    """Cancel what has not ended, and set `values`: the next report of its worker finds no claim."""
    query = update(table).where(table.id == row_id, table.status.in_(LIVE))
    return changed(session, query.values(status="cancelled", **values))


def waiting(session: Session, table: type[Work], silent_since: datetime, rung_before: datetime) -> list[Work]:
    """Rows that no live worker has and whose doorbell has not been rung since `rung_before`. They are locked until
    the transaction ends; one that another transaction is changing is left out."""
    quiet = table.rung_at.is_(None) | (table.rung_at < rung_before)
    query = select(table).where(_waits(table, silent_since), quiet).order_by(table.id)
    query = query.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    return list(session.scalars(query))


def _waits(table: type[Work], silent_since: datetime) -> ColumnElement[bool]:
    lost = (table.status == "running") & (table.seen_at < silent_since)
    return (table.status == "queued") | lost
