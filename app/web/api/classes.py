"""Classes of the Lab over REST, for their teachers."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel

from app.domain.lab.classes import NewClass
from app.services import classes
from app.services.classes import ClassReport
from app.store.tables import LabClassRow
from app.web.api.answer import Answer
from app.web.api.examples import CLASS
from app.web.http.dependencies import Db, Reading, RowId
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader
from app.web.text.lab import given_text, question_text

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


class ClassReportOut(ClassOut):
    """What a teacher sees of a class."""

    learners: list[LearnerOut]
    """By name."""
    sharing_answers: int
    """Learners whose answers are counted."""
    wrong_answers: list[WrongAnswerOut] | None
    """The most frequent first; null while fewer than three learners share their answers."""

    @classmethod
    def of(cls, report: ClassReport) -> "ClassReportOut":
        """From a report."""
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
            )
            for one in report.wrong
        ]
        return cls.from_object(
            report.row,
            learners=learners,
            sharing_answers=report.sharing_answers,
            wrong_answers=wrong if report.enough_share else None,
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
    """Learners' progress, as far as they share it, and the most frequent wrong answers."""
    return ClassReportOut.of(classes.report(session, class_id))


@router.delete("/{class_id}", status_code=204, operation_id="deleteClass", responses=problems(404))
def delete(db: Db, class_id: RowId) -> None:
    """Delete a class. What its learners did stays theirs."""
    db.write(lambda session: classes.delete(session, class_id))


def _out(row: LabClassRow) -> ClassOut:
    return ClassOut.from_object(row)
