"""What follows when a run has ended: features are told, also of the end of its study.

The transaction that ends a run notes it. The control node takes the notes later, when it is known whether the other
runs of its study have ended too.
"""

from threading import Lock
from typing import Any

from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.services.hooks import hooks, tell
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import ended as queries
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import EndedRunRow, RunRow, StudyRow, now

MOST = 500
"""Notes of a transaction."""
_taking = Lock()
"""Several threads of a control node take notes: the end of a study is told once."""


def note(session: Session, run_id: int) -> None:
    session.add(EndedRunRow(run_id=run_id))


def process(db: Database, settings: Settings) -> None:
    """Take the notes, if there are any."""
    with _taking:
        with db.reading() as session:
            if not queries.any_noted(session):
                return
        db.write(lambda session: _take(session, settings))


def has_ended(session: Session, study: StudyRow) -> bool:
    """No run of a study waits or goes on, and none follows."""
    return not study.tuning and not runs.any_live(session, study.id)


def _take(session: Session, settings: Settings) -> None:
    """Tell of the runs and studies that have ended, but not of private ones, which only their owners and admins see."""
    noted = [runs.find(session, run_id) for run_id in queries.take(session, limit=MOST)]
    ended = [run for run in noted if run is not None]
    for run in ended:
        if run.status == RunStatus.FAILED and run.private_to is None:
            tell(session, "run.failed", _failed(run), at=run.finished_at)
    for study_id in sorted({run.study_id for run in ended if run.study_id is not None}):
        study = studies.get(session, study_id)
        if study.private_to is not None or not has_ended(session, study):
            continue
        last = max((run.finished_at or now() for run in ended if run.study_id == study_id), default=None)
        counts = runs.statuses(session, study_id)
        tell(session, "study.finished", {"study": study_id, "name": study.name, "runs": counts}, at=last)
    for added in hooks():
        added.ended(session, settings, ended)


def _failed(run: RunRow) -> dict[str, Any]:
    return {"run": run.id, "study": run.study_id, "arm": run.arm, "seed": run.seed, "failure": run.failure_code}
