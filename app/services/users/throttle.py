"""The limit on failed logins: of each account, and from each address.

A failed password is counted once it is verified, so simultaneous logins with the right one do not use up the limit. The
limit holds for the answer: once it is reached, an attempt whose password is being verified learns nothing, whether that
is right or wrong. A code of a second factor is counted before it is verified, and a right one takes that back. An
account that does not exist is counted like any other, so a refusal does not say which exist. The audit log has one
entry when a limit is exceeded, not one for each refused attempt.
"""

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.clients import network_of
from app.domain.errors import TooMany
from app.domain.messages import _
from app.services.users import audit
from app.store.database.session import Database
from app.store.tables import now
from app.store.users import login_failures
from app.store.users import queries as users

WINDOW = timedelta(minutes=15)
MOST_BY_ACCOUNT = 10
MOST_BY_ADDRESS = 50
"""Several people may share an address."""


def require_room(db: Database, email: str, address: str) -> None:
    """Raise TooMany if an account or an address has reached its limit of failed logins."""
    limits = _limits(email, address)
    with db.reading() as session:
        reached = any(login_failures.count(session, one.subject, now() - WINDOW) >= one.most for one in limits)
    if reached:
        _count(db, limits)


def failed(db: Database, email: str, address: str) -> None:
    """Count a wrong password. Raises TooMany if others have reached one of the limits meanwhile."""
    _count(db, _limits(email, address))


def attempt_code(db: Database, user_id: int) -> None:
    """Count an attempt at a second factor as a failure. Raises TooMany above the limit of an account."""
    _count(
        db,
        [_Limit(_of_code(user_id), MOST_BY_ACCOUNT, "codes", lambda session: users.get(session, user_id).email)],
    )


def count_refusal(session: Session, address: str) -> bool:
    """Count a refused single sign-on as a failure of its address. Whether the address is within its limit."""
    failures, _began_at = _add(session, _address(address), now())
    return failures <= MOST_BY_ADDRESS


@dataclass(frozen=True)
class _Limit:
    subject: str
    most: int
    name: str
    """Its name in the audit log."""
    account: Callable[[Session], str] = lambda _session: ""
    """E-mail address of the account, for the audit log."""


def _limits(email: str, address: str) -> tuple[_Limit, _Limit]:
    def account(session: Session) -> str:
        user = users.by_email(session, email) if email.isprintable() else None
        return user.email if user else ""  # of an unknown account not what was typed

    return _Limit(_of_account(email), MOST_BY_ACCOUNT, "account", account), _address(address)


def _address(address: str) -> _Limit:
    return _Limit(_of_address(address), MOST_BY_ADDRESS, "address")


def _add(session: Session, limit: _Limit, at: datetime) -> tuple[int, datetime]:
    """Count a failure. The first one above the limit is recorded, for all further ones of the window."""
    failures, began_at = login_failures.add(session, limit.subject, at, WINDOW)
    if failures == limit.most + 1:
        audit.record(session, Action.LOGIN_FAILED, limit.account(session), limit=limit.name)
    return failures, began_at


def _count(db: Database, limits: Iterable[_Limit]) -> None:
    at = now()
    with db.transaction() as session:
        counts = [(*_add(session, limit, at), limit.most) for limit in limits]
    ends = [began_at + WINDOW for failures, began_at, most in counts if failures > most]
    if ends:
        seconds = max(1, math.ceil((max(ends) - at).total_seconds()))
        minutes = math.ceil(seconds / 60)
        raise TooMany(_("Too many failed logins. Try again in %(minutes)s minutes.", minutes=minutes), seconds)


def lift_codes(session: Session, user_id: int) -> None:
    """Forget the wrong codes of an account, after a right one."""
    login_failures.clear(session, _of_code(user_id))


def lift(session: Session, email: str) -> None:
    """Forget the failures of an account, after a right password or a reset one."""
    login_failures.clear(session, _of_account(email))


def _of_code(user_id: int) -> str:
    return _digest(f"code {user_id}")


def _of_account(email: str) -> str:
    return _digest(f"account {email}")


def _of_address(address: str) -> str:
    return _digest(f"address {network_of(address)[0]}")


def _digest(subject: str) -> str:
    return hashlib.sha256(subject.encode(errors="surrogatepass")).hexdigest()
