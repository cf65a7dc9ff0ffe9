"""Queries of the audit log."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action, AuditFilter
from app.store.database.page import Page, cut
from app.store.database.rows import affected
from app.store.tables import AuditEventRow

LOCK_MILLISECONDS = 500


def newest(session: Session, which: AuditFilter, before: int | None, limit: int) -> Page[AuditEventRow]:
    """Entries, the newest first, before an id."""
    query = select(AuditEventRow).where(*_conditions(which))
    if before is not None:
        query = query.where(AuditEventRow.id < before)
    rows = list(session.scalars(query.order_by(AuditEventRow.id.desc()).limit(limit + 1)))
    return cut(rows, [row.id for row in rows], limit)


def oldest(session: Session, which: AuditFilter, after: int, last: int, limit: int) -> Sequence[AuditEventRow]:
    """Entries, the oldest first, after an id and up to a last one."""
    query = select(AuditEventRow).where(AuditEventRow.id > after, AuditEventRow.id <= last, *_conditions(which))
    return session.scalars(query.order_by(AuditEventRow.id).limit(limit)).all()


def last_settled(session: Session) -> int:
    """The largest id; every entry with a smaller one is committed, or never will be.

    PostgreSQL gives ids before transactions commit, so one with a smaller id may come later: wait for those that write
    entries, by a lock that their INSERT holds. Raises OperationalError if they do not end in time; not to wait longer
    than PostgreSQL waits before it looks for deadlocks (1 s) keeps it from ending one of theirs.
    """
    if session.get_bind().dialect.name != "sqlite":
        session.execute(text(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}"))
        session.execute(text("LOCK TABLE audit_events IN SHARE MODE"))
    return session.scalar(select(func.max(AuditEventRow.id))) or 0


def last(session: Session, action: Action) -> AuditEventRow | None:
    query = select(AuditEventRow).where(AuditEventRow.action == action.value)
    return session.scalars(query.order_by(AuditEventRow.id.desc()).limit(1)).first()


def forget(session: Session, before: datetime) -> int:
    """Delete the entries before a time. Returns their number."""
    return affected(session, delete(AuditEventRow).where(AuditEventRow.at < before))


def _conditions(which: AuditFilter) -> list[ColumnElement[bool]]:
    conditions = []
    if "." in which.action:
        conditions.append(AuditEventRow.action == which.action)
    elif which.action:
        conditions.append(AuditEventRow.action.startswith(f"{which.action}.", autoescape=True))
    if which.name:
        conditions.append(AuditEventRow.name == which.name)
    if which.subject:
        conditions.append(AuditEventRow.subject == which.subject)
    if which.since:
        conditions.append(AuditEventRow.at >= which.since)
    if which.until:
        conditions.append(AuditEventRow.at < which.until)
    return conditions
