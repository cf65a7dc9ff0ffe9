"""The contexts of the Lab's steps: the frame that all have, and what each shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.domain.messages import Message
from app.features.lab.pages.context import QuestionPage, question_page
from app.features.lab.pages.topics.full_or_peft import FullOrPeft
from app.features.lab.pages.topics.inside_layer import InsideLayer
from app.features.lab.pages.topics.low_rank import LowRankStep
from app.features.lab.pages.topics.memory import OutOfMemory
from app.features.lab.pages.topics.pitfalls import IncompatibleModules, RankTooHigh, WrongFreezing
from app.features.lab.pages.topics.techniques import Techniques
from app.features.lab.pages.topics.transformers import TransformerStep
from app.features.lab.pages.topics.validation import TooLittleValidation
from app.features.lab.rules.lessons import Lesson
from app.features.lab.rules.questions import Topic
from app.features.lab.services import lessons
from app.features.lab.services.computations import Computation
from app.services.data import samples
from app.services.data.samples import Registered
from app.settings import Settings
from app.words.i18n import language


@dataclass(frozen=True)
class Visit:
    """What the content of a step is made from."""

    session: Session
    settings: Settings
    query: QueryParams


BODIES: Mapping[Topic, Callable[[Visit], Any]] = {
    Topic.MEMORY: lambda visit: OutOfMemory.of(visit.session, visit.settings, visit.query),
    Topic.FREEZING: lambda visit: WrongFreezing.of(visit.session),
    Topic.RANK: lambda visit: RankTooHigh.of(visit.session, visit.settings, visit.query),
    Topic.MODULES: lambda visit: IncompatibleModules.of(visit.session, visit.query),
    Topic.STEP_1: lambda visit: TransformerStep.of(visit.session, visit.query),
    Topic.VALIDATION: lambda visit: TooLittleValidation.of(visit.session, visit.query),
    Topic.STEP_2: lambda visit: LowRankStep.of(visit.session, visit.query),
    Topic.STEP_3: lambda visit: InsideLayer.of(visit.session, visit.query),
    Topic.STEP_4: lambda visit: Techniques.of(visit.session, visit.query),
    Topic.STEP_5: lambda visit: FullOrPeft.of(visit.session, visit.settings, visit.query),
}
"""By step or pitfall: one has a page if it is here and its texts are in `lab/steps/` or `lab/pitfalls/`."""


@dataclass(frozen=True)
class PathItem:
    """A step in the line above each step."""

    number: int
    topic: Topic
    href: str
    done: bool
    current: bool
    lesson: Lesson | None
    """None while the step has no page."""


@dataclass(frozen=True)
class StepPage:
    """A step: three sentences, its content, and the question before continuing."""

    topic: Topic
    lesson: Lesson
    path: tuple[PathItem, ...]
    asked: QuestionPage
    sample: Registered
    body: Any
    finished: bool
    """The learner has answered the question."""

    @property
    def computation(self) -> Computation | None:
        """What a worker computes for the step; None where it computes nothing, or nothing yet."""
        found = getattr(self.body, "check", None)
        return found if isinstance(found, Computation) else None

    @property
    def refusal(self) -> str:
        """Why the step's computation is refused for these fields; empty where it is not."""
        found = getattr(self.body, "refusal", None)
        return found if isinstance(found, str) else ""

    @property
    def number(self) -> int:
        """In the course; 0 for a pitfall."""
        return lessons.STEPS.index(self.topic) + 1 if self.topic in lessons.STEPS else 0

    @property
    def address(self) -> str:
        return lessons.address(self.topic)

    @property
    def previous(self) -> PathItem | None:
        """The step before this one that has a page."""
        return next((item for item in reversed(self.path[: max(0, self.number - 1)]) if item.lesson), None)

    @property
    def next(self) -> PathItem | None:
        """The step after this one that has a page."""
        return next((item for item in self.path[self.number :] if item.lesson), None)

    @property
    def texts(self) -> dict[str, str]:
        """Every sentence of this page, for its script."""
        return {name: text.spoken(language()) for name, text in self.lesson.texts.items()}

    def say(self, name: str, /, **values: Any) -> str:
        """A sentence of this page in the language of the request."""
        words = self.lesson.texts[name].spoken(language())
        return str(Message(words, **values)) if values else words


def path_of(session: Session, learner: str, current: Topic | None = None) -> tuple[PathItem, ...]:
    """The steps in the course's order, with what the learner has finished."""
    finished, known = lessons.finished(session, learner), lessons.library()
    return tuple(
        PathItem(
            number,
            topic,
            lessons.address(topic) if topic in known else f"/lab#{topic}",
            topic in finished,
            topic is current,
            known.get(topic),
        )
        for number, topic in enumerate(lessons.STEPS, 1)
    )


def step_page(
    session: Session, settings: Settings, learner: str, step: str, query: QueryParams, answer_id: int | None = None
) -> StepPage:
    """A step or a pitfall, with the result of the answer to its question. Raises NotFound."""
    topic, lesson = lessons.lesson(step, tuple(lessons.library()))
    return StepPage(
        topic=topic,
        lesson=lesson,
        path=path_of(session, learner, topic),
        asked=question_page(session, learner, lesson.question, answer_id),
        sample=samples.registered(session),
        body=BODIES[topic](Visit(session, settings, query)),
        finished=topic in lessons.finished(session, learner),
    )
