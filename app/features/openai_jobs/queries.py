"""Fine-tuning jobs. A user sees their own; admins, and sessions without a viewer, see all."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select, true, update
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.features.openai_jobs.tables import FineTuningJobRow
from app.store.database.ownership import viewer_of
from app.store.database.page import Page, cut
from app.store.database.rows import affected, changed
from app.store.tables import RunRow


def find(session: Session, job_id: int, *, lock: bool = False) -> FineTuningJobRow | None:
    """A job that the viewer sees, if there is one; with `lock`, read anew and locked."""
    query = select(FineTuningJobRow).where(FineTuningJobRow.id == job_id, _seen(session))
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def get(session: Session, job_id: int, *, lock: bool = False) -> FineTuningJobRow:
    """The same. Raises NotFound."""
    if (row := find(session, job_id, lock=lock)) is None:
        raise NotFound(_("There is no fine-tuning job %(id)s.", id=job_id))
    return row


def page(session: Session, *, after: int | None = None, limit: int = 20) -> Page[FineTuningJobRow]:
    """The viewer's jobs, the newest first, that follow the job with id `after`."""
    query = select(FineTuningJobRow).where(_seen(session))
    if after is not None:
        query = query.where(FineTuningJobRow.id < after)
    rows = list(session.scalars(query.order_by(FineTuningJobRow.id.desc()).limit(limit + 1)))
    return cut(rows, [row.id for row in rows], limit)


def waiting(session: Session) -> Sequence[int]:
    """Ids of jobs whose files are being read, the oldest first."""
    query = select(FineTuningJobRow.id).where(FineTuningJobRow.status == "validating_files", _seen(session))
    return session.scalars(query.order_by(FineTuningJobRow.id)).all()


def waiting_for(session: Session, upload_id: int) -> Sequence[int]:
    """Ids of jobs of any user that have no run yet and train on an upload, the oldest first."""
    query = select(FineTuningJobRow.id).where(
        FineTuningJobRow.upload_id == upload_id, FineTuningJobRow.status == "validating_files"
    )
    return session.scalars(query.order_by(FineTuningJobRow.id)).all()


def any_on(session: Session, upload_id: int) -> bool:
    """Whether a job of any user, ended or not, trains on an upload."""
    query = select(FineTuningJobRow.id).where(FineTuningJobRow.upload_id == upload_id)
    return session.scalar(query.limit(1)) is not None


def end(session: Session, job_id: int, status: str, at: datetime, error: dict[str, Any] | None = None) -> bool:
    """End a job that has no run yet. False if it has one, or has ended."""
    query = update(FineTuningJobRow).where(
        FineTuningJobRow.id == job_id, FineTuningJobRow.status == "validating_files", _seen(session)
    )
    return changed(session, query.values(status=status, finished_at=at, error_json=error))


def runs_deleted(session: Session, which: ColumnElement[bool], at: datetime) -> None:
    """Before runs that match a condition are deleted: note in their jobs, of any user, when they end with that."""
    runs = select(RunRow.id).where(which)
    affected(session, update(FineTuningJobRow).where(FineTuningJobRow.run_id.in_(runs)).values(finished_at=at))


def _seen(session: Session) -> ColumnElement[bool]:
    viewer = viewer_of(session)
    if viewer is None or viewer.sees_all:
        return true()
    return FineTuningJobRow.owner_id == viewer.user_id
