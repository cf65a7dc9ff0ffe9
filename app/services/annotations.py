"""Notes and tags: what people write on runs and studies."""

from sqlalchemy.orm import Session

from app.domain.runs.annotations import Annotation
from app.store.queries import runs, studies, tags
from app.store.tables import RunRow, StudyRow


def annotate_run(session: Session, run_id: int, said: Annotation) -> RunRow:
    """Change a run's note, its tags, or both. Raises NotFound."""
    run = runs.get(session, run_id)
    if said.note is not None:
        run.note = said.note
    if said.tags is not None:
        tags.set_of_run(session, run_id, said.tags)
    session.flush()
    return run


def annotate_study(session: Session, study_id: int, said: Annotation) -> StudyRow:
    """Change a study's note, its tags, or both. Raises NotFound."""
    study = studies.get(session, study_id, lock=True)
    if said.note is not None:
        study.note = said.note
    if said.tags is not None:
        tags.set_of_study(session, study_id, said.tags)
    session.flush()
    return study
