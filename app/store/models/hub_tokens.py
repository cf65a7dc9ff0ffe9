"""Users' tokens of the hub."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.store.database.rows import affected
from app.store.tables import HubTokenRow


def of_user(session: Session, user_id: int) -> HubTokenRow | None:
    return session.get(HubTokenRow, user_id, populate_existing=True)


def all_of_them(session: Session) -> Sequence[HubTokenRow]:
    """Every token, to encrypt it by another key."""
    return session.scalars(select(HubTokenRow).order_by(HubTokenRow.user_id).with_for_update()).all()


def remove(session: Session, user_id: int) -> bool:
    """Delete the token of a user. False if there is none."""
    return bool(affected(session, delete(HubTokenRow).where(HubTokenRow.user_id == user_id)))
