"""Browser sessions: begun by a login, ended by disuse, by age, or by their user."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.accounts import credentials
from app.domain.accounts.audit import Action
from app.domain.accounts.policy import SCOPES, Identity
from app.domain.errors import NotFound
from app.domain.messages import _
from app.services.users import audit
from app.store.database.session import Database
from app.store.tables import LoginSessionRow, UserRow, now
from app.store.users import login_sessions
from app.store.users import queries as users
from app.store.users.tables import ADDRESS, MAX_AGENT_LENGTH

IDLE = timedelta(hours=12)
"""Time without a request after which a session ends."""
LONGEST = timedelta(days=14)
"""Time after its login at which it ends, however often it is used."""
SEEN_EVERY = timedelta(minutes=5)
"""Accuracy of the time of the last request. Each request would otherwise be a write."""


@dataclass(frozen=True)
class Visitor:
    """Where a request comes from."""

    address: str
    user_agent: str = ""

    @classmethod
    def of(cls, address: str, user_agent: str = "") -> "Visitor":
        """From what a client sends: as long as the columns, and without characters that cannot be stored."""
        host, agent = ("".join(c if c.isprintable() else " " for c in text) for text in (address, user_agent))
        return cls(host[: ADDRESS.length], agent[:MAX_AGENT_LENGTH])


def begin(session: Session, user: UserRow, visitor: Visitor, by: str = "password") -> str:
    """Begin a session. `by`: how its user logged in, for the audit log. Returns its secret, for the cookie."""
    secret, at = credentials.new_secret(), now()
    row = LoginSessionRow(
        user_id=user.id,
        secret_sha256=credentials.digest(secret),
        created_at=at,
        seen_at=at,
        expires_at=at + LONGEST,
        address=visitor.address,
        user_agent=visitor.user_agent,
    )
    session.add(row)
    user.last_login_at = at
    session.flush()
    audit.record(session, Action.LOG_IN, row.id, user=user, by=by)
    return secret


def authenticate(db: Database, secret: str, visitor: Visitor, *, used: bool = True) -> Identity | None:
    """The user of a session; None if it has ended. One query, and a write every `SEEN_EVERY` if that counts as use."""
    if not credentials.is_secret(secret):
        return None
    at = now()
    with db.reading() as session:
        pair = login_sessions.by_secret(session, credentials.digest(secret))
    if pair is None or pair[0].expires_at <= at or pair[0].seen_at <= at - IDLE:
        return None
    row, user = pair
    if used and row.seen_at <= at - SEEN_EVERY:
        with db.transaction() as session:
            login_sessions.seen(session, row.id, at, visitor.address, visitor.user_agent)
    scopes = SCOPES[user.role]
    return Identity(user.id, user.email, user.name, user.role, scopes, session_id=row.id, language=user.language or "")


def of_user(session: Session, user_id: int) -> Sequence[LoginSessionRow]:
    """A user's live sessions, the most recently used first."""
    at = now()
    return login_sessions.of_user(session, user_id, at - IDLE, at)


def end(session: Session, user_id: int, session_id: int, action: Action = Action.END_SESSION) -> None:
    """End a session of a user. Raises NotFound."""
    if not login_sessions.end(session, user_id, session_id):
        raise NotFound(_("There is no session %(session_id)s.", session_id=session_id))
    audit.record(session, action, session_id)


def end_others(session: Session, user_id: int, kept_id: int | None) -> None:
    """End a user's sessions but one. A login at the same time is before or after it, by the lock of the user."""
    users.get(session, user_id, lock=True)
    ended = login_sessions.end_all(session, user_id, kept_id)
    audit.record(session, Action.END_SESSION, "", kept=kept_id, sessions=ended)
