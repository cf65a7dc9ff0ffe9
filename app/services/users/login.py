"""Logging in with a password, and what the sweep forgets."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Identity
from app.domain.errors import Unauthenticated
from app.domain.messages import _
from app.features.second_factor import queries as second_factors
from app.features.second_factor import service as second_factor
from app.features.single_sign_on import queries as openid
from app.services.ownership.vault import Vault
from app.services.users import audit, passwords, sessions, throttle, tokens
from app.services.users.sessions import Visitor
from app.store.database.session import Database
from app.store.tables import UserRow, now
from app.store.users import api_tokens, login_failures, login_sessions, one_time_links
from app.store.users import queries as users

T = TypeVar("T")
WRONG = _("The e-mail address or the password is wrong.")
"""The same for an unknown account, a wrong password, and a disabled account."""


def verify(db: Database, email: str, password: str, visitor: Visitor, act: Callable[[Session, UserRow], T]) -> T:
    """Verify a password, and act for its user: in a transaction that has locked the user, whose password is still the
    verified one. An unknown account takes the same time as a wrong password. Raises Unauthenticated, TooMany, and
    Unavailable if many log in at once."""
    email = email.strip().lower()
    throttle.require_room(db, email, visitor.address)
    with db.reading() as session:
        user = users.by_email(session, email) if email.isprintable() else None  # PostgreSQL takes no NUL
    stored = user.password_hash if user is not None and not user.disabled else None
    right, newer = passwords.verified(password, stored)
    if user is None or stored is None or not right:
        throttle.failed(db, email, visitor.address)
        # of an unknown account not even its name: people type passwords there
        audit.record_now(db, Action.LOGIN_FAILED, user.email if user is not None else "")
        raise Unauthenticated(WRONG)
    throttle.require_room(db, email, visitor.address)  # simultaneous guesses may have reached the limit meanwhile
    with db.transaction() as session:
        throttle.lift(session, email)
    with db.transaction() as session:
        row = users.get(session, user.id, lock=True)
        if row.disabled or row.password_hash != stored:  # since it was verified
            raise Unauthenticated(WRONG)
        row.password_hash = newer or stored
        return act(session, row)


class CodeNeeded(Exception):
    """The password was right, and the login waits for a code of the second factor (`finish`)."""

    def __init__(self, waiting: str) -> None:
        super().__init__("a code is needed")
        self.waiting = waiting


def log_in(db: Database, email: str, password: str, visitor: Visitor, before: Identity | None = None) -> str:
    """Begin a session. It replaces the session that the browser had, also another user's: `before`. Returns its secret,
    for the cookie. Raises what `verify` raises, and CodeNeeded for a user with a second factor."""
    return verify_first(db, email, password, visitor, lambda session, user: begin(session, user, visitor, before))


def verify_first(db: Database, email: str, password: str, visitor: Visitor, act: Callable[[Session, UserRow], T]) -> T:
    """Verify a password, and act for its user. Raises what `verify` raises, and CodeNeeded for a user with a second
    factor; then nothing was done."""
    done, waiting = verify(
        db,
        email,
        password,
        visitor,
        lambda session, user: (
            (None, second_factor.wait_for_code(session, user))
            if second_factor.is_on(session, user.id)
            else (act(session, user), "")
        ),
    )
    if waiting:
        raise CodeNeeded(waiting)
    return done  # type: ignore[return-value] # there is nothing to wait for


def finish(db: Database, vault: Vault, waiting: str, code: str, act: Callable[[Session, UserRow], T]) -> T:
    """Act for the user of a login that waits for a code. Raises Unauthenticated if it has expired, Invalid for a wrong
    code, and TooMany."""
    with db.reading() as session:
        row = second_factor.pending(session, waiting)
        user_id, may_change_role = row.user_id, row.profile is not None
    second_factor.check(db, vault, user_id, code)
    with db.transaction() as session:
        if may_change_role:
            users.lock_active_admins(session)  # before the user, as every change of a role does
        user = users.get(session, user_id, lock=True)
        second_factor.pending(session, waiting)  # another password has ended it meanwhile
        if user.disabled:
            raise Unauthenticated(WRONG)
        done = act(session, user)
        second_factors.forget(session, now(), user_id)
        return done


def begin(
    session: Session, user: UserRow, visitor: Visitor, before: Identity | None = None, by: str = "password"
) -> str:
    """Begin a session of a locked user. Raises Unauthenticated if the user is disabled."""
    if user.disabled:
        raise Unauthenticated(WRONG)
    if before is not None and before.user_id is not None and before.session_id is not None:
        login_sessions.end(session, before.user_id, before.session_id)
    return sessions.begin(session, user, visitor, by)


def forget(session: Session, at: datetime) -> None:
    """Delete the sessions, links and failures that have expired by a time, and the tokens that have long expired."""
    login_sessions.forget(session, at - sessions.IDLE, at)
    one_time_links.forget(session, at)
    api_tokens.forget(session, at - tokens.LISTED)
    login_failures.forget(session, at - throttle.WINDOW)
    second_factors.forget(session, at)
    second_factors.forget_setups(session, at - second_factor.SETUP)
    openid.forget(session, at)
