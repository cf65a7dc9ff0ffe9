"""Queries of the runs that have ended and of which the control node has not taken note."""

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from app.store.tables import EndedRunRow


def any_noted(session: Session) -> bool:
    return bool(session.scalar(select(exists().where(EndedRunRow.id > 0))))


def take(session: Session, *, limit: int) -> list[int]:
    """Their ids, the oldest first; they are taken out."""
    rows = list(session.scalars(select(EndedRunRow).order_by(EndedRunRow.id).limit(limit).with_for_update()))
    session.execute(delete(EndedRunRow).where(EndedRunRow.id.in_([row.id for row in rows])))
    return list(dict.fromkeys(row.run_id for row in rows))
