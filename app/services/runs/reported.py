"""Runs that scripts elsewhere report: whether one is silent, and how it is cancelled then."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.domain.imports.reports import QUIET, SILENCE
from app.domain.runs.status import RunStatus
from app.services.runs import ended as ended_runs
from app.store.runs import events
from app.store.runs import queries as runs
from app.store.studies import external
from app.store.tables import RunRow
from app.store.workers import clock


def is_silent(session: Session, run: RunRow) -> bool:
    """A run goes on elsewhere, and its script has not reported for a day."""
    return external.is_silent(session, run, SILENCE)


def is_quiet(session: Session, run: RunRow) -> bool:
    """The same for the time after which people are told when the last report came."""
    return external.is_silent(session, run, QUIET)


def cancel_silent(session: Session, run: RunRow, at: datetime) -> bool:
    """Cancel a run whose script has not reported for a day and may have ended. False for any other."""
    silent = RunRow.heard_at < clock.now(session) - SILENCE
    ended = RunStatus.RUNNING, RunStatus.CANCELLED
    if not runs.move(session, run.id, *ended, silent, finished_at=at, cancel_requested_at=at):
        return False
    events.add(session, run.id, "status", "cancelled; its script had been silent for a day")
    ended_runs.note(session, run.id)
    return True
