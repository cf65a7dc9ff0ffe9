"""Queries of browser sessions."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.store.database.rows import affected
from app.store.tables import LoginSessionRow, UserRow


def by_secret(session: Session, sha256: str) -> tuple[LoginSessionRow, UserRow] | None:
    """A session and its user, unless that is disabled. It may have expired."""
    query = select(LoginSessionRow, UserRow).join(UserRow, UserRow.id == LoginSessionRow.user_id)
    row = session.execute(query.where(LoginSessionRow.secret_sha256 == sha256, UserRow.disabled.is_(False))).first()
    return None if row is None else (row[0], row[1])


def seen(session: Session, session_id: int, at: datetime, address: str, user_agent: str) -> None:
    """Write when and from where a session was last used."""
    query = update(LoginSessionRow).where(LoginSessionRow.id == session_id, LoginSessionRow.seen_at < at)
    affected(session, query.values(seen_at=at, address=address, user_agent=user_agent))


def of_user(session: Session, user_id: int, seen_after: datetime, at: datetime) -> Sequence[LoginSessionRow]:
    """A user's sessions that have expired neither by disuse nor by age, the most recently used first."""
    live = LoginSessionRow.seen_at > seen_after, LoginSessionRow.expires_at > at
    query = select(LoginSessionRow).where(LoginSessionRow.user_id == user_id, *live)
    return session.scalars(query.order_by(LoginSessionRow.seen_at.desc(), LoginSessionRow.id.desc())).all()


def end(session: Session, user_id: int, session_id: int) -> int:
    """Delete a session of a user. Returns the number of deleted ones."""
    same = LoginSessionRow.id == session_id, LoginSessionRow.user_id == user_id
    return affected(session, delete(LoginSessionRow).where(*same))


def end_all(session: Session, user_id: int, except_id: int | None = None) -> int:
    """Delete a user's sessions but one. Returns their number."""
    query = delete(LoginSessionRow).where(LoginSessionRow.user_id == user_id)
    return affected(session, query if except_id is None else query.where(LoginSessionRow.id != except_id))


def forget(session: Session, seen_before: datetime, at: datetime) -> int:
    """Delete the sessions that have expired. Returns their number."""
    expired = (LoginSessionRow.seen_at < seen_before) | (LoginSessionRow.expires_at < at)
    return affected(session, delete(LoginSessionRow).where(expired))
