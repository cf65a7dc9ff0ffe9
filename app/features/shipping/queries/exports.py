"""Exports of runs' models, and pushes of them to the hub."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.features.shipping.tables import HubPushRow, ModelExportRow
from app.store.database.ownership import EVERY_OWNER
from app.store.tables import RunRow
from app.store.workers.tables import LIVE

MOST_MEASURED = 50
"""Earlier exports from which the time of the next one is predicted."""


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


def files_in(session: Session, repository: str) -> frozenset[str] | None:
    """Names of the files of all exports that were pushed to a repository; None if none was."""
    query = (
        select(ModelExportRow)
        .join(HubPushRow, HubPushRow.export_id == ModelExportRow.id)
        .where(HubPushRow.repository == repository, HubPushRow.status == "succeeded")
    )
    rows = session.scalars(query).all()
    return frozenset(file.name for row in rows for file in row.files) if rows else None


def everyone(session: Session) -> list[ModelExportRow]:
    return list(session.scalars(select(ModelExportRow)))


def stored_bytes(session: Session, owner_ids: Sequence[int]) -> dict[int, int]:
    """Of the exports that some users asked for, by user, for any viewer."""
    return _sums(session, ModelExportRow.stored_bytes, ModelExportRow.owner_id.in_(owner_ids))


def expected_bytes(session: Session, owner_ids: Sequence[int]) -> dict[int, int]:
    """Predicted for the exports of some users that have not ended, by user, for any viewer."""
    live = ModelExportRow.owner_id.in_(owner_ids), ModelExportRow.status.in_(LIVE)
    return _sums(session, ModelExportRow.predicted_bytes, *live)


def _sums(session: Session, size: InstrumentedAttribute[int], *which: ColumnElement[bool]) -> dict[int, int]:
    query = select(ModelExportRow.owner_id, func.sum(size)).where(*which).group_by(ModelExportRow.owner_id)
    rows = session.execute(query.execution_options(**EVERY_OWNER))
    return {owner_id: int(total or 0) for owner_id, total in rows if owner_id is not None}
