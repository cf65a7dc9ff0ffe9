"""Deleting rows, and counting what is deleted with them. Foreign keys delete what belongs to a single run or study."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.store.database.ownership import kinds
from app.store.database.rows import affected
from app.store.runs.queries import LIVE
from app.store.runs.tables.files import RunFiles
from app.store.tables import ArtifactRow, Base, RunRow


class Contents(NamedTuple):
    """Runs and their files."""

    runs: int
    files: int
    bytes: int


def contents(session: Session, which: ColumnElement[bool]) -> Contents:
    """The runs that match a condition, and their files in the files store."""
    runs = session.scalar(select(func.count()).select_from(RunRow).where(which)) or 0
    sizes = select(func.count(), func.coalesce(func.sum(ArtifactRow.bytes), 0)).select_from(ArtifactRow)
    files, size = session.execute(sizes.join(RunRow, RunRow.id == ArtifactRow.run_id).where(which)).one()
    made = [select(table).join(RunRow, RunRow.id == table.run_id).where(which) for table in kinds(RunFiles)]
    exported = [file for query in made for row in session.scalars(query) for file in row.files]
    return Contents(runs, files + len(exported), int(size) + sum(file.bytes for file in exported))


def lock(session: Session, which: ColumnElement[bool]) -> list[int]:
    """Lock the runs that match a condition: no worker changes their status before the transaction ends."""
    return list(session.scalars(select(RunRow.id).where(which).order_by(RunRow.id).with_for_update()))


def with_files(session: Session, which: ColumnElement[bool]) -> list[int]:
    """Ids of the runs that match a condition and are not imported: imported runs have no files."""
    return list(session.scalars(select(RunRow.id).where(which, RunRow.collection_id.is_(None))))


def delete_runs(session: Session, which: ColumnElement[bool]) -> int:
    """Delete the runs that match a condition, unless they are queued or running here. Returns their number."""
    ended = RunRow.status.not_in(LIVE) | RunRow.collection_id.is_not(None)
    return affected(session, delete(RunRow).where(which, ended))


def delete_row(session: Session, row: Base) -> None:
    """Delete a row at once. Raises IntegrityError while another refers to it."""
    session.delete(row)
    session.flush()


def missing_runs(session: Session, candidates: Sequence[int]) -> set[int]:
    """The ids below the newest run's that have no run: these runs were deleted.

    A higher id may be that of a run in another database with the same files store.
    """
    newest = session.scalar(select(func.max(RunRow.id))) or 0
    return {run_id for run_id in candidates if run_id < newest} - run_ids(session)


def run_ids(session: Session) -> set[int]:
    return set(session.scalars(select(RunRow.id)))


def kept_attempts(session: Session) -> dict[int, int | None]:
    """The ended runs, with the attempt whose files are kept: the last one of a run that succeeded, else None."""
    ended = session.execute(select(RunRow.id, RunRow.status, RunRow.epoch).where(RunRow.status.not_in(LIVE)))
    return {run_id: epoch if status == RunStatus.SUCCEEDED else None for run_id, status, epoch in ended}
