"""Judgements of a study's answers by a judge model, over REST."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body
from sqlalchemy.orm import Session

from app.domain.comparison.statistics.judged import Unscored
from app.features.judging.queries import judgements
from app.features.judging.rules import JudgementStatus, NewJudgement
from app.features.judging.services import judgements as service
from app.features.judging.tables import JudgementRow
from app.store.studies import queries as studies
from app.store.workers.tables import LIVE
from app.web.api.answer import Answer
from app.web.api.examples import JUDGEMENT
from app.web.api.studies.judged import JudgedArmOut, JudgementsOut
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader
from app.web.http.waiting import Wait, ended

router = APIRouter(tags=["studies"])


class JudgementOut(Answer):
    """A judge model that scores the answers of a study's runs."""

    id: int
    study_id: int
    url: str
    """Base URL of the judge's server."""
    model: str
    rubric: str
    sample: int
    """The most test items."""
    status: JudgementStatus
    progress: float
    """Share of the answers that have a reply, from 0 to 1."""
    message: str
    """Why it failed."""
    items: int | None
    """Test items that were judged; null, as what follows, before it has succeeded."""
    answers: int | None
    """Different ones."""
    asked: int | None
    """Of these, asked for by this judgement; the others were known."""
    unscored: int | None
    """Of these, to which the judge gave no score."""
    examples: list[Unscored]
    """The first of them."""
    arms: list[JudgedArmOut]
    """By the ratings of people so far."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, session: Session, row: JudgementRow) -> Self:
        result = row.result
        return cls.from_object(
            row,
            items=len(result.items) if result else None,
            answers=result.answers if result else None,
            asked=result.asked if result else None,
            unscored=result.unscored if result else None,
            examples=result.examples if result else [],
            arms=[JudgedArmOut.of(arm) for arm in service.arms_of(session, row)],
        )


def comparison_fields(session: Session, study_id: int) -> dict[str, object]:
    """Of a study's comparison: its arms by the newest scores, and how often judges were asked."""
    looks = judgements.looks(session, study_id)
    return {
        "judged": [JudgedArmOut.of(arm) for arm in service.newest_arms(session, study_id)],
        "judgements": JudgementsOut(number=looks.judgements, models=looks.models, rubrics=looks.rubrics)
        if looks
        else None,
    }


@router.post(
    "/studies/{study_id}/judgements", status_code=202, operation_id="judgeStudy", responses=problems(404, 409, 422)
)
def submit(
    db: Db,
    bell: Bell,
    settings: Config,
    once: OnceByHeader,
    study_id: RowId,
    request: Annotated[NewJudgement, Body(openapi_examples=JUDGEMENT)],
) -> JudgementOut:
    """Have a worker ask a judge model at an OpenAI-compatible server for a score of each answer of a study's runs. 422
    for a study that generates no text, and for a host that `VEZNA_OUTBOUND_HOSTS` does not list; 409 while another
    judgement of the study has not ended."""
    with db.transaction() as session:
        row = service.submit(session, bell, settings, study_id, request)
        return once.keep(session, JudgementOut.of(session, row))


@router.get("/studies/{study_id}/judgements", operation_id="listJudgements", responses=problems(404))
def listing(session: Reading, study_id: RowId) -> list[JudgementOut]:
    """The judgements of a study, the oldest first."""
    studies.get(session, study_id)
    return [JudgementOut.of(session, row) for row in judgements.of_study(session, study_id)]


@router.get("/judgements/{judgement_id}", operation_id="getJudgement", responses=problems(404))
async def get(db: Db, judgement_id: RowId, wait: Wait = 0.0) -> JudgementOut:
    """A judgement; with `wait`, once it has ended or the seconds are over."""
    return await ended(
        db,
        lambda session: JudgementOut.of(session, judgements.get(session, judgement_id)),
        lambda row: row.status in LIVE,
        wait,
    )


@router.post(
    "/judgements/{judgement_id}/cancel",
    status_code=202,
    operation_id="cancelJudgement",
    responses=problems(403, 404, 409),
)
def cancel(db: Db, judgement_id: RowId) -> JudgementOut:
    """Cancel a judgement; 409 if it has ended. Scores that have arrived are kept for the next one."""
    with db.transaction() as session:
        return JudgementOut.of(session, service.cancel(session, judgement_id))
