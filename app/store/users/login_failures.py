"""Failed logins by account and by address, in the database, so that several web processes count together."""

from datetime import datetime, timedelta

from sqlalchemy import case, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.store.database.rows import affected
from app.store.tables import LoginFailuresRow


def add(session: Session, subject: str, at: datetime, window: timedelta) -> tuple[int, datetime]:
    """Count a failure. Returns the number within the current window, with this one, and when the window began."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    over = LoginFailuresRow.began_at <= at - window
    query = insert(LoginFailuresRow).values(subject=subject, failures=1, began_at=at)
    query = query.on_conflict_do_update(
        index_elements=["subject"],
        set_={
            "failures": case((over, 1), else_=LoginFailuresRow.failures + 1),
            "began_at": case((over, at), else_=LoginFailuresRow.began_at),
        },
    )
    failures, began_at = session.execute(query.returning(LoginFailuresRow.failures, LoginFailuresRow.began_at)).one()
    return failures, began_at


def count(session: Session, subject: str, since: datetime) -> int:
    """The failures of a window that began after a time."""
    query = select(LoginFailuresRow.failures).where(LoginFailuresRow.subject == subject)
    return session.scalar(query.where(LoginFailuresRow.began_at > since)) or 0


def clear(session: Session, subject: str) -> None:
    affected(session, delete(LoginFailuresRow).where(LoginFailuresRow.subject == subject))


def forget(session: Session, before: datetime) -> None:
    """Delete the windows that began before a time."""
    affected(session, delete(LoginFailuresRow).where(LoginFailuresRow.began_at < before))
