"""Work of the ingest process: ring for it, claim it, hear how far it is, note why it failed."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app.broker.queue import PREPARE, READ, Doorbell
from app.store.data import ingestion
from app.store.data.ingestion import Ingested
from app.store.database.messages import as_stored
from app.store.database.session import after_commit
from app.store.tables import DatasetRow, UploadRow
from app.store.workers import clock

SILENT_SECONDS = 90.0
"""A worker that has sent no heartbeat for this long is lost."""
TASKS = {UploadRow: READ, DatasetRow: PREPARE}


def ring(session: Session, bell: Doorbell, row: UploadRow | DatasetRow) -> None:
    """Have a worker begin, or begin again."""
    row.started_at, row.seen_at, row.rung_at = None, None, clock.now(session)
    session.flush()
    after_commit(session, partial(bell.ring, TASKS[type(row)], row.id))


def begin(session: Session, table: type[Ingested], row_id: int) -> Ingested | None:
    """Claim what is to be done. None if it is done, or a live worker has it."""
    at = clock.now(session)
    if not ingestion.begin(session, table, row_id, at, _silent_since(at)):
        return None
    return session.get_one(table, row_id, populate_existing=True)


def progress(session: Session, claimed: UploadRow | DatasetRow, share: float, rows: int) -> bool:
    """A heartbeat, and how far the work is. False if the claim has expired."""
    counted: dict[str, Any] = {"rows_read": rows} if isinstance(claimed, UploadRow) else {}
    return ingestion.write(session, claimed, seen_at=clock.now(session), progress=share, **counted)


def failed(session: Session, claimed: UploadRow | DatasetRow, message: str) -> bool:
    """Note why there is no result: a sentence. False if the claim has expired."""
    return ingestion.write(session, claimed, status="failed", message=as_stored(message))


def ring_again(session: Session, bell: Doorbell, at: datetime, rung_before: datetime) -> None:
    """Ring for what waits and whose ring was lost. The sweep does this."""
    rows: list[UploadRow | DatasetRow] = [*ingestion.waiting(session, UploadRow, _silent_since(at), rung_before)]
    rows += ingestion.waiting(session, DatasetRow, _silent_since(at), rung_before)
    for row in rows:
        row.rung_at = at
        after_commit(session, partial(bell.ring, TASKS[type(row)], row.id))


def _silent_since(at: datetime) -> datetime:
    """A live worker has sent a heartbeat since; an older claim may be taken over."""
    return at - timedelta(seconds=SILENT_SECONDS)
