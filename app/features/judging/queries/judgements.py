"""Judgements of studies, and the scores of their judges."""

from typing import NamedTuple

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.features.judging.tables import JudgementRow, JudgeScoreRow
from app.store.workers.tables import LIVE


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
