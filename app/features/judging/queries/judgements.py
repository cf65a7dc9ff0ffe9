"""Judgements of studies, and the scores of their judges."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.features.judging.tables import JudgementRow, JudgeScoreRow
from app.store.database.rows import get_row
from app.store.studies import queries as studies
from app.store.workers.tables import LIVE


def get(session: Session, judgement_id: int, study_id: int | None = None) -> JudgementRow:
    """A judgement; with `study_id`, of this study. Raises NotFound."""
    missing = _("There is no judgement %(id)s.", id=judgement_id)
    row = get_row(session, JudgementRow, judgement_id, missing)
    if study_id not in (None, row.study_id):
        raise NotFound(missing)
    studies.get(session, row.study_id)  # notes an admin's access to it
    return row


def of_study(session: Session, study_id: int) -> list[JudgementRow]:
    """The judgements of a study, the oldest first."""
    query = select(JudgementRow).where(JudgementRow.study_id == study_id).order_by(JudgementRow.id)
    return list(session.scalars(query))


def newest(session: Session, study_id: int, limit: int) -> list[JudgementRow]:
    """So many judgements of a study at most, the newest first."""
    query = select(JudgementRow).where(JudgementRow.study_id == study_id).order_by(JudgementRow.id.desc())
    return list(session.scalars(query.limit(limit)))


def newest_result(session: Session, study_id: int) -> JudgementRow | None:
    """The newest judgement of a study that has succeeded."""
    of_study = JudgementRow.study_id == study_id, JudgementRow.status == "succeeded"
    return session.scalars(select(JudgementRow).where(*of_study).order_by(JudgementRow.id.desc()).limit(1)).first()


class Looks(NamedTuple):
    """How often judges were asked for the scores of a study."""

    judgements: int
    """With a result."""
    models: int
    """Different ones, by address and name."""
    rubrics: int


def looks(session: Session, study_id: int) -> Looks | None:
    """Of a study; None before a judgement has a result."""
    columns = JudgementRow.url, JudgementRow.model, JudgementRow.rubric
    query = select(*columns).where(JudgementRow.study_id == study_id, JudgementRow.status == "succeeded")
    rows = session.execute(query).all()
    if not rows:
        return None
    return Looks(len(rows), len({(url, model) for url, model, _rubric in rows}), len({row.rubric for row in rows}))


def live(session: Session, study_id: int) -> JudgementRow | None:
    """A judgement of a study that has not ended."""
    of_study = JudgementRow.study_id == study_id, JudgementRow.status.in_(LIVE)
    return session.scalars(select(JudgementRow).where(*of_study).limit(1)).first()


def known(session: Session, study_id: int, judgement_id: int) -> dict[str, tuple[int | None, str, int]]:
    """By key, what judges of a study have replied: score, what was written instead, judgement. Answers that an
    earlier judgement left without a score are left out, since a new one requests them again."""
    usable = or_(JudgeScoreRow.score.is_not(None), JudgeScoreRow.judgement_id == judgement_id)
    columns = JudgeScoreRow.key, JudgeScoreRow.score, JudgeScoreRow.said, JudgeScoreRow.judgement_id
    query = select(*columns).where(JudgeScoreRow.study_id == study_id, usable).order_by(JudgeScoreRow.id)
    return {key: (score, said, judgement) for key, score, said, judgement in session.execute(query)}


def with_key(session: Session) -> Sequence[JudgementRow]:
    """The judgements with an API key, locked: those that have not ended."""
    query = select(JudgementRow).where(JudgementRow.api_key != "").order_by(JudgementRow.id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).all()
