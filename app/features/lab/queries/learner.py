"""Queries of what learners did in the Lab."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.features.lab.tables import LabAnswerRow, LabCardRow, LabProgressRow
from app.store.database.ownership import owner_of
from app.store.tables import RunRow, StudyRow


def cards(session: Session, learner: str) -> dict[str, LabCardRow]:
    """A learner's questions that are scheduled, by id."""
    rows = session.scalars(select(LabCardRow).where(LabCardRow.learner == learner).order_by(LabCardRow.due_at))
    return {row.question: row for row in rows}


def began(session: Session, learner: str) -> datetime | None:
    """When a learner gave the first answer."""
    return session.scalar(select(func.min(LabAnswerRow.answered_at)).where(LabAnswerRow.learner == learner))


def answer(session: Session, learner: str, answer_id: int, *, lock: bool = False) -> LabAnswerRow:
    """An answer of a learner, locked until the transaction ends if it is to be changed. Raises NotFound, also for one
    of another learner."""
    query = select(LabAnswerRow).where(LabAnswerRow.id == answer_id, LabAnswerRow.learner == learner)
    found = session.scalars(query.with_for_update() if lock else query).first()
    if found is None:
        raise NotFound(_("There is no answer %(id)s of yours.", id=answer_id))
    return found


def answered(session: Session, learner: str) -> dict[str, bool | None]:
    """The questions that a learner has answered, with whether the last answer was right."""
    last = select(func.max(LabAnswerRow.id)).where(LabAnswerRow.learner == learner).group_by(LabAnswerRow.question)
    rows = session.execute(select(LabAnswerRow.question, LabAnswerRow.right).where(LabAnswerRow.id.in_(last)))
    return {question: right for question, right in rows}


def first_answers(session: Session, learner: str, questions: Sequence[str]) -> dict[str, LabAnswerRow]:
    """By question, the first answer that a learner gave to it."""
    own = LabAnswerRow.learner == learner, LabAnswerRow.question.in_(questions)
    first = select(func.min(LabAnswerRow.id)).where(*own).group_by(LabAnswerRow.question)
    return {row.question: row for row in session.scalars(select(LabAnswerRow).where(LabAnswerRow.id.in_(first)))}


def finished(session: Session, learner: str) -> Sequence[str]:
    """Topics that a learner has finished."""
    return session.scalars(select(LabProgressRow.topic).where(LabProgressRow.learner == learner)).all()


def newest_runs(session: Session, limit: int, base_model_id: int | None = None) -> Sequence[RunRow]:
    """Runs that succeeded, of a base model if one is given: the visitor's own first, each time the newest first."""
    query = select(RunRow).where(RunRow.status == RunStatus.SUCCEEDED, RunRow.collection_id.is_(None))
    if base_model_id is not None:
        query = query.where(RunRow.base_model_id == base_model_id)
    return session.scalars(query.order_by(*_own_first(session, RunRow), RunRow.id.desc()).limit(limit)).all()


def newest_studies(session: Session, limit: int) -> Sequence[StudyRow]:
    """Studies that are not archived: the visitor's own first, each time the newest first."""
    query = select(StudyRow).where(StudyRow.archived.is_(False))
    return session.scalars(query.order_by(*_own_first(session, StudyRow), StudyRow.id.desc()).limit(limit)).all()


def _own_first(session: Session, table: type[RunRow | StudyRow]) -> list[ColumnElement[bool]]:
    owner = owner_of(session)
    return [] if owner is None else [table.owner_id.is_distinct_from(owner)]
