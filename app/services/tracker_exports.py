"""Export every study that ends to the installation's experiment tracker (`VEZNA_TRACKER`), and every study that goes on
at intervals, if `VEZNA_TRACKER_LIVE_SECONDS` says so.

A study that has ended gets a row, and so does one that goes on if it is exported live. The control node claims one row
at a time by one UPDATE, which gives it a lease, and exports the study in a child process over REST while it renews the
lease. A failed attempt is repeated after each of `RETRY_SECONDS`, as is one whose control node was killed. Nothing here
changes a run or a study.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.domain.errors import VeznaError
from app.domain.imports.reports import SILENCE
from app.domain.messages import Message, _
from app.services import baselines
from app.store.queries import base_models, clock, datasets, runs, studies
from app.store.queries import tracker_exports as queries
from app.store.session import savepoint
from app.store.tables import CollectionRow, StudyRow, now
from app.store.tables.tracker_export import TrackerExport

log = structlog.get_logger()

RETRY_SECONDS = (60, 300, 1800, 7200, 21600, 43200, 86400)
"""After each failed attempt; 45 hours in all."""
LIVE_RETRIES = 3
"""While a study goes on, the first of these pauses follow, and then the last of them each time."""
MOST_ATTEMPTS = 1 + len(RETRY_SECONDS)
EXPORT_SECONDS = 3600.0
"""The longest attempt."""
LEASE = timedelta(seconds=120)
"""For which an attempt has a study."""
RENEW_SECONDS = 30.0


@dataclass(frozen=True)
class Claim:
    """A study that is being exported."""

    study_id: int
    external: bool
    """Its runs are trained elsewhere."""
    live: bool
    """It goes on."""
    epoch: int
    number: int
    """Of the attempt, from 1."""
    again: datetime
    """When it is exported again if the attempt has no outcome; another time in the row says that the study has ended
    since."""


def study_ended(session: Session, study_id: int, *, external: bool) -> None:
    """Have a study exported that has ended. A private one, which only its owner and admins see, waits until the team
    sees it."""
    queries.queue(session, study_id, now(), external=external)


def go_live(session: Session) -> None:
    """Have the studies that go on exported until they end."""
    for outside, study_id in queries.not_live(session, _heard_since(session)):
        queries.queue(session, study_id, now(), external=outside, live=True)


def begin(session: Session, *, live: bool = False) -> Claim | None:
    """Claim the study that has waited longest, with `live` also one that goes on. One that has ended waits for its
    baselines, since its verdict needs them, and until seeds or arms have ended that were added since. What is wrong
    with a study fails its attempt alone."""
    at = now()
    for row in queries.due(session, at, live=live):
        if row.attempts >= MOST_ATTEMPTS and not row.live:  # the last attempt was killed
            why = _("The control node ended during the last attempt.")
            ended: dict[str, Any] = {"next_at": None, "leased_until": None, "message": why}
            queries.write(session, row.study_id, row.epoch, external=row.external, **ended)
            continue
        wrong: Exception | None = None
        try:
            with savepoint(session):
                if not _is_its_turn(session, row):
                    continue
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            wrong = error
        number = row.attempts + 1
        claim = Claim(row.study_id, row.external, row.live, row.epoch + 1, number, at + _pause(number, row.live))
        values: dict[str, Any] = {"epoch": claim.epoch, "attempts": number, "next_at": claim.again, "message": ""}
        values["leased_until"] = at + LEASE
        if not queries.write(session, row.study_id, row.epoch, external=row.external, **values):
            continue
        if wrong is None:
            return claim
        failed(session, claim, reason(wrong, claim.study_id))
    return None


def renew(session: Session, claim: Claim) -> bool:
    """Keep a study for longer. False if another attempt has it, or if it was deleted."""
    values = {"leased_until": now() + LEASE}
    return queries.write(session, claim.study_id, claim.epoch, external=claim.external, **values)


def succeeded(session: Session, claim: Claim, url: str, live_seconds: float = 0) -> None:
    """Write where a study is now; while it goes on, it is exported again after `live_seconds`."""
    if row := _end(session, claim):
        row.url, row.exported_at = url, now()
        if _is_as_claimed(row, claim):
            row.next_at = now() + timedelta(seconds=live_seconds) if claim.live else None
            row.attempts, row.message = 0 if claim.live else row.attempts, ""


def failed(session: Session, claim: Claim, why: str, live_seconds: float = 0) -> None:
    """Write why an attempt failed, and when the next one follows, if any."""
    row = _end(session, claim)
    if row is None or not _is_as_claimed(row, claim):
        return
    row.message, row.next_at = why, None
    if claim.live or claim.number < MOST_ATTEMPTS:
        row.next_at = now() + max(_pause(claim.number, claim.live), timedelta(seconds=live_seconds * claim.live))


def _pause(number: int, live: bool) -> timedelta:
    """After an attempt that failed or was killed; after the last one, until it is known."""
    if number >= MOST_ATTEMPTS and not live:
        return LEASE
    return timedelta(seconds=RETRY_SECONDS[min(number, LIVE_RETRIES if live else MOST_ATTEMPTS) - 1])


def give_back(session: Session, claim: Claim) -> None:
    """End an attempt that does not count: the control node shuts down."""
    row = _end(session, claim)
    if row is not None and _is_as_claimed(row, claim):
        row.attempts, row.next_at = claim.number - 1, now()


def _end(session: Session, claim: Claim) -> TrackerExport | None:
    """The row of an attempt, which ends; None if another attempt has the study, or if it was deleted."""
    row = queries.held(session, claim.study_id, claim.epoch, external=claim.external)
    if row is not None:
        row.leased_until = None
    return row


def _is_as_claimed(row: TrackerExport, claim: Claim) -> bool:
    """The study has not ended, again or at all, during the attempt."""
    return row.live == claim.live and row.next_at == claim.again


def reason(error: Exception, study_id: int) -> Message:
    """Why an attempt failed. What was not raised on purpose is logged."""
    if isinstance(error, VeznaError):
        return error.message
    log.error("an export to the tracker failed", study=study_id, exc_info=error)
    what = str(error) if isinstance(error, OSError) else type(error).__name__
    return _("Vezna failed (%(error)s). Its log has the details; tell an admin.", error=what)


State = Literal["waiting", "private", "live", "exported", "failed"]
"""`waiting`: an attempt follows or goes on; `private`: one follows once the team sees the study; `live`: it is exported
until it ends; `failed`: no attempt follows."""


@dataclass(frozen=True)
class ExportState:
    """What people are told of the export of a study."""

    row: TrackerExport
    state: State

    @property
    def command(self) -> str:
        """By which a person exports it, but for the address."""
        return f"vezna export-study {self.row.study_id}{' --external' if self.row.external else ''}"

    @property
    def most_attempts(self) -> int:
        """After which it has failed."""
        return MOST_ATTEMPTS


def of_study(session: Session, study: StudyRow | CollectionRow) -> ExportState | None:
    """The export of a study; None if it has neither ended nor been exported since there is a tracker."""
    row = queries.of_study(session, study.id, external=isinstance(study, CollectionRow))
    return ExportState(row, state(row, private=study.private_to is not None)) if row else None


def state(row: TrackerExport, *, private: bool = False) -> State:
    """Of a row."""
    if row.next_at is not None:
        return "private" if private else "live" if row.live else "waiting"
    return "failed" if row.message else "exported"


def _is_its_turn(session: Session, row: TrackerExport) -> bool:
    """A study that has ended, or one that goes on whose export is live."""
    running = any_running(session, row.study_id, external=row.external)
    if row.live or row.external:
        return running == row.live
    study = studies.get(session, row.study_id)
    live = bool(study.tuning) or runs.any_live(session, study.id)
    return not live and not _awaits_baselines(session, study)


def any_running(session: Session, study_id: int, *, external: bool) -> bool:
    """A run of a study goes on; one elsewhere whose script has been silent for a day does not."""
    return queries.any_running(session, study_id, external=external, heard_since=_heard_since(session))


def _heard_since(session: Session) -> datetime:
    return clock.now(session) - SILENCE


def _awaits_baselines(session: Session, study: StudyRow) -> bool:
    model = base_models.by_id(session, study.base_model_id)
    dataset = datasets.by_id(session, study.dataset_id)
    if model is None or dataset is None:
        return False
    [stored] = baselines.stored(session, [baselines.requests(study.spec, model, dataset, study.owner_id)])
    return any(baseline.status == "working" for baseline in stored)
