"""The audit log: each act with its user, time and origin.

An act is recorded in its own transaction: either both are there or neither. The actor is known from where the act came
in: `Access` sets it for a request, a command for itself; anything else is an act of the server.
"""

import getpass
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from app.domain.accounts.audit import SERVER, Action, Actor, AuditFilter
from app.domain.errors import Unavailable
from app.domain.messages import _
from app.settings import Settings
from app.store.database.errors import refused_lock
from app.store.database.session import Database
from app.store.tables import AuditEventRow, UserRow
from app.store.users import audit
from app.store.users.tables import MAX_SUBJECT_LENGTH

log = structlog.get_logger()

AT_ONCE = 500
"""Entries that an export reads in one transaction."""
ATTEMPTS = 10
"""To wait for the transactions that write entries, each of `queries.audit.LOCK_MILLISECONDS`."""
OPENED_SECONDS = 600.0
"""Time in which a process records once that an admin opens an object: a page that refreshes itself opens it again."""
MOST_OPENED = 10_000
_opened: dict[tuple[int | None, str, int], float] = {}
_acting: ContextVar[Actor] = ContextVar("acting", default=SERVER)


def act_as(actor: Actor) -> None:
    """Record what this request, or this command, does from here on as an act of `actor`."""
    _acting.set(actor)


def act_as_command() -> None:
    """Record what this command does as an act of the operating system's user."""
    name = ""
    with suppress(KeyError, OSError):  # a container may run as a user without a name
        name = getpass.getuser()
    act_as(Actor("command line", name=name))


def record(
    session: Session, action: Action, subject: str | int = "", *, user: UserRow | None = None, **details: Any
) -> None:
    """Record an act in its transaction. `user`: who acts, where that is known only now (a login); `details` are plain
    values, never secrets."""
    actor = _acting.get()
    session.add(
        AuditEventRow(
            action=action.value,
            subject=str(subject)[:MAX_SUBJECT_LENGTH],
            via=actor.via,
            user_id=user.id if user else actor.user_id,
            name=user.email if user else actor.name,
            credential_id=actor.credential_id,
            address=actor.address,
            user_agent=actor.user_agent,
            details={name: value for name, value in details.items() if value is not None},
        )
    )


def record_now(db: Database, action: Action, subject: str | int = "", **details: Any) -> None:
    """Record an act that changes nothing else."""
    with db.transaction() as session:
        record(session, action, subject, **details)


def record_opened(db: Database, rows: Iterable[tuple[str, int]]) -> None:
    """Record that an admin opened private objects of other users (table and id), each at most once in
    `OPENED_SECONDS`."""
    at, user = time.monotonic(), _acting.get().user_id
    new = [row for row in dict.fromkeys(rows) if at - _opened.get((user, *row), -OPENED_SECONDS) >= OPENED_SECONDS]
    if not new:
        return
    with db.transaction() as session:
        for table, row_id in new:
            record(session, Action.OPEN_PRIVATE, f"{table} {row_id}")
    _opened.update({(user, *row): at for row in new})
    while len(_opened) > MOST_OPENED:
        del _opened[next(iter(_opened))]


@dataclass(frozen=True)
class AuditEvent:
    id: int
    at: datetime
    action: str
    subject: str
    via: str
    user_id: int | None
    name: str
    credential_id: int | None
    address: str
    user_agent: str
    details: dict[str, Any]

    @classmethod
    def of(cls, row: AuditEventRow) -> "AuditEvent":
        return cls(**{name: getattr(row, name) for name in cls.__dataclass_fields__})


def entries(db: Database, which: AuditFilter, after: int, limit: int | None = None) -> Iterator[AuditEvent]:
    """Entries after an id, the oldest first, without those that have a number while one before them may still be
    committed: an export that is continued misses none. Raises Unavailable."""
    last = _last_settled(db)
    return _entries(db, which, after, last, limit)


def _last_settled(db: Database) -> int:
    for _attempt in range(ATTEMPTS):
        try:
            with db.reading() as session:
                return audit.last_settled(session)
        except OperationalError as error:
            if not refused_lock(error):
                raise
    raise Unavailable(
        _("A transaction that writes to the audit log has not ended for seconds. Export the log again in a minute.")
    )


def _entries(db: Database, which: AuditFilter, after: int, last: int, limit: int | None) -> Iterator[AuditEvent]:
    while limit is None or limit > 0:
        most = AT_ONCE if limit is None else min(limit, AT_ONCE)
        with db.reading() as session:
            read = [AuditEvent.of(row) for row in audit.oldest(session, which, after, last, most)]
        yield from read
        if len(read) < most:
            return
        after, limit = read[-1].id, None if limit is None else limit - len(read)


def forget(db: Database, at: datetime, days: int) -> None:
    """Delete the entries that are older than `VEZNA_AUDIT_DAYS` and a day, in a transaction of its own. The database
    measures their age by its own clock: if it differs by more, nothing is deleted, and that is logged."""
    try:
        db.write(lambda session: audit.forget(session, at - timedelta(days=days + 1)))
    except SQLAlchemyError as error:
        log.warning("no entry of the audit log was deleted", error=str(error))


def record_settings(db: Database, settings: Settings) -> None:
    """Record the settings of a starting web server if they differ from those of the last start."""
    current = _shown(settings)
    with db.transaction() as session:
        last = audit.last(session, Action.CHANGE_SETTINGS)
        before: dict[str, Any] = last.details.get("settings", {}) if last else {}
        if last is not None and before == current:
            return
        changed = sorted(name for name in before.keys() | current.keys() if before.get(name) != current.get(name))
        record(session, Action.CHANGE_SETTINGS, settings=current, changed=changed)


def _shown(settings: Settings) -> dict[str, Any]:
    """The settings that differ from their defaults. Of a secret only that it is set, and of an address no password."""
    given = settings.model_dump(mode="json", exclude_defaults=True)
    return {name: _value(getattr(settings, name), given[name]) for name in sorted(given)}


def _value(value: object, plain: Any) -> Any:
    if isinstance(value, SecretStr):
        return "set"
    if isinstance(value, str) and "@" in value and "//" in value:
        return urlsplit(value)._replace(netloc=urlsplit(value).netloc.rpartition("@")[2]).geturl()
    return plain
