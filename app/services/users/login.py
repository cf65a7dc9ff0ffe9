"""Logging in with a password, and what the sweep forgets."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Identity
from app.domain.errors import Unauthenticated
from app.domain.messages import _
from app.services.hooks import SecondStep, hooks
from app.services.ownership.vault import Vault
from app.services.users import audit, passwords, sessions, throttle, tokens
from app.services.users.sessions import Visitor
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import UserRow
from app.store.users import api_tokens, login_failures, login_sessions, one_time_links
from app.store.users import queries as users

T = TypeVar("T")
WRONG = _("The e-mail address or the password is wrong.")
"""The same for an unknown account, a wrong password, and a disabled account."""
EXPIRED = _("This login has expired. Begin again.")
NO_SECOND_STEP = _(
    "This account has a second factor, but this server cannot ask for its code. Ask an admin of this installation to "
    "activate the feature second_factor (VEZNA_FEATURES)."
)


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
            (None, waiting) if (waiting := wait_if_needed(session, user)) else (act(session, user), "")
        ),
    )
    if waiting:
        raise CodeNeeded(waiting)
    return done  # type: ignore[return-value] # there is nothing to wait for


def finish(db: Database, vault: Vault, waiting: str, code: str, act: Callable[[Session, UserRow], T]) -> T:
    """Act for the user of a login that waits for a code. Raises Unauthenticated if it has expired, Invalid for a wrong
    code, and TooMany."""
    return _second_step().finish(db, vault, waiting, code, act)


def wait_if_needed(session: Session, user: UserRow, by: str = "password", profile: dict[str, Any] | None = None) -> str:
    """Have a login of a locked user wait for its second step (`SecondStep.wait_for_code`). Returns its secret; empty
    for a user without a second factor. Raises Unauthenticated if no active feature can ask for a code."""
    return _second_step().wait_for_code(session, user, by, profile) if needs_code(session, user.id) else ""


def needs_code(session: Session, user_id: int) -> bool:
    """Whether a user's logins need a code, also while no active feature can ask for one."""
    return users.has_second_factor(session, user_id)


def accept_profile(session: Session, settings: Settings, user: UserRow, profile: dict[str, Any]) -> None:
    """Let what single sign-on said of a locked user count, after the second step. Raises Unauthenticated."""
    if not any(added.accept_profile(session, settings, user, profile) for added in hooks()):
        raise Unauthenticated(EXPIRED)


def _second_step() -> SecondStep:
    step = next((added.second_step for added in hooks() if added.second_step is not None), None)
    if step is None:
        raise Unauthenticated(NO_SECOND_STEP)
    return step


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
