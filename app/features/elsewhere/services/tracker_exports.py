"""Export every study that ends to the installation's experiment tracker (`VEZNA_TRACKER`), and every study that goes on
at intervals, if `VEZNA_TRACKER_LIVE_SECONDS` says so.

A study gets a row when one of its runs ends, and while it goes on if it is exported live. Whether it has ended is read
from its runs when the control node claims the row, never from the row. The claim is one UPDATE, which gives it a lease;
a child process exports the study over REST while the lease is renewed. A failed attempt is repeated after each of
`RETRY_SECONDS`, as is one whose control node was killed. Nothing here changes a run or a study. Times are those of the
database's clock (`app.store.workers.clock`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Any, Literal

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.domain.errors import VeznaError
from app.domain.imports.reports import SILENCE
from app.domain.messages import Message, _
from app.domain.studies.tracker_export import TrackerState
from app.features.elsewhere.queries import tracker_exports as queries
from app.features.elsewhere.tables import TrackerExport
from app.services.data import baselines
from app.services.runs import ended as ended_runs
from app.store.data import queries as datasets
from app.store.database.messages import as_stored
from app.store.database.owned import sees_all
from app.store.database.session import savepoint
from app.store.models import queries as base_models
from app.store.studies import queries as studies
from app.store.tables import CollectionRow, RunRow, StudyRow, now
from app.store.workers import clock

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
    """When it is exported again if the attempt has no outcome; another time in the row says that a run has ended
    since."""


def runs_ended(session: Session, ended: Sequence[RunRow]) -> None:
    """Have the studies of runs exported that have ended: now if that was the last one, else when its turn comes. A
    private study, which only its owner and admins see, waits until the team sees it. Imported runs of other collections
    belong to no study."""
    for study_id in sorted({run.study_id for run in ended if run.study_id is not None}):
        last = ended_runs.has_ended(session, studies.get(session, study_id))
        queries.queue(session, study_id, clock.now(session), external=False, ended=last)
    for study_id in sorted({run.collection_id for run in ended if run.collection_id and run.reported_run}):
        last = not any_running(session, study_id, external=True)
        queries.queue(session, study_id, clock.now(session), external=True, ended=last)


def go_live(session: Session) -> None:
    """Have the studies exported that go on, and whose last export, if any, was of their end."""
    for outside, study_id in queries.not_live(session, _heard_since(session)):
        queries.queue(session, study_id, clock.now(session), external=outside)


def leave_live(session: Session) -> None:
    """Have the studies wait for their end that were exported while they go on: the setting was unset."""
    queries.leave_live(session, clock.now(session))


def begin(session: Session, *, live: bool = False, until: datetime | None = None) -> Claim | None:
    """Claim the study that has waited longest, at least since `until`; with `live` also one that goes on. One that has
    ended waits for its baselines, since its verdict needs them, and until seeds or arms have ended that were added
    since. What is wrong with a study fails its attempt alone."""
    at = clock.now(session)
    for row in queries.due(session, at, until or at):
        wrong: Exception | None = None
        try:
            with savepoint(session):
                progress = _progress(session, row)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            wrong, progress = error, "running" if row.live and live else "ended"
        if progress == "between" or (progress == "running" and not live):
            continue
        goes_on = progress == "running"
        attempts = row.attempts if row.live == goes_on else 0
        if attempts >= MOST_ATTEMPTS and not goes_on:  # the last attempt was killed
            why = _("The control node ended during the last attempt.")
            ended: dict[str, Any] = {"next_at": None, "leased_until": None, "message": why}
            queries.write(session, row.study_id, row.epoch, external=row.external, **ended)
            continue
        number = attempts + 1
        claim = Claim(row.study_id, row.external, goes_on, row.epoch + 1, number, at + _pause(number, goes_on))
        values: dict[str, Any] = {"epoch": claim.epoch, "attempts": number, "next_at": claim.again, "message": ""}
        values |= {"live": goes_on, "leased_until": at + LEASE}
        if not queries.write(session, row.study_id, row.epoch, external=row.external, **values):
            continue
        if wrong is None:
            return claim
        failed(session, claim, reason(wrong, claim.study_id))
    return None


def renew(session: Session, claim: Claim) -> bool:
    """Keep a study for longer. False if another attempt has it, if it was deleted or made private."""
    until = clock.now(session) + LEASE
    return queries.renew(session, claim.study_id, claim.epoch, until, external=claim.external)


def succeeded(session: Session, claim: Claim, url: str, live_seconds: float = 0) -> None:
    """Write where a study is now; while it goes on, it is exported again after `live_seconds`."""
    if row := _end(session, claim):
        row.url, row.exported_at = url, now()
        if _is_as_claimed(row, claim):
            row.next_at = clock.now(session) + timedelta(seconds=live_seconds) if claim.live else None
            row.attempts, row.message = 0 if claim.live else row.attempts, ""


def failed(session: Session, claim: Claim, why: str, live_seconds: float = 0) -> None:
    """Write why an attempt failed, and when the next one follows, if any."""
    row = _end(session, claim)
    if row is None or not _is_as_claimed(row, claim):
        return
    row.message, row.next_at = as_stored(why), None
    if claim.live or claim.number < MOST_ATTEMPTS:
        row.next_at = clock.now(session) + max(
            _pause(claim.number, claim.live), timedelta(seconds=live_seconds * claim.live)
        )


def _pause(number: int, live: bool) -> timedelta:
    """After an attempt that failed or was killed; after the last one, until it is known."""
    if number >= MOST_ATTEMPTS and not live:
        return LEASE
    return timedelta(seconds=RETRY_SECONDS[min(number, LIVE_RETRIES if live else MOST_ATTEMPTS) - 1])


def give_back(session: Session, claim: Claim) -> None:
    """End an attempt that does not count: the control node shuts down."""
    row = _end(session, claim)
    if row is not None and _is_as_claimed(row, claim):
        row.attempts, row.next_at = claim.number - 1, clock.now(session)


def _end(session: Session, claim: Claim) -> TrackerExport | None:
    """The row of an attempt, which ends; None if another attempt has the study, or if it was deleted."""
    row = queries.held(session, claim.study_id, claim.epoch, external=claim.external)
    if row is not None:
        row.leased_until = None
    return row


def _is_as_claimed(row: TrackerExport, claim: Claim) -> bool:
    """No run has ended during the attempt after which the study has to be exported again."""
    return row.next_at == claim.again


def reason(error: Exception, study_id: int) -> Message:
    """Why an attempt failed. What was not raised on purpose is logged."""
    if isinstance(error, VeznaError):
        return error.message
    log.error("an export to the tracker failed", study=study_id, exc_info=error)
    what = str(error) if isinstance(error, OSError) else type(error).__name__
    return _("Vezna failed (%(error)s). Its log has the details; tell an admin.", error=what)


@dataclass(frozen=True)
class ExportState:
    """What people are told of the export of a study."""

    row: TrackerExport
    state: TrackerState
    place: str
    """Its address, or the folder; of a folder only admins see the path, others its name."""

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
    if row is None:
        return None
    shown = row.url if sees_all(session) or not row.url.startswith("/") else PurePath(row.url).name
    return ExportState(row, state(row, private=study.private_to is not None), shown)


def state(row: TrackerExport, *, private: bool = False) -> TrackerState:
    """Of a row."""
    if row.next_at is not None:
        return "private" if private else "live" if row.live else "waiting"
    return "failed" if row.message else "exported"


def _progress(session: Session, row: TrackerExport) -> Literal["running", "between", "ended"]:
    """What a study does now; `between`: no run is running, but some are queued, or baselines are being computed."""
    if any_running(session, row.study_id, external=row.external):
        return "running"
    if row.external:
        return "ended"
    study = studies.get(session, row.study_id)
    ended = ended_runs.has_ended(session, study) and not _awaits_baselines(session, study)
    return "ended" if ended else "between"


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
