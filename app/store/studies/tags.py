"""Tags of runs and of studies."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.store.tables import RunTagRow, StudyTagRow


def of_runs(session: Session, run_ids: Sequence[int]) -> dict[int, list[str]]:
    query = select(RunTagRow.run_id, RunTagRow.tag).where(RunTagRow.run_id.in_(run_ids)).order_by(RunTagRow.tag)
    tags: dict[int, list[str]] = {}
    for run_id, tag in session.execute(query):
        tags.setdefault(run_id, []).append(tag)
    return tags


def of_studies(session: Session, study_ids: Sequence[int]) -> dict[int, list[str]]:
    query = select(StudyTagRow.study_id, StudyTagRow.tag).where(StudyTagRow.study_id.in_(study_ids))
    tags: dict[int, list[str]] = {}
    for study_id, tag in session.execute(query.order_by(StudyTagRow.tag)):
        tags.setdefault(study_id, []).append(tag)
    return tags


def set_of_run(session: Session, run_id: int, tags: Sequence[str]) -> None:
    session.execute(delete(RunTagRow).where(RunTagRow.run_id == run_id))
    if tags:
        session.execute(insert(RunTagRow), [{"run_id": run_id, "tag": tag} for tag in tags])


def set_of_study(session: Session, study_id: int, tags: Sequence[str]) -> None:
    session.execute(delete(StudyTagRow).where(StudyTagRow.study_id == study_id))
    if tags:
        session.execute(insert(StudyTagRow), [{"study_id": study_id, "tag": tag} for tag in tags])
