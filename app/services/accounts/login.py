"""Logging in with a password, and what the sweep forgets."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.domain.errors import Unauthenticated
from app.domain.messages import _
from app.services.accounts import passwords, sessions, throttle
from app.services.accounts.sessions import Visitor
from app.store.queries import login_failures, login_sessions, one_time_links, users
from app.store.session import Database
from app.store.tables import UserRow

WRONG = _("The e-mail address or the password is wrong.")
"""The same for an unknown account, a wrong password, and a disabled account."""


def verify(db: Database, email: str, password: str, visitor: Visitor) -> int:
    """The id of the user with an e-mail address and a password. An unknown account takes the same time as a wrong
    password. Raises Unauthenticated, TooMany, and Unavailable if many log in at once."""
    email = email.strip().lower()
    throttle.attempt(db, email, visitor.address)
    with db.reading() as session:
        user = users.by_email(session, email)
    known = user is not None and not user.disabled and user.password_hash is not None
    right, newer = passwords.verified(password, user.password_hash if user is not None and known else None)
    if user is None or not known or not right:
        raise Unauthenticated(WRONG)
    with db.transaction() as session:
        throttle.succeeded(session, email, visitor.address)
        if newer is not None:
            users.get(session, user.id, lock=True).password_hash = newer
    return user.id


def log_in(db: Database, email: str, password: str, visitor: Visitor, replaces: int | None = None) -> str:
    """Begin a session, which replaces the one of the same browser. Returns its secret, for the cookie. Raises what
    `verify` raises."""
    user_id = verify(db, email, password, visitor)
    with db.transaction() as session:
        return begin(session, users.get(session, user_id, lock=True), visitor, replaces)


def begin(session: Session, user: UserRow, visitor: Visitor, replaces: int | None = None) -> str:
    """Begin a session of a locked user. Raises Unauthenticated if the user is disabled."""
    if user.disabled:
        raise Unauthenticated(WRONG)
    if replaces is not None:
        login_sessions.end(session, user.id, replaces)
    return sessions.begin(session, user, visitor)


def forget(session: Session, at: datetime) -> None:
    """Delete the sessions, links and failures that have expired by a time."""
    login_sessions.forget(session, at - sessions.IDLE, at)
    one_time_links.forget(session, at)
    login_failures.forget(session, at - throttle.WINDOW)
