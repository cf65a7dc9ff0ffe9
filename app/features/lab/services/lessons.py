"""Steps and pitfalls of the Lab: their texts, well-known architectures, and what a learner has finished."""

from functools import cache
from importlib.resources import files
from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.domain.validation import field_error
from app.features.lab.queries import learner as rows
from app.features.lab.rules.architectures import Architecture
from app.features.lab.rules.lessons import RECAP, Lesson, RecapLine
from app.features.lab.rules.questions import Topic
from app.features.lab.rules.review import Rating
from app.features.lab.services import learner as lab
from app.features.lab.tables import LabAnswerRow, LabProgressRow
from app.store.tables import now

T = TypeVar("T")
STEPS = (Topic.STEP_1, Topic.STEP_2, Topic.STEP_3, Topic.STEP_4, Topic.STEP_5)
PITFALLS = (Topic.MEMORY, Topic.RANK, Topic.FREEZING, Topic.MODULES, Topic.VALIDATION)


@cache
def library() -> dict[Topic, Lesson]:
    """The lessons that have a page, in the order of the course. Raises Invalid for a file that is none."""
    found: dict[Topic, Lesson] = {}
    for topic in (*STEPS, *PITFALLS):
        file = files(lab.PACKAGE) / ("steps" if topic in STEPS else "pitfalls") / f"{topic}.yaml"
        if file.is_file():
            found[topic] = read(file.name, file.read_text(encoding="utf-8"))
    return found


@cache
def recap() -> tuple[RecapLine, ...]:
    """What the course repeats at its end. Raises Invalid for a file that is none."""
    return _read("recap.yaml", (files(lab.PACKAGE) / "recap.yaml").read_text(encoding="utf-8"), RECAP)


def read(name: str, text: str) -> Lesson:
    """A lesson from its file. Raises Invalid, naming the field."""
    lesson = _read(name, text, TypeAdapter(Lesson))
    lab.question(lesson.question)
    return lesson


def _read(name: str, text: str, kind: TypeAdapter[T]) -> T:
    try:
        return kind.validate_python(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise Invalid(_("%(name)s is not YAML: %(why)s", name=name, why=" ".join(str(error).split()))) from error
    except ValidationError as error:
        fields = [field_error(details, {}) for details in error.errors()]
        why = "; ".join(field.located for field in fields)
        raise Invalid(_("The lesson in %(name)s is invalid: %(why)s", name=name, why=why), fields) from error


def lesson(topic: str, among: tuple[Topic, ...]) -> tuple[Topic, Lesson]:
    """A step or a pitfall by name. Raises NotFound."""
    known = {str(place): place for place in among if place in library()}
    if topic not in known:
        raise NotFound(_("There is no page %(name)s in the Lab.", name=topic))
    return known[topic], library()[known[topic]]


def address(topic: Topic) -> str:
    """Of a step's or a pitfall's page."""
    return f"/lab/{'steps' if topic in STEPS else 'pitfalls'}/{topic}"


@cache
def architectures() -> dict[str, Architecture]:
    """Well-known architectures by name, the smallest first."""
    folder = files(lab.PACKAGE) / "architectures"
    found = [
        Architecture.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    ]
    return {known.name: known for known in sorted(found, key=lambda known: known.model.total)}


def answer(
    session: Session, learner: str, topic: Topic, question_id: str, given: list[str], number: float | None
) -> LabAnswerRow:
    """Store and judge the answer to the question of a lesson, schedule its review, and finish the lesson unless it
    is wrong. Raises Invalid for an answer that is none."""
    row = lab.give(session, learner, question_id, given, number)
    lab.rate(session, learner, row.id, Rating.GOOD if row.right else Rating.AGAIN, now())
    if row.right is not False and session.get(LabProgressRow, (learner, topic)) is None:
        session.add(LabProgressRow(learner=learner, topic=topic))
    return row


def finished(session: Session, learner: str) -> frozenset[Topic]:
    """The lessons whose question a learner has answered on their page, and not wrongly."""
    return frozenset(Topic(name) for name in rows.finished(session, learner) if name in set(Topic))
