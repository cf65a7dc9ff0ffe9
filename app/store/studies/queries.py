"""Queries of studies."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.store.database.ownership import EVERY_OWNER
from app.store.database.page import Page, cut
from app.store.database.rows import get_row
from app.store.tables import BaseModelRow, DatasetRow, RunRow, StudyRow


def get(session: Session, study_id: int, *, lock: bool = False) -> StudyRow:
    """A study, locked until the transaction ends if it is to be changed. Raises NotFound."""
    missing = _("There is no study %(study_id)s.", study_id=study_id)
    return get_row(session, StudyRow, study_id, missing, lock=lock)


def being_tuned(session: Session) -> list[int]:
    """Ids of studies that are being tuned."""
    return list(session.scalars(select(StudyRow.id).where(StudyRow.tuning).order_by(StudyRow.id)))


def page(session: Session, *, archived: bool = False, after: int | None = None, limit: int = 50) -> Page[StudyRow]:
    """Studies, newest first, that follow the study with id `after`: the archived ones, or the others."""
    query = select(StudyRow).where(StudyRow.archived.is_(archived)).order_by(StudyRow.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(StudyRow.id < after)
    rows = list(session.scalars(query))
    return cut(rows, [r.id for r in rows], limit)


def with_what_they_use(session: Session, owner_id: int) -> list[tuple[StudyRow, BaseModelRow, DatasetRow]]:
    """All studies of a user, with their base models and datasets."""
    query = (
        select(StudyRow, BaseModelRow, DatasetRow)
        .join(BaseModelRow, BaseModelRow.id == StudyRow.base_model_id)
        .join(DatasetRow, DatasetRow.id == StudyRow.dataset_id)
        .where(StudyRow.owner_id == owner_id)
        .order_by(StudyRow.id)
    )
    rows = session.execute(query.execution_options(**EVERY_OWNER))
    return [(study, model, dataset) for study, model, dataset in rows]


def any_archived(session: Session) -> bool:
    return session.scalar(select(StudyRow.id).where(StudyRow.archived).limit(1)) is not None


def by_name(session: Session, name: str) -> StudyRow | None:
    """The newest study of that name."""
    return session.scalars(select(StudyRow).where(StudyRow.name == name).order_by(StudyRow.id.desc()).limit(1)).first()


def names(session: Session, study_ids: set[int]) -> dict[int, str]:
    query = select(StudyRow.id, StudyRow.name).where(StudyRow.id.in_(study_ids))
    return {study_id: name for study_id, name in session.execute(query)}


def most_looks(session: Session, study_ids: set[int]) -> int:
    """The largest number of interim looks of some studies."""
    return session.scalar(select(func.max(StudyRow.interim_looks)).where(StudyRow.id.in_(study_ids))) or 0


def rates_tried(session: Session, study_ids: set[int]) -> dict[tuple[int, str], int]:
    """Number of learning rates that the trials of each arm had, by study id and arm; without arms that have no
    trial."""
    trials = RunRow.study_id.in_(study_ids), RunRow.trial_round.is_not(None), RunRow.status != RunStatus.CANCELLED
    rates = func.count(RunRow.learning_rate.distinct())
    query = select(RunRow.study_id, RunRow.arm, rates).where(*trials).group_by(RunRow.study_id, RunRow.arm)
    return {(study_id, arm): tried for study_id, arm, tried in session.execute(query) if study_id is not None}
