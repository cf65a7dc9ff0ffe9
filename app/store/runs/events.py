"""The log of a run."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store.tables import RunEventRow


def add(session: Session, run_id: int, kind: str, message: str) -> None:
    """Write a line. PostgreSQL keeps no NUL in a text, and a library may print one."""
    session.add(RunEventRow(run_id=run_id, kind=kind, message=message.replace("\0", "\N{REPLACEMENT CHARACTER}")))


def add_once(session: Session, run_id: int, kind: str, message: str) -> None:
    """Write a line unless the run's log already has it."""
    known = select(RunEventRow.id).where(
        RunEventRow.run_id == run_id, RunEventRow.kind == kind, RunEventRow.message == message
    )
    if session.scalar(known.limit(1)) is None:
        add(session, run_id, kind, message)


def after(session: Session, run_id: int, event_id: int = 0, *, limit: int = 500) -> list[RunEventRow]:
    """A run's lines after an event id, in order."""
    query = select(RunEventRow).where(RunEventRow.run_id == run_id, RunEventRow.id > event_id)
    return list(session.scalars(query.order_by(RunEventRow.id).limit(limit)))


def last(session: Session, run_id: int, *, limit: int) -> list[RunEventRow]:
    """A run's last lines, in order."""
    query = select(RunEventRow).where(RunEventRow.run_id == run_id).order_by(RunEventRow.id.desc()).limit(limit)
    return list(session.scalars(query))[::-1]


def count_log(session: Session, run_id: int) -> int:
    """How many lines its script has added to the log of a run."""
    query = select(func.count()).where(RunEventRow.run_id == run_id, RunEventRow.kind == "log")
    return session.scalar(query) or 0
