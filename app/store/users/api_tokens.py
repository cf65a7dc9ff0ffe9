"""Queries of API tokens."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from app.store.database.rows import affected
from app.store.tables import ApiTokenRow, UserRow


def by_secret(session: Session, sha256: str) -> tuple[ApiTokenRow, UserRow] | None:
    """A token and its user, unless that is disabled. It may have expired."""
    query = select(ApiTokenRow, UserRow).join(UserRow, UserRow.id == ApiTokenRow.user_id)
    row = session.execute(query.where(ApiTokenRow.secret_sha256 == sha256, UserRow.disabled.is_(False))).first()
    return None if row is None else (row[0], row[1])


def used(session: Session, token_id: int, at: datetime, address: str) -> None:
    """Write when and from where a token was last used."""
    earlier = or_(ApiTokenRow.last_used_at.is_(None), ApiTokenRow.last_used_at < at)
    query = update(ApiTokenRow).where(ApiTokenRow.id == token_id, earlier)
    affected(session, query.values(last_used_at=at, last_address=address))


def of_user(session: Session, user_id: int) -> Sequence[ApiTokenRow]:
    """A user's tokens, expired ones too, the newest first."""
    query = select(ApiTokenRow).where(ApiTokenRow.user_id == user_id)
    return session.scalars(query.order_by(ApiTokenRow.id.desc())).all()


def count_of(session: Session, user_id: int, at: datetime) -> int:
    """How many tokens of a user have not expired."""
    live = or_(ApiTokenRow.expires_at.is_(None), ApiTokenRow.expires_at > at)
    return session.scalar(select(func.count(ApiTokenRow.id)).where(ApiTokenRow.user_id == user_id, live)) or 0


def forget(session: Session, before: datetime) -> None:
    """Delete the tokens that expired before a time."""
    affected(session, delete(ApiTokenRow).where(ApiTokenRow.expires_at < before))


def revoke(session: Session, user_id: int, token_id: int) -> int:
    """Delete a token of a user. Returns the number of deleted ones."""
    return affected(session, delete(ApiTokenRow).where(ApiTokenRow.id == token_id, ApiTokenRow.user_id == user_id))


def revoke_all(session: Session, user_id: int) -> int:
    """Delete every token of a user. Returns the number of deleted ones."""
    return affected(session, delete(ApiTokenRow).where(ApiTokenRow.user_id == user_id))
