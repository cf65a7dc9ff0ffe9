"""The limit on failed logins: of each account, and from each address.

A failure is counted before the password is verified, so that attempts at the same time cannot exceed the limit; a
success takes it back. An account that does not exist is counted like any other, so a refusal does not say which exist.
"""

import hashlib
import math
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.accounts.clients import network_of
from app.domain.errors import TooMany
from app.domain.messages import _
from app.store.queries import login_failures
from app.store.session import Database
from app.store.tables import now

WINDOW = timedelta(minutes=15)
MOST_BY_ACCOUNT = 10
MOST_BY_ADDRESS = 50
"""Several people may share an address."""


def attempt(db: Database, email: str, address: str) -> None:
    """Count an attempt to log in as a failure. Raises TooMany above one of the limits."""
    _count(db, ((_of_account(email), MOST_BY_ACCOUNT), (_of_address(address), MOST_BY_ADDRESS)))


def _count(db: Database, limits: Iterable[tuple[str, int]]) -> None:
    at = now()
    with db.transaction() as session:
        counts = [(*login_failures.add(session, subject, at, WINDOW), most) for subject, most in limits]
    ends = [began_at + WINDOW for failures, began_at, most in counts if failures > most]
    if ends:
        seconds = max(1, math.ceil((max(ends) - at).total_seconds()))
        minutes = math.ceil(seconds / 60)
        raise TooMany(_("Too many failed logins. Try again in %(minutes)s minutes.", minutes=minutes), seconds)


def succeeded(session: Session, email: str, address: str) -> None:
    """Take an attempt back: the account starts from zero, the address has one failure less."""
    login_failures.clear(session, _of_account(email))
    login_failures.take_back(session, _of_address(address))


def unverified(session: Session, email: str, address: str) -> None:
    """Take an attempt back whose password could not be verified."""
    for subject in (_of_account(email), _of_address(address)):
        login_failures.take_back(session, subject)


def attempt_code(db: Database, user_id: int) -> None:
    """Count an attempt at a second factor as a failure. Raises TooMany above the limit of an account."""
    _count(db, ((_of_code(user_id), MOST_BY_ACCOUNT),))


def lift_codes(session: Session, user_id: int) -> None:
    """Forget the wrong codes of an account, after a right one."""
    login_failures.clear(session, _of_code(user_id))


def lift(session: Session, email: str) -> None:
    """Forget the failures of an account, whose password was reset."""
    login_failures.clear(session, _of_account(email))


def _of_code(user_id: int) -> str:
    return _digest(f"code {user_id}")


def _of_account(email: str) -> str:
    return _digest(f"account {email}")


def _of_address(address: str) -> str:
    return _digest(f"address {network_of(address)[0]}")


def _digest(subject: str) -> str:
    return hashlib.sha256(subject.encode(errors="surrogatepass")).hexdigest()
