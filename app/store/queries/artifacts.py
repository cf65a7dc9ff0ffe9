"""Artifacts of runs."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.store.queries.page import LARGEST_ID
from app.store.tables import ArtifactRow


def of_run(session: Session, run_id: int) -> list[ArtifactRow]:
    """A run's artifacts by name."""
    return list(session.scalars(select(ArtifactRow).where(ArtifactRow.run_id == run_id).order_by(ArtifactRow.name)))


def predictions_of(session: Session, run_ids: Sequence[int]) -> dict[int, ArtifactRow]:
    """The predictions file of each run that has one, by run."""
    query = select(ArtifactRow).where(ArtifactRow.run_id.in_(run_ids), ArtifactRow.kind == "predictions")
    return {row.run_id: row for row in session.scalars(query)}


def get(session: Session, artifact_id: int) -> ArtifactRow:
    """An artifact. Raises NotFound."""
    row = session.get(ArtifactRow, artifact_id) if artifact_id <= LARGEST_ID else None
    if row is None:
        raise NotFound(_("There is no artifact %(artifact_id)s.", artifact_id=artifact_id))
    return row


def clear(session: Session, run_id: int) -> None:
    """Forget every artifact of a run."""
    session.execute(delete(ArtifactRow).where(ArtifactRow.run_id == run_id))
