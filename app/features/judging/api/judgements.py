"""Judgements of a study's answers by a judge model, over REST."""

from typing import Annotated, Self

from fastapi import APIRouter, Body
from sqlalchemy.orm import Session

from app.domain.comparison.statistics.judged import Unscored
from app.features.judging.queries import judgements
from app.features.judging.rules import NewJudgement
from app.features.judging.services import judgements as service
from app.features.judging.services.judgements import JUDGEMENTS
from app.features.judging.tables import JudgementRow
from app.web.api.examples import JUDGEMENT
from app.web.api.studies.judged import JudgedArmOut, JudgementsOut
from app.web.api.work import WorkOut, add_work
from app.web.http.dependencies import Bell, Config, Db, RowId
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(tags=["studies"])


class JudgementOut(WorkOut):
    """A judge model that scores the answers of a study's runs."""

    study_id: int
    url: str
    """Base URL of the judge's server."""
    model: str
    rubric: str
    sample: int
    """The most test items."""
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


add_work(
    router,
    JUDGEMENTS,
    JudgementOut,
    JudgementOut.of,
    names=("Judgements", "Judgement"),
    paths=("/studies/{study_id}/judgements", "/judgements/{judgement_id}"),
)
