"""Exports of runs' models, and the claims on them."""

from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.store.ownership import note_access_of_run
from app.store.queries.rows import changed, get_row
from app.store.tables import HubPushRow, JudgementRow, ModelExportRow, ParityCheckRow, RunRow

LIVE = ("queued", "running")
"""States of an export that has not ended."""
MOST_MEASURED = 50
"""Earlier exports from which the time of the next one is predicted."""
Claimed = TypeVar("Claimed", ModelExportRow, HubPushRow, ParityCheckRow, JudgementRow)
"""Rows that a worker claims: an export, a push of one, a parity check, or a judgement."""


def get(session: Session, export_id: int, run_id: int | None = None, *, lock: bool = False) -> ModelExportRow:
    """An export; with `run_id`, of this run; with `lock`, read anew and locked. Raises NotFound."""
    missing = _("There is no export %(export_id)s.", export_id=export_id)
    row = get_row(session, ModelExportRow, export_id, missing, lock=lock)
    if run_id not in (None, row.run_id):
        raise NotFound(_("Run %(run)s has no export %(export_id)s.", run=run_id, export_id=export_id))
    note_access_of_run(session, row.run_id)
    return row


def of_run(session: Session, run_id: int) -> list[ModelExportRow]:
    """A run's exports, the oldest first."""
    query = select(ModelExportRow).where(ModelExportRow.run_id == run_id).order_by(ModelExportRow.id)
    return list(session.scalars(query))


def measured_seconds(session: Session, run: RunRow) -> dict[str, list[float]]:
    """How long exports by format took of runs on a run's base model and data: their last claim, with the gate."""
    query = (
        select(ModelExportRow)
        .join(RunRow, RunRow.id == ModelExportRow.run_id)
        .where(RunRow.base_model_id == run.base_model_id, RunRow.dataset_id == run.dataset_id)
        .where(ModelExportRow.status == "succeeded", ModelExportRow.ended_at.is_not(None))
        .order_by(ModelExportRow.id.desc())
        .limit(MOST_MEASURED)
    )
    seconds: dict[str, list[float]] = {}
    for row in session.scalars(query):
        if row.started_at is not None and row.ended_at is not None:
            seconds.setdefault(row.format, []).append((row.ended_at - row.started_at).total_seconds())
    return seconds


def everyone(session: Session) -> list[ModelExportRow]:
    """Every export."""
    return list(session.scalars(select(ModelExportRow)))


def begin(session: Session, table: type[Claimed], row_id: int, at: datetime, silent_since: datetime) -> bool:
    """Claim a row that no worker has, or whose worker has sent no heartbeat since `silent_since`."""
    query = update(table).where(table.id == row_id, _waits(table, silent_since))
    values: dict[str, Any] = {"status": "running", "started_at": at, "seen_at": at, "progress": 0.0}
    return changed(
        session,
        query.values(epoch=table.epoch + 1, attempts=table.attempts + 1, **values),
    )


def write(session: Session, table: type[Claimed], row_id: int, epoch: int, **values: Any) -> bool:
    """Write for a claim, if it is still valid."""
    query = update(table).where(table.id == row_id, table.epoch == epoch, table.status == "running")
    return changed(session, query.values(**values))


def cancel(session: Session, table: type[Claimed], row_id: int, at: datetime) -> bool:
    """Cancel what has not ended: the next report of its worker finds no claim."""
    query = update(table).where(table.id == row_id, table.status.in_(LIVE))
    return changed(session, query.values(status="cancelled", ended_at=at))


def waiting(session: Session, table: type[Claimed], silent_since: datetime, rung_before: datetime) -> list[Claimed]:
    """Rows that no live worker has and whose doorbell has not been rung since `rung_before`. They are locked until
    the transaction ends; one that another transaction is changing is left out."""
    quiet = table.rung_at.is_(None) | (table.rung_at < rung_before)
    query = select(table).where(_waits(table, silent_since), quiet).order_by(table.id)
    query = query.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    return list(session.scalars(query))


def _waits(table: type[Claimed], silent_since: datetime) -> ColumnElement[bool]:
    lost = (table.status == "running") & (table.seen_at < silent_since)
    return (table.status == "queued") | lost
