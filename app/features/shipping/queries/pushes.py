"""Pushes of exports to the hub."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.features.shipping.queries import exports as model_exports
from app.features.shipping.tables import HubPushRow, ModelExportRow
from app.store.database.rows import get_row


def get(session: Session, push_id: int, export_id: int | None = None) -> HubPushRow:
    """A push; with `export_id`, of this export. Raises NotFound."""
    missing = _("There is no push %(push_id)s.", push_id=push_id)
    row = get_row(session, HubPushRow, push_id, missing)
    if export_id not in (None, row.export_id):
        raise NotFound(missing)
    model_exports.get(session, row.export_id)
    return row


def of_export(session: Session, export_id: int) -> list[HubPushRow]:
    """The pushes of an export, the oldest first."""
    return of_exports(session, [export_id])


def of_exports(session: Session, export_ids: Sequence[int]) -> list[HubPushRow]:
    """The pushes of exports, the oldest first."""
    query = select(HubPushRow).where(HubPushRow.export_id.in_(export_ids)).order_by(HubPushRow.id)
    return list(session.scalars(query))


def files_in(session: Session, repository: str) -> frozenset[str] | None:
    """Names of the files of all exports that were pushed to a repository; None if none was."""
    query = (
        select(ModelExportRow)
        .join(HubPushRow, HubPushRow.export_id == ModelExportRow.id)
        .where(HubPushRow.repository == repository, HubPushRow.status == "succeeded")
    )
    rows = session.scalars(query).all()
    return frozenset(file.name for row in rows for file in row.files) if rows else None
