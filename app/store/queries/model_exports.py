"""Exports of runs' models, and the claims on them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.store.queries.rows import changed, get_row
from app.store.tables import ModelExportRow

LIVE = ("queued", "running")
"""States of an export that has not ended."""


def get(session: Session, export_id: int, run_id: int | None = None, *, lock: bool = False) -> ModelExportRow:
    """An export; with `run_id`, of this run; with `lock`, read anew and locked. Raises NotFound."""
    missing = _("There is no export %(export_id)s.", export_id=export_id)
    row = get_row(session, ModelExportRow, export_id, missing, lock=lock)
    if run_id not in (None, row.run_id):
        raise NotFound(_("Run %(run)s has no export %(export_id)s.", run=run_id, export_id=export_id))
    return row


def of_run(session: Session, run_id: int) -> list[ModelExportRow]:
    """A run's exports, the oldest first."""
    query = select(ModelExportRow).where(ModelExportRow.run_id == run_id).order_by(ModelExportRow.id)
    return list(session.scalars(query))


def everyone(session: Session) -> list[ModelExportRow]:
    """Every export."""
    return list(session.scalars(select(ModelExportRow)))


def begin(session: Session, export_id: int, at: datetime, silent_since: datetime) -> bool:
    """Claim an export that no worker has, or whose worker has sent no heartbeat since `silent_since`."""
    query = update(ModelExportRow).where(ModelExportRow.id == export_id, _waits(silent_since))
    values: dict[str, Any] = {"status": "running", "started_at": at, "seen_at": at, "progress": 0.0}
    return changed(
        session,
        query.values(epoch=ModelExportRow.epoch + 1, attempts=ModelExportRow.attempts + 1, **values),
    )


def write(session: Session, export_id: int, epoch: int, **values: Any) -> bool:
    """Write for a claim, if it is still valid."""
    query = update(ModelExportRow).where(
        ModelExportRow.id == export_id, ModelExportRow.epoch == epoch, ModelExportRow.status == "running"
    )
    return changed(session, query.values(**values))


def cancel(session: Session, export_id: int, at: datetime) -> bool:
    """Cancel an export that has not ended: the next report of its worker finds no claim."""
    query = update(ModelExportRow).where(ModelExportRow.id == export_id, ModelExportRow.status.in_(LIVE))
    return changed(session, query.values(status="cancelled", ended_at=at))


def waiting(session: Session, silent_since: datetime, rung_before: datetime) -> list[ModelExportRow]:
    """Exports that no live worker has and whose doorbell has not been rung since `rung_before`. They are locked until
    the transaction ends; one that another transaction is changing is left out."""
    quiet = ModelExportRow.rung_at.is_(None) | (ModelExportRow.rung_at < rung_before)
    query = select(ModelExportRow).where(_waits(silent_since), quiet).order_by(ModelExportRow.id)
    query = query.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    return list(session.scalars(query))


def _waits(silent_since: datetime) -> ColumnElement[bool]:
    lost = (ModelExportRow.status == "running") & (ModelExportRow.seen_at < silent_since)
    return (ModelExportRow.status == "queued") | lost
