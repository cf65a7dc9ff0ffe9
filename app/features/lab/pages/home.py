"""The contexts of the Lab's start (the learning path, the pitfalls, what is due) and of its recap."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from app.features.lab.pages.steps import PathItem, path_of
from app.features.lab.queries import learner as rows
from app.features.lab.rules.lessons import Lesson
from app.features.lab.rules.questions import OpenQuestion, Question, Text, Topic
from app.features.lab.services import learner as lab
from app.features.lab.services import lessons
from app.features.lab.services.learner import Queue
from app.features.lab.tables import LabAnswerRow
from app.store.tables import now


@dataclass(frozen=True)
class TopicLine:
    """A topic and what the learner has answered of it."""

    topic: Topic
    questions: tuple[Question, ...]
    answered: int
    right: int
    """Of the last answers to its questions."""
    unanswered: Question | None
    """The first that waits for an answer."""

    @property
    def first(self) -> Question:
        """Where practice begins."""
        return self.questions[0]


@dataclass(frozen=True)
class LabPage:
    """The start of the Lab."""

    queue: Queue
    topics: tuple[TopicLine, ...]
    path: tuple[PathItem, ...]
    at: datetime
    done: frozenset[Topic]
    """Finished steps and pitfalls."""

    @property
    def before(self) -> TopicLine:
        """What the course asks before it begins."""
        return next(line for line in self.topics if line.topic is Topic.BEFORE)

    @property
    def steps(self) -> list[tuple[PathItem, TopicLine]]:
        """The path, each step with its questions."""
        lines = {line.topic: line for line in self.topics}
        return [(item, lines[item.topic]) for item in self.path]

    @property
    def current(self) -> PathItem | None:
        """Where the learner goes on; None once every step is finished."""
        return next((item for item in self.path if item.lesson and not item.done), None)

    @property
    def finished(self) -> int:
        return sum(item.done for item in self.path)

    @property
    def minutes(self) -> int:
        """What is left of the path."""
        return sum(item.lesson.minutes for item in self.path if item.lesson and not item.done)

    @property
    def pitfalls(self) -> list[tuple[TopicLine, Lesson | None, str]]:
        """Topics of the five pitfalls, with their pages and addresses; None while one has no page."""
        known = lessons.library()
        return [
            (line, known.get(line.topic), lessons.address(line.topic))
            for line in self.topics
            if line.topic in lessons.PITFALLS
        ]


@dataclass(frozen=True)
class Place:
    """A step or a pitfall that shows a sentence of the recap."""

    topic: Topic
    href: str
    done: bool


@dataclass(frozen=True)
class RecapPage:
    """The recap of the course, and what the learner wrote before it."""

    lines: tuple[tuple[Text, tuple[Place, ...]], ...]
    before: tuple[tuple[OpenQuestion, LabAnswerRow | None], ...]
    """The questions with the learner's first answers; None where there is none yet."""


def recap_page(session: Session, learner: str) -> RecapPage:
    """The recap for a learner."""
    done = lessons.finished(session, learner)
    questions = [known for known in lab.library().values() if known.topic is Topic.BEFORE]
    first = rows.first_answers(session, learner, [known.id for known in questions])
    return RecapPage(
        tuple(
            (line.text, tuple(Place(topic, lessons.address(topic), topic in done) for topic in line.topics))
            for line in lessons.recap()
        ),
        tuple((known, first.get(known.id)) for known in questions if isinstance(known, OpenQuestion)),
    )


def lab_page(session: Session, learner: str) -> LabPage:
    """The start of the Lab for a learner."""
    at, answered = now(), rows.answered(session, learner)
    lines = []
    for topic in Topic:
        questions = tuple(known for known in lab.library().values() if known.topic is topic)
        met = [answered[known.id] for known in questions if known.id in answered]
        waits = next((known for known in questions if known.id not in answered), None)
        lines.append(TopicLine(topic, questions, len(met), sum(right is True for right in met), waits))
    return LabPage(
        lab.queue(session, learner, at), tuple(lines), path_of(session, learner), at, lessons.finished(session, learner)
    )
