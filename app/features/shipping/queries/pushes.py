"""Pushes of exports to the hub."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.features.shipping.tables import HubPushRow, ModelExportRow


def files_in(session: Session, repository: str) -> frozenset[str] | None:
    """Names of the files of all exports that were pushed to a repository; None if none was."""
    query = (
        select(ModelExportRow)
        .join(HubPushRow, HubPushRow.export_id == ModelExportRow.id)
        .where(HubPushRow.repository == repository, HubPushRow.status == "succeeded")
    )
    rows = session.scalars(query).all()
    return frozenset(file.name for row in rows for file in row.files) if rows else None
