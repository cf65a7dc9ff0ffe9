"""Judgements of a study's answers by a judge model, over REST."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.comparison.statistics.judged import JudgedArm, Unscored
from app.domain.comparison.statistics.verdict import VerdictKind
from app.features.judging.queries import judgements
from app.features.judging.rules import JudgementStatus, NewJudgement
from app.features.judging.services import judgements as service
from app.features.judging.tables import JudgementRow
from app.store.studies import queries as studies
from app.store.workers.tables import LIVE
from app.web.api.answer import Answer
from app.web.api.examples import JUDGEMENT
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader
from app.web.http.waiting import Wait, ended

router = APIRouter(tags=["studies"])


class JudgeErrorOut(Answer):
    """The judge's error on the difference of an arm to the reference, on items that people rated."""

    items: int
    """Rated ones, and those with equal answers among them, where the judge cannot err."""
    rated: int
    agreed: int
    """Of the rated ones, items on which the judge agrees with every rating."""
    mean: float
    """Added to the judge's difference."""


class JudgedArmOut(BaseModel):
    """An arm by the judge's scores, from 0 (all 1) to 1 (all 5)."""

    arm: str
    seeds: int
    score: float | None
    score_low: float | None
    """Of the 95 % interval."""
    score_high: float | None
    delta: float | None
    """Arm − reference, with the judge's error where it is known; null for the reference and without an interval."""
    low: float | None
    """Of its interval, within −1 and 1; wider by the judge's error and by items without a score."""
    high: float | None
    confidence: float | None
    judge_delta: float | None
    """As though the judge never erred."""
    error: JudgeErrorOut | None
    """Null: unknown, because people have rated fewer than two items of the arm and the reference."""
    left_out: float
    """Share of the items without a score."""
    margin: float
    verdict: VerdictKind
    """`hint`: one seed, so the interval does not cover other seeds; `implied` is what it says."""
    implied: VerdictKind

    @classmethod
    def of(cls, arm: JudgedArm) -> Self:
        score, corrected = arm.score, arm.corrected
        return cls(
            arm=arm.title,
            seeds=arm.seeds,
            score=score.mean if score else None,
            score_low=score.low if score else None,
            score_high=score.high if score else None,
            delta=corrected.delta if corrected else None,
            low=arm.low if corrected else None,
            high=arm.high if corrected else None,
            confidence=corrected.confidence if corrected else None,
            judge_delta=arm.alone.delta if arm.alone else None,
            error=JudgeErrorOut.from_object(arm.error) if arm.error else None,
            left_out=arm.left_out,
            margin=arm.margin,
            verdict=arm.verdict,
            implied=arm.implied,
        )


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
