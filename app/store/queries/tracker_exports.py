"""Queries of exports to the installation's experiment tracker."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.store.queries.rows import affected, changed
from app.store.tables import TrackerExportRow


def of_study(session: Session, study_id: int) -> TrackerExportRow | None:
    """The export of a study, if it has ended since there is a tracker."""
    return session.scalars(select(TrackerExportRow).where(TrackerExportRow.study_id == study_id)).one_or_none()


def queue(session: Session, study_id: int, at: datetime) -> None:
    """Have a study exported, again if it was before. An attempt that goes on has no effect any more."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    new = insert(TrackerExportRow).values(study_id=study_id, next_at=at)
    again = {"epoch": TrackerExportRow.epoch + 1, "attempts": 0, "next_at": at, "message": ""}
    session.execute(new.on_conflict_do_update(index_elements=["study_id"], set_=again))


def due(session: Session, at: datetime) -> Sequence[TrackerExportRow]:
    """Those whose time has come, the longest waiting first."""
    query = select(TrackerExportRow).where(TrackerExportRow.next_at <= at)
    return session.scalars(query.order_by(TrackerExportRow.next_at, TrackerExportRow.study_id)).all()


def write(session: Session, study_id: int, since: int, **values: object) -> bool:
    """Change an export if its epoch is still `since`. False if not, or if its study was deleted."""
    query = update(TrackerExportRow).where(TrackerExportRow.study_id == study_id, TrackerExportRow.epoch == since)
    return changed(session, query.values(**values))


def forget(session: Session, study_id: int, since: int) -> None:
    """Drop an export that has not begun, if its epoch is still `since`."""
    query = delete(TrackerExportRow).where(TrackerExportRow.study_id == study_id, TrackerExportRow.epoch == since)
    affected(session, query)


def failed(session: Session) -> Sequence[TrackerExportRow]:
    """Those that have failed for good, the newest study first."""
    query = select(TrackerExportRow).where(TrackerExportRow.next_at.is_(None), TrackerExportRow.message != "")
    return session.scalars(query.order_by(TrackerExportRow.study_id.desc())).all()
