"""Base models."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.store.data.queries import Uses
from app.store.database.ownership import EVERY_OWNER, note_access
from app.store.database.rows import changed
from app.store.tables import BaseModelRow, RunRow, StudyRow


def everyone(session: Session) -> list[BaseModelRow]:
    return list(session.scalars(select(BaseModelRow).order_by(BaseModelRow.name)))


def by_name(session: Session, name: str) -> BaseModelRow | None:
    return session.scalars(select(BaseModelRow).where(BaseModelRow.name == name)).first()


def get(session: Session, name: str) -> BaseModelRow:
    """A base model by name. Raises NotFound."""
    row = by_name(session, name)
    if row is None:
        raise NotFound(_("There is no base model %(name)r.", name=name))
    note_access(session, row)
    return row


def is_taken(session: Session, name: str) -> bool:
    """Whether a base model has a name, visible or not: names are unique."""
    query = select(BaseModelRow.id).where(BaseModelRow.name == name)
    return session.scalar(query.execution_options(**EVERY_OWNER)) is not None


def by_id(session: Session, model_id: int | None) -> BaseModelRow | None:
    """A base model by id; an imported run has none."""
    return session.get(BaseModelRow, model_id) if model_id is not None else None


def used_by(session: Session, model_id: int) -> Uses:
    """How many visible runs and studies use a base model."""
    runs = session.scalar(select(func.count()).where(RunRow.base_model_id == model_id))
    studies = session.scalar(select(func.count()).where(StudyRow.base_model_id == model_id))
    return Uses(runs or 0, studies or 0)


def in_use(session: Session, model_id: int) -> bool:
    """Whether a run or a study uses a base model, visible or not."""
    runs = select(RunRow.id).where(RunRow.base_model_id == model_id).limit(1)
    studies = select(StudyRow.id).where(StudyRow.base_model_id == model_id).limit(1)
    return any(session.scalar(query.execution_options(**EVERY_OWNER)) is not None for query in (runs, studies))


def names(session: Session) -> dict[int, str]:
    return {i: name for i, name in session.execute(select(BaseModelRow.id, BaseModelRow.name))}


class Due(NamedTuple):
    """What makes an inspection due."""

    version: int
    """Facts of an older version are collected again."""
    lost_before: datetime
    """An inspection that began earlier has lost its worker."""
    again_before: datetime
    """Facts are not collected again if that was tried after this time."""


def uninspected(session: Session, due: Due) -> list[int]:
    """Ids of base models whose inspection has not begun, has lost its worker, or was of an older version."""
    return list(session.scalars(select(BaseModelRow.id).where(_waits(due))))


def begin_inspection(session: Session, model_id: int, at: datetime, due: Due) -> bool:
    """Claim an inspection; of two simultaneous claims one succeeds."""
    query = update(BaseModelRow).where(BaseModelRow.id == model_id, _waits(due))
    return changed(session, query.values(inspection_started_at=at))


def _waits(due: Due) -> ColumnElement[bool]:
    status, began = BaseModelRow.status, BaseModelRow.inspection_started_at
    version = func.coalesce(BaseModelRow.facts_json["version"].as_integer(), 0)
    return or_(
        and_(status == "inspecting", began.is_(None) | (began < due.lost_before)),
        and_(status == "ready", version < due.version, began.is_(None) | (began < due.again_before)),
    )
