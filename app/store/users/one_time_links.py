"""Queries of links that work once."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.store.database.rows import affected
from app.store.tables import OneTimeLinkRow


def find(session: Session, sha256: str, at: datetime, *, first_admin: bool) -> OneTimeLinkRow | None:
    """A link that has not expired: to create the first admin, or to set the password of a user."""
    query = select(OneTimeLinkRow).where(OneTimeLinkRow.secret_sha256 == sha256, OneTimeLinkRow.expires_at > at)
    kind = OneTimeLinkRow.user_id.is_(None) if first_admin else OneTimeLinkRow.user_id.is_not(None)
    return session.scalars(query.where(kind)).first()


def use(session: Session, sha256: str) -> bool:
    """Delete a link. False if another transaction has used it."""
    return affected(session, delete(OneTimeLinkRow).where(OneTimeLinkRow.secret_sha256 == sha256)) == 1


def lock_first_admin(session: Session) -> None:
    """Lock every link that creates the first admin until the transaction ends: two of them are not used at once."""
    query = select(OneTimeLinkRow.secret_sha256).where(OneTimeLinkRow.user_id.is_(None))
    session.execute(query.order_by(OneTimeLinkRow.secret_sha256).with_for_update())


def drop_of(session: Session, user_id: int | None) -> None:
    """Delete the links of a user, or those that create the first admin."""
    affected(session, delete(OneTimeLinkRow).where(OneTimeLinkRow.user_id.is_not_distinct_from(user_id)))


def forget(session: Session, at: datetime) -> None:
    """Delete the links that have expired by a time."""
    affected(session, delete(OneTimeLinkRow).where(OneTimeLinkRow.expires_at < at))
