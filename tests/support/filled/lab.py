"""The Lab with one of everything: computations that are answered, a learner's answers, and a class whose seeds are
pooled. Goes on from `tests.support.filled.filled.fill`."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.domain.failures import FailureCode
from app.features.lab.pages.learner import COOKIE, GUEST
from app.features.lab.pages.steps import step_page
from app.features.lab.pages.topics.memory import OutOfMemory
from app.features.lab.rules.classes import ClassStudy, Joining
from app.features.lab.rules.questions import ChoiceQuestion
from app.features.lab.rules.review import Rating
from app.features.lab.services import class_pool, class_studies, classes, lessons
from app.features.lab.services import computations as lab_computations
from app.features.lab.services import learner as lab
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.tables import now
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import fail, succeed

GUEST_VALUE = "a-learner-of-the-tests"
LEARNER = f"{GUEST}{GUEST_VALUE}"
"""Who has answered questions and joined the class; a browser with `GUEST_COOKIE` is this learner."""
GUEST_COOKIE = {"name": COOKIE, "value": GUEST_VALUE}
NAMES = ("Ana Petrova", "Boris", "Chris Montgomery-Featherstonehaugh", "Deyan", "Elena", "Filip")
CARD = urlencode({"model": "all-MiniLM-L6-v2", "device": "T4"})
"""The memory of a well-known GPU."""
COMPUTED = {"step-1": "", "step-2": "", "step-3": "model=all-MiniLM-L6-v2&r=8&alpha=16&target=query", "freezing": ""}
"""The address of each page whose computation is answered."""


def started(db: Database, settings: Settings, code: str, learner: str) -> int:
    """The study of a learner of a class, who has started a seed."""
    with db.reading() as session:
        return class_studies.start(
            db, SilentBell(), settings, session, code, learner, lambda _session, study_id: study_id
        )


def ended(session: Session, study_id: int, minutes: float, *, failed: str = "") -> None:
    """The runs of a study have ended, so many minutes from now; one arm may have failed."""
    for run in runs.of_study(session, study_id):
        succeed(session, run)
        if run.arm == failed:
            fail(session, run, FailureCode.OUT_OF_MEMORY)
        run.finished_at = now() + timedelta(minutes=minutes)


def fill_lab(db: Database, home: Path, study_id: int) -> dict[str, str]:
    """Fill the Lab; the names and the addresses of its pages. The class runs a study with a verdict of three seeds."""
    settings = Settings(home=home)
    with db.transaction() as session:
        row = classes.create(session, "Parameter-efficient fine-tuning, group 2")
        class_studies.choose(session, row.id, ClassStudy(study_id=study_id, planned_seeds=3))
        answered = _learn(session)
        for place, learner in enumerate(_learners()):
            joining = Joining(name=NAMES[place], shares_progress=place != 1, shares_answers=place != 2)
            classes.join(session, row.code, learner, joining)
        class_id, code = row.id, row.code
    for place, learner in enumerate(_learners()):
        own = started(db, settings, code, learner)
        with db.transaction() as session:
            ended(session, own, place, failed="full" if place == 1 else "")
    with db.transaction() as session:
        class_pool.take_verdicts(session)
        _compute(session, settings)  # of the newest study: the last one that a learner of the class started
        OutOfMemory.of(session, settings, QueryParams(CARD), SilentBell())
    return _pages(answered) | {"class": f"/lab/classes/{class_id}", "class of a learner": f"/lab/join/{code}"}


def _learners() -> list[str]:
    return [LEARNER, *(f"{GUEST}learner-{place}" for place in range(1, len(NAMES)))]


def _pages(answered: Mapping[str, int]) -> dict[str, str]:
    steps = {f"Lab, {topic}": lessons.address(topic) for topic in lessons.library()}
    queries = {f"Lab, {step}": query for step, query in COMPUTED.items()}
    queries |= {"Lab, validation": "seed=7&guess=100", "Lab, memory": CARD}
    pages = {name: f"{path}?{query}" if (query := queries.get(name)) else path for name, path in steps.items()}
    return pages | {
        "Lab": "/lab",
        "recap": "/lab/recap",
        "classes": "/lab/classes",
        "question to order": "/lab/questions/block-order",
        "question with a number": f"/lab/questions/accumulation?answer={answered['accumulation']}",
        "question with several answers": f"/lab/questions/peft-names?answer={answered['peft-names']}",
        "open question": f"/lab/questions/quiz-1?answer={answered['quiz-1']}",
    }


def _learn(session: Session) -> dict[str, int]:
    """What the learners have answered: two steps, a pitfall, and for the first learner one question of each kind."""
    topics = list(lessons.library())
    for learner in _learners():
        for topic in (topics[0], topics[1], topics[-1]):
            asked = lab.question(lessons.library()[topic].question)
            assert isinstance(asked, ChoiceQuestion)
            wrong = next(place for place in range(len(asked.choices)) if place not in asked.right())
            given = [str(wrong)] if topic == topics[1] else [str(place) for place in asked.right()]
            lessons.answer(session, learner, topic, asked.id, given, None)
    kinds = {"accumulation": (["12"], 12.0), "peft-names": (["0"], None), "quiz-1": (["Two small matrices."], None)}
    kinds |= {"before-1": (["A model learns from another one."], None), "before-2": ([""], None)}
    found = {name: lab.give(session, LEARNER, name, *given).id for name, given in kinds.items()}
    rated = lab.give(session, LEARNER, "quiz-4", ["0"], None)
    lab.rate(session, LEARNER, rated.id, Rating.GOOD, now() - timedelta(days=3))
    return found


def _compute(session: Session, settings: Settings) -> None:
    """Request what the pages of `COMPUTED` show."""
    for step, query in COMPUTED.items():
        computation = step_page(session, settings, LEARNER, step, QueryParams(query)).computation
        assert computation is not None, step
        lab_computations.start(session, SilentBell(), computation.request, may_run=True)
