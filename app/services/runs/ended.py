"""What follows when a run has ended: webhooks are told, and its study is exported.

The transaction that ends a run notes it. The control node takes the notes later, when it is known whether the other
runs of its study have ended too.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.features.elsewhere.services import tracker_exports
from app.features.webhooks import queries
from app.features.webhooks import service as webhooks
from app.features.webhooks.rules import WebhookEvent
from app.features.webhooks.tables import EndedRunRow
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow, now

MOST = 500
"""Notes of a transaction."""


def note(session: Session, run_id: int) -> None:
    """Note that a run has ended."""
    session.add(EndedRunRow(run_id=run_id))


def process(db: Database, settings: Settings) -> None:
    """Take the notes, if there are any."""
    with db.reading() as session:
        if not queries.any_ended_run(session):
            return
    db.write(lambda session: take(session, export=bool(settings.tracker)))


def take(session: Session, *, export: bool) -> None:
    """Tell webhooks of the runs that have ended, but not of private ones, which only their owners and admins see; and
    have their studies exported, which wait for their last run."""
    queries.kept(session)
    noted = [runs.find(session, run_id) for run_id in queries.take_ended_runs(session, limit=MOST)]
    ended = [run for run in noted if run is not None]
    for run in ended:
        if run.status == RunStatus.FAILED and run.private_to is None:
            webhooks.tell(session, WebhookEvent.RUN_FAILED, _failed(run), at=run.finished_at)
    for study_id in sorted({run.study_id for run in ended if run.study_id is not None}):
        study = studies.get(session, study_id)
        study_ended = not study.tuning and not runs.any_live(session, study_id)
        if export:
            tracker_exports.run_ended(session, study_id, external=False, last=study_ended)
        if not study_ended or study.private_to is not None:
            continue
        last = max((run.finished_at or now() for run in ended if run.study_id == study_id), default=None)
        counts = runs.statuses(session, study_id)
        told = {"study": study_id, "name": study.name, "runs": counts}
        webhooks.tell(session, WebhookEvent.STUDY_FINISHED, told, at=last)
    if export:
        _export_external(session, ended)


def _export_external(session: Session, ended: Sequence[RunRow]) -> None:
    """Have studies exported whose runs are trained elsewhere; imported runs of other collections belong to no study."""
    for study_id in sorted({run.collection_id for run in ended if run.collection_id and run.reported_run}):
        last = not tracker_exports.any_running(session, study_id, external=True)
        tracker_exports.run_ended(session, study_id, external=True, last=last)


def _failed(run: RunRow) -> dict[str, Any]:
    return {"run": run.id, "study": run.study_id, "arm": run.arm, "seed": run.seed, "failure": run.failure_code}
