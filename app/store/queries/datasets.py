"""Datasets."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.tables import DatasetRow


def everyone(session: Session) -> list[DatasetRow]:
    """Every dataset by name."""
    return list(session.scalars(select(DatasetRow).order_by(DatasetRow.name)))


def by_name(session: Session, name: str) -> DatasetRow | None:
    """A dataset by name."""
    return session.scalars(select(DatasetRow).where(DatasetRow.name == name)).first()


def by_id(session: Session, dataset_id: int | None) -> DatasetRow | None:
    """A dataset by id; an imported run has none."""
    return session.get(DatasetRow, dataset_id) if dataset_id is not None else None


def names(session: Session) -> dict[int, str]:
    """Names by id."""
    return {i: name for i, name in session.execute(select(DatasetRow.id, DatasetRow.name))}
