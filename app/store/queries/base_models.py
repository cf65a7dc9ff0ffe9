"""Base models."""

from datetime import datetime

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.store.queries.compare_and_set import changed
from app.store.tables import BaseModelRow


def everyone(session: Session) -> list[BaseModelRow]:
    """Every base model by name."""
    return list(session.scalars(select(BaseModelRow).order_by(BaseModelRow.name)))


def by_name(session: Session, name: str) -> BaseModelRow | None:
    """A base model by name."""
    return session.scalars(select(BaseModelRow).where(BaseModelRow.name == name)).first()


def by_id(session: Session, model_id: int | None) -> BaseModelRow | None:
    """A base model by id; an imported run has none."""
    return session.get(BaseModelRow, model_id) if model_id is not None else None


def names(session: Session) -> dict[int, str]:
    """Names by id."""
    return {i: name for i, name in session.execute(select(BaseModelRow.id, BaseModelRow.name))}


def uninspected(session: Session, started_before: datetime) -> list[BaseModelRow]:
    """Base models whose inspection has not begun, or began so long ago that its worker must be lost."""
    return list(session.scalars(select(BaseModelRow).where(*_waits(started_before))))


def begin_inspection(session: Session, model_id: int, at: datetime, started_before: datetime) -> bool:
    """Claim an inspection: of two that ask at once one gets it."""
    query = update(BaseModelRow).where(BaseModelRow.id == model_id, *_waits(started_before))
    return changed(session, query.values(inspection_started_at=at))


def _waits(started_before: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    began = BaseModelRow.inspection_started_at
    return BaseModelRow.status == "inspecting", began.is_(None) | (began < started_before)
