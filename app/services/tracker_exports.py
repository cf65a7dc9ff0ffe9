"""Export every study that ends to the installation's experiment tracker (`VEZNA_TRACKER`).

A study that has ended gets a row; the control node claims one at a time by one UPDATE, and exports it in a child
process over REST. A failed attempt is repeated after each of `RETRY_SECONDS`; a killed one when its claim has expired.
Nothing here changes a run or a study.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.domain.errors import VeznaError
from app.domain.messages import Message, _
from app.services import baselines
from app.store.queries import base_models, datasets, runs, studies
from app.store.queries import tracker_exports as queries
from app.store.session import savepoint
from app.store.tables import StudyRow, TrackerExportRow, now

log = structlog.get_logger()

RETRY_SECONDS = (60, 300, 1800, 7200, 21600, 43200, 86400)
"""After each failed attempt; 45 hours in all."""
MOST_ATTEMPTS = 1 + len(RETRY_SECONDS)
EXPORT_SECONDS = 3600.0
"""The longest attempt."""
CLAIMED = timedelta(seconds=EXPORT_SECONDS + 60)
"""After which a claim without an outcome expires."""


@dataclass(frozen=True)
class Claim:
    """A study that is being exported."""

    study_id: int
    epoch: int
    number: int
    """Of the attempt, from 1."""


def study_ended(session: Session, study: StudyRow) -> None:
    """Have a study exported, but not a private one, which only its owner and admins see."""
    if study.private_to is None:
        queries.queue(session, study.id, now())


def begin(session: Session) -> Claim | None:
    """Claim the study that has waited longest. One whose baselines are still being computed waits, since its verdict
    needs them, as does one to which seeds or arms were added since it ended. What is wrong with a study fails its
    attempt alone."""
    at = now()
    for row in queries.due(session, at):
        if row.attempts >= MOST_ATTEMPTS:  # the last attempt was killed
            why = _("The control node ended during the last attempt.")
            queries.write(session, row.study_id, row.epoch, next_at=None, message=why)
            continue
        study = studies.get(session, row.study_id)
        if study.private_to is not None:  # since it ended
            if row.exported_at is None:
                queries.forget(session, row.study_id, row.epoch)
            else:
                queries.write(session, row.study_id, row.epoch, next_at=None, message="")
            continue
        wrong: Exception | None = None
        try:
            with savepoint(session):
                if _goes_on(session, study) or _awaits_baselines(session, study):
                    continue
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            wrong = error
        claim = Claim(row.study_id, row.epoch + 1, row.attempts + 1)
        values = {"epoch": claim.epoch, "attempts": claim.number, "next_at": at + CLAIMED, "message": ""}
        if not queries.write(session, row.study_id, row.epoch, **values):
            continue
        if wrong is None:
            return claim
        failed(session, claim, reason(wrong, claim.study_id))
    return None


def succeeded(session: Session, claim: Claim, url: str) -> None:
    """Write where a study is now."""
    values = {"next_at": None, "exported_at": now(), "url": url, "message": ""}
    queries.write(session, claim.study_id, claim.epoch, **values)


def failed(session: Session, claim: Claim, why: str) -> None:
    """Write why an attempt failed, and when the next one follows, if any."""
    again = None
    if claim.number < MOST_ATTEMPTS:
        again = now() + timedelta(seconds=RETRY_SECONDS[claim.number - 1])
    queries.write(session, claim.study_id, claim.epoch, next_at=again, message=why)


def reason(error: Exception, study_id: int) -> Message:
    """Why an attempt failed. What was not raised on purpose is logged."""
    if isinstance(error, VeznaError):
        return error.message
    log.error("an export to the tracker failed", study=study_id, exc_info=error)
    what = str(error) if isinstance(error, OSError) else type(error).__name__
    return _("Vezna failed (%(error)s). Its log has the details; tell an admin.", error=what)


def give_back(session: Session, claim: Claim) -> None:
    """End an attempt that does not count: the control node shuts down."""
    queries.write(session, claim.study_id, claim.epoch, next_at=now(), attempts=claim.number - 1)


def state(row: TrackerExportRow) -> Literal["waiting", "exported", "failed"]:
    """`waiting`: an attempt follows or goes on; `failed`: none follows."""
    if row.next_at is not None:
        return "waiting"
    return "failed" if row.message else "exported"


def _goes_on(session: Session, study: StudyRow) -> bool:
    return bool(study.tuning) or runs.any_live(session, study.id)


def _awaits_baselines(session: Session, study: StudyRow) -> bool:
    model = base_models.by_id(session, study.base_model_id)
    dataset = datasets.by_id(session, study.dataset_id)
    if model is None or dataset is None:
        return False
    [stored] = baselines.stored(session, [baselines.requests(study.spec, model, dataset, study.owner_id)])
    return any(baseline.status == "working" for baseline in stored)
