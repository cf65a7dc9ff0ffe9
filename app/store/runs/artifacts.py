"""Artifacts of runs."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.domain.messages import _
from app.store.database.ownership import note_access_of_run
from app.store.database.rows import get_row
from app.store.tables import ArtifactRow


def of_run(session: Session, run_id: int) -> list[ArtifactRow]:
    return list(session.scalars(select(ArtifactRow).where(ArtifactRow.run_id == run_id).order_by(ArtifactRow.name)))


def predictions_of(session: Session, run_ids: Sequence[int]) -> dict[int, ArtifactRow]:
    """The predictions file of each run that has one, by run."""
    query = select(ArtifactRow).where(ArtifactRow.run_id.in_(run_ids), ArtifactRow.kind == "predictions")
    return {row.run_id: row for row in session.scalars(query)}


def named(session: Session, run_ids: Sequence[int], name: str) -> dict[int, str]:
    """Places in the files store of the file of that name of each run that has one, by run."""
    query = select(ArtifactRow).where(ArtifactRow.run_id.in_(run_ids), ArtifactRow.name == name)
    return {row.run_id: row.file for row in session.scalars(query)}


def get(session: Session, artifact_id: int) -> ArtifactRow:
    """An artifact. Raises NotFound."""
    missing = _("There is no artifact %(artifact_id)s.", artifact_id=artifact_id)
    row = get_row(session, ArtifactRow, artifact_id, missing)
    note_access_of_run(session, row.run_id)
    return row


def clear(session: Session, run_id: int) -> None:
    session.execute(delete(ArtifactRow).where(ArtifactRow.run_id == run_id))
