"""Classes of the Lab over REST, for their teachers."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel

from app.domain.comparison.statistics.verdict import VerdictKind
from app.features.lab.rules.classes import ClassStudy, NewClass
from app.features.lab.services import class_pool, class_studies, classes
from app.features.lab.services.class_pool import Pool
from app.features.lab.services.classes import ClassReport
from app.features.lab.tables import LabClassRow
from app.features.lab.words import given_text, question_text
from app.web.api.answer import Answer
from app.web.api.examples import CLASS, CLASS_STUDY
from app.web.http.dependencies import Db, Reading, RowId
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(prefix="/classes", tags=["classes"])


class ClassOut(Answer):
    """A class."""

    id: int
    name: str
    code: str
    """Learners join at `/lab/join/CODE`."""
    created_at: datetime


class ListedClassOut(ClassOut):
    """A class in a list."""

    learners: int


class LearnerOut(BaseModel):
    """A learner. Without `shares_progress` the numbers are null."""

    name: str
    shares_progress: bool
    steps: int | None
    """Finished steps of the path, of 5."""
    pitfalls: int | None
    """Finished pitfalls, of 5."""
    answered: int | None
    """Questions answered."""
    right: int | None
    """Of them, by the last answer."""


class WrongAnswerOut(BaseModel):
    """A wrong answer to a question."""

    question: str
    """Id."""
    text: str
    answer: str
    learners: int
    """How many gave it at least once."""
    answering: int
    """Of so many who have answered the question."""


class PooledOut(BaseModel):
    """An arm's difference from the reference, with the first so many complete seeds; fractions."""

    seeds: int
    arm: str
    difference: float
    low: float
    high: float
    confidence: float
    """Of this interval: that of the pool, raised by Holm's correction for several arms."""


class PoolVerdictOut(BaseModel):
    """The verdict on an arm."""

    arm: str
    verdict: VerdictKind


class PoolOut(BaseModel):
    """The pooled results of a class's study."""

    study: str
    planned_seeds: int
    """Complete seeds that give the verdict."""
    started: int
    complete: int
    """Seeds with a result of every arm."""
    failed: int
    withdrawn: int
    """Deleted, made private, or of learners who have left."""
    intervals: list[PooledOut]
    """With fewer than `planned_seeds` seeds while no verdict is in force."""
    verdicts: list[PoolVerdictOut] | None
    """Null until a worker has stored which seeds give the verdict, within `VEZNA_SWEEP_SECONDS` of the last of
    `planned_seeds` complete ones; and again after one of them is withdrawn."""
    verdict_seeds: list[int] | None
    """The seeds that give the verdict; stored when it was taken."""
    interim_looks: int
    """Verdicts that were taken back because one of their seeds was withdrawn."""
    confidence: float
    """Of the verdict, or of the next one: each interim look raises it."""

    @classmethod
    def of(cls, pool: Pool) -> "PoolOut":
        intervals = [
            PooledOut(
                seeds=step.seeds,
                arm=arm,
                difference=found.delta,
                low=found.low,
                high=found.high,
                confidence=found.confidence,
            )
            for step in pool.steps
            for arm, found in step.differences.items()
        ]
        verdicts = [PoolVerdictOut(arm=arm.title, verdict=arm.verdict_kind) for arm in pool.others]
        return cls(
            study=pool.spec.name,
            planned_seeds=pool.planned,
            started=pool.started,
            complete=len(pool.complete),
            failed=pool.failed,
            withdrawn=pool.withdrawn,
            intervals=intervals,
            verdicts=verdicts or None,
            verdict_seeds=pool.comparison.spec.seeds if pool.comparison else None,
            interim_looks=pool.interim_looks,
            confidence=pool.confidence,
        )


class ClassReportOut(ClassOut):
    """What a teacher sees of a class."""

    learners: list[LearnerOut]
    """By name."""
    sharing_answers: int
    """Learners whose answers are counted."""
    wrong_answers: list[WrongAnswerOut] | None
    """The most frequent first, of questions that at least five have answered; null while fewer share their answers."""

    pool: PoolOut | None
    """Null until a study is chosen."""

    @classmethod
    def of(cls, report: ClassReport, pool: Pool | None) -> "ClassReportOut":
        learners = [
            LearnerOut(
                name=one.name,
                shares_progress=one.shares,
                steps=one.steps if one.shares else None,
                pitfalls=one.pitfalls if one.shares else None,
                answered=one.answered if one.shares else None,
                right=one.right if one.shares else None,
            )
            for one in report.learners
        ]
        wrong = [
            WrongAnswerOut(
                question=one.question.id,
                text=question_text(one.question),
                answer=given_text(one.question, one.given),
                learners=one.learners,
                answering=one.answering,
            )
            for one in report.wrong
        ]
        return cls.from_object(
            report.row,
            learners=learners,
            sharing_answers=report.sharing_answers,
            wrong_answers=wrong if report.enough_share else None,
            pool=PoolOut.of(pool) if pool else None,
        )


@router.get("", operation_id="listClasses")
def listing(session: Reading) -> list[ListedClassOut]:
    """Classes that you teach, the newest first; for an admin every class."""
    return [ListedClassOut.from_object(row, learners=number) for row, number in classes.of_teacher(session)]


@router.post("", status_code=201, operation_id="createClass", responses=problems(422))
def create(db: Db, once: OnceByHeader, request: Annotated[NewClass, Body(openapi_examples=CLASS)]) -> ClassOut:
    """Make a class."""
    with db.transaction() as session:
        return once.keep(session, _out(classes.create(session, request.name)))


@router.get("/{class_id}", operation_id="getClass", responses=problems(404))
def get(session: Reading, class_id: RowId) -> ClassReportOut:
    """Learners' progress, as far as they share it, the most frequent wrong answers, and the pooled results."""
    return ClassReportOut.of(classes.report(session, class_id), class_pool.pool(session, class_id))


@router.post("/{class_id}/study", operation_id="chooseClassStudy", responses=problems(404, 409, 422))
def choose_study(
    db: Db, class_id: RowId, request: Annotated[ClassStudy, Body(openapi_examples=CLASS_STUDY)]
) -> ClassReportOut:
    """Choose the study that every learner runs with a seed of their own. 409 once a learner has started one."""
    with db.transaction() as session:
        class_studies.choose(session, class_id, request)
        return ClassReportOut.of(classes.report(session, class_id), class_pool.pool(session, class_id))


@router.delete("/{class_id}", status_code=204, operation_id="deleteClass", responses=problems(404))
def delete(db: Db, class_id: RowId) -> None:
    """Delete a class. What its learners did stays theirs."""
    db.write(lambda session: classes.delete(session, class_id))


def _out(row: LabClassRow) -> ClassOut:
    return ClassOut.from_object(row)
