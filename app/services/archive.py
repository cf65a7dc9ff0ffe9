"""Archiving runs and studies: lists hide them until somebody asks. They keep their address and stay comparable.

Only what has ended can be archived, and a study's runs go with their study.
"""

from sqlalchemy.orm import Session

from app.domain.errors import Conflict
from app.store.queries import runs, studies
from app.store.tables import RunRow, StudyRow


def archive_run(session: Session, run_id: int, archived: bool) -> RunRow:
    """Archive a run, or bring it back. Raises NotFound and Conflict."""
    run = runs.get(session, run_id)
    if run.study_id is not None:
        raise Conflict(f"run {run_id} belongs to study {run.study_id} and can only be archived with it")
    if not runs.set_archived(session, RunRow.id == run_id, archived):
        raise Conflict(f"run {run_id} cannot be archived while it is queued or running: cancel it first")
    session.refresh(run)
    return run


def archive_study(session: Session, study_id: int, archived: bool) -> StudyRow:
    """Archive a study with its runs, or bring it back. Raises NotFound and Conflict."""
    study = studies.get(session, study_id, lock=True)
    if study.tuning or runs.any_live(session, study_id):
        raise Conflict(f"study {study_id} cannot be archived while its runs are queued or running: cancel it first")
    study.archived = archived
    runs.set_archived(session, RunRow.study_id == study_id, archived)
    return study
