"""Base models."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.tables import BaseModelRow


def everyone(session: Session) -> list[BaseModelRow]:
    """Every base model by name."""
    return list(session.scalars(select(BaseModelRow).order_by(BaseModelRow.name)))


def by_name(session: Session, name: str) -> BaseModelRow | None:
    """A base model by name."""
    return session.scalars(select(BaseModelRow).where(BaseModelRow.name == name)).first()


def by_id(session: Session, model_id: int) -> BaseModelRow | None:
    """A base model by id."""
    return session.get(BaseModelRow, model_id)


def names(session: Session) -> dict[int, str]:
    """Names by id."""
    return {i: name for i, name in session.execute(select(BaseModelRow.id, BaseModelRow.name))}


def uninspected(session: Session) -> list[BaseModelRow]:
    """Base models that wait for their inspection."""
    return list(session.scalars(select(BaseModelRow).where(BaseModelRow.status == "inspecting")))
