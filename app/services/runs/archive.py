"""Archiving runs and studies: lists hide them by default. They keep their URLs and stay comparable.

Only ended runs and studies can be archived, and a study's runs are archived with it.
"""

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.errors import Conflict
from app.domain.messages import _
from app.services.users import audit
from app.store.database.ownership import require_change
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow, StudyRow


def archive_run(session: Session, run_id: int, archived: bool) -> RunRow:
    """Archive or unarchive a run. Raises NotFound and Conflict."""
    run = runs.get(session, run_id)
    require_change(session, run)
    if run.study_id is not None:
        values = {"run": run_id, "study": run.study_id}
        raise Conflict(_("Run %(run)s belongs to study %(study)s and can only be archived with it.", **values))
    if not runs.set_archived(session, RunRow.id == run_id, archived):
        raise Conflict(_("Run %(run)s is %(status)s: cancel it first.", run=run_id, status=run.status))
    session.refresh(run)
    audit.record(session, Action.ARCHIVE_RUN if archived else Action.UNARCHIVE_RUN, run_id)
    return run


def archive_study(session: Session, study_id: int, archived: bool) -> StudyRow:
    """Archive or unarchive a study with its runs. Raises NotFound and Conflict."""
    study = studies.get(session, study_id, lock=True)
    require_change(session, study)
    if study.tuning or runs.any_live(session, study_id):
        raise Conflict(_("Study %(study)s has not ended: cancel it first.", study=study_id))
    study.archived = archived
    runs.set_archived(session, RunRow.study_id == study_id, archived)
    audit.record(session, Action.ARCHIVE_STUDY if archived else Action.UNARCHIVE_STUDY, study_id)
    return study
