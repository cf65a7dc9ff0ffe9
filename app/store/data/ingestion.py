"""Claims of the ingest process: on uploads to be read, and on versions of datasets to be prepared."""

from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.store.database.rows import changed
from app.store.tables import DatasetRow, UploadRow

Ingested = TypeVar("Ingested", UploadRow, DatasetRow)
BUSY: dict[type[UploadRow] | type[DatasetRow], str] = {UploadRow: "reading", DatasetRow: "preparing"}
"""The state of what waits or is being worked on."""


def begin(session: Session, table: type[Ingested], row_id: int, at: datetime, silent_since: datetime) -> bool:
    """Claim a row that no worker has, or whose worker has sent no heartbeat since `silent_since`."""
    started: dict[str, Any] = {"started_at": at, "seen_at": at, "progress": 0.0}
    started |= {"rows_read": 0} if table is UploadRow else {}
    return changed(session, update(table).where(table.id == row_id, *_waits(table, silent_since)).values(**started))


def write(session: Session, claimed: UploadRow | DatasetRow, **values: Any) -> bool:
    """Write a claim's results, if the claim is still valid."""
    table = type(claimed)
    query = update(table).where(
        table.id == claimed.id, table.status == BUSY[table], table.started_at == claimed.started_at
    )
    return changed(session, query.values(**values))


def waiting(session: Session, table: type[Ingested], silent_since: datetime, rung_before: datetime) -> list[Ingested]:
    """Rows that no live worker has and whose doorbell has not been rung since `rung_before`."""
    quiet = table.rung_at.is_(None) | (table.rung_at < rung_before)
    return list(session.scalars(select(table).where(*_waits(table, silent_since), quiet).order_by(table.id)))


def _waits(
    table: type[UploadRow] | type[DatasetRow], silent_since: datetime
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.status == BUSY[table], table.seen_at.is_(None) | (table.seen_at < silent_since)
