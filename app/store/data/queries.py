"""Datasets and their versions: by the names in specs, the versions that wait for preparation, and claims on them."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.domain.data.versions import reference_in
from app.domain.errors import NotFound
from app.domain.messages import _
from app.store.database.ownership import EVERY_OWNER, note_access
from app.store.database.rows import get_row
from app.store.tables import DatasetRow, RunRow, StudyRow


class Uses(NamedTuple):
    """How many runs and studies use a version, or a base model."""

    runs: int
    studies: int


def everyone(session: Session) -> list[DatasetRow]:
    """The newest ready version of every dataset, by name; a spec that gives only a name means this version."""
    newest = (
        select(DatasetRow.name, func.max(DatasetRow.version).label("version"))
        .where(DatasetRow.status == "ready")
        .group_by(DatasetRow.name)
        .subquery()
    )
    same = (DatasetRow.name == newest.c.name) & (DatasetRow.version == newest.c.version)
    return list(session.scalars(select(DatasetRow).join(newest, same).order_by(DatasetRow.name)))


def by_name(session: Session, name: str) -> DatasetRow | None:
    """The version that a spec means by `NAME` (the newest that is ready) or `NAME@2`."""
    reference = reference_in(name)
    query = select(DatasetRow).where(DatasetRow.name == reference.name, DatasetRow.status == "ready")
    if reference.version is not None:
        query = query.where(DatasetRow.version == reference.version)
    return session.scalars(query.order_by(DatasetRow.version.desc()).limit(1)).first()


def as_of(session: Session, name: str, at: datetime) -> DatasetRow | None:
    """The version that `by_name` would have returned at an earlier time, if it still exists."""
    reference = reference_in(name)
    ready_at = func.coalesce(DatasetRow.seen_at, DatasetRow.created_at)
    query = select(DatasetRow).where(DatasetRow.name == reference.name, DatasetRow.status == "ready")
    query = query.where(ready_at <= at if reference.version is None else DatasetRow.version == reference.version)
    return session.scalars(query.order_by(DatasetRow.version.desc()).limit(1)).first()


def by_id(session: Session, dataset_id: int | None) -> DatasetRow | None:
    """A dataset by id; an imported run has none."""
    return session.get(DatasetRow, dataset_id) if dataset_id is not None else None


def get(session: Session, dataset_id: int) -> DatasetRow:
    """A version in any state. Raises NotFound."""
    missing = _("There is no dataset with the id %(dataset_id)s.", dataset_id=dataset_id)
    return get_row(session, DatasetRow, dataset_id, missing)


def find(session: Session, name: str) -> DatasetRow:
    """`NAME@2`, or of `NAME` the newest version that is ready, or else the newest. Raises NotFound."""
    reference = reference_in(name)
    rows = versions(session, reference.name)
    if reference.version is None:
        row = next((row for row in rows if row.status == "ready"), next(iter(rows), None))
    else:
        row = next((row for row in rows if row.version == reference.version), None)
    if row is None:
        raise NotFound(_("There is no dataset %(name)r.", name=name))
    note_access(session, row)
    return row


def is_taken(session: Session, name: str) -> bool:
    """Whether a dataset has a name, visible or not: names are unique."""
    query = select(DatasetRow.id).where(DatasetRow.name == name).limit(1)
    return session.scalar(query.execution_options(**EVERY_OWNER)) is not None


def all_versions(session: Session) -> list[DatasetRow]:
    """Every version in any state, by name, the newest of each first."""
    return list(session.scalars(select(DatasetRow).order_by(DatasetRow.name, DatasetRow.version.desc())))


def versions(session: Session, name: str) -> list[DatasetRow]:
    """Every version of a name in any state, the newest first."""
    query = select(DatasetRow).where(DatasetRow.name == name).order_by(DatasetRow.version.desc())
    return list(session.scalars(query))


def of_upload(session: Session, upload_id: int) -> list[DatasetRow]:
    """The versions that were made of an upload, by name."""
    query = select(DatasetRow).where(DatasetRow.upload_id == upload_id)
    return list(session.scalars(query.order_by(DatasetRow.name, DatasetRow.version.desc())))


def used_by(session: Session, dataset_id: int) -> Uses:
    """How many visible runs and studies use a version."""
    runs = session.scalar(select(func.count()).where(RunRow.dataset_id == dataset_id))
    studies = session.scalar(select(func.count()).where(StudyRow.dataset_id == dataset_id))
    return Uses(runs or 0, studies or 0)


def in_use(session: Session, dataset_id: int) -> bool:
    """Whether a run or a study uses a version, visible or not."""
    runs = select(RunRow.id).where(RunRow.dataset_id == dataset_id).limit(1)
    studies = select(StudyRow.id).where(StudyRow.dataset_id == dataset_id).limit(1)
    return any(session.scalar(query.execution_options(**EVERY_OWNER)) is not None for query in (runs, studies))


def forgetting_on(session: Session, name: str) -> int:
    """How many visible runs measure forgetting on a name, whichever version."""
    return session.scalar(select(func.count()).select_from(RunRow).where(_on(name))) or 0


def is_general_text(session: Session, name: str) -> bool:
    """Whether a run measures forgetting on a name, in any version, by any run, visible or not."""
    query = select(RunRow.id).where(_on(name)).limit(1)
    return session.scalar(query.execution_options(**EVERY_OWNER)) is not None


def _on(name: str) -> ColumnElement[bool]:
    general_text = RunRow.spec_json["general_text"].as_string()
    on: ColumnElement[bool] = (general_text == name) | general_text.startswith(f"{name}@", autoescape=True)
    return on


def uses(session: Session) -> dict[int, Uses]:
    """How many visible runs and studies use each version that any uses."""
    runs, studies = (
        {dataset: number for dataset, number in session.execute(select(column, func.count()).group_by(column))}
        for column in (RunRow.dataset_id, StudyRow.dataset_id)
    )
    return {i: Uses(runs.get(i, 0), studies.get(i, 0)) for i in {*runs, *studies} if i is not None}


def with_file(session: Session, file: str) -> int:
    """How many versions have their rows in a file, visible or not."""
    query = select(func.count()).where(DatasetRow.file == file)
    return session.scalar(query.execution_options(**EVERY_OWNER)) or 0


def named_files(session: Session) -> set[str]:
    """The names of the files of all versions."""
    return set(session.scalars(select(DatasetRow.file)))
