"""The Lab: which question a learner gets next, what an answer was worth, and when the question comes again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files

import yaml
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.domain.comparison.statistics.verdict import VerdictKind, word
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.domain.methods import FullSpec, LoraSpec
from app.domain.validation import field_error
from app.features.lab.queries import learner as rows
from app.features.lab.rules.questions import (
    QUESTIONS,
    ChoiceQuestion,
    Facts,
    Need,
    NumberQuestion,
    OpenQuestion,
    OrderQuestion,
    Question,
    Topic,
)
from app.features.lab.rules.review import NEW_PER_DAY, Rating, rated
from app.features.lab.tables import LabAnswerRow, LabCardRow
from app.services.studies import studies as study_service
from app.store.tables import StudyRow

PACKAGE = "lab"
SEARCHED = 20
"""The newest runs and studies among which a question about the learner's own looks for one that fits."""


@cache
def library() -> dict[str, Question]:
    """The questions by id: the quiz of the course first, then step by step. Raises Invalid for a file that is none."""
    folder = files(PACKAGE) / "questions"
    found = [
        question
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
        for question in read(file.name, file.read_text(encoding="utf-8"))
    ]
    if twice := {question.id for question in found if sum(other.id == question.id for other in found) > 1}:
        raise Invalid.field("id", _("Two questions have the id %(id)s", id=min(twice)), _("Rename one of them"))
    return {question.id: question for question in found}


def read(name: str, text: str) -> list[Question]:
    """The questions of a file `TOPIC.yaml`, or of one whose questions name their topics. Raises Invalid."""
    topic = name.removesuffix(".yaml")
    named = {"topic": topic} if topic in set(Topic) else {}
    try:
        return QUESTIONS.validate_python([named | entry for entry in yaml.safe_load(text)])
    except yaml.YAMLError as error:
        raise Invalid(_("%(name)s is not YAML: %(why)s", name=name, why=" ".join(str(error).split()))) from error
    except ValidationError as error:
        fields = [field_error(details, {}) for details in error.errors()]
        why = "; ".join(field.located for field in fields)
        raise Invalid(_("The questions in %(name)s are invalid: %(why)s", name=name, why=why), fields) from error


def question(question_id: str) -> Question:
    """A question. Raises NotFound."""
    if (found := library().get(question_id)) is None:
        raise NotFound(_("There is no question %(id)s.", id=question_id))
    return found


def asked_before(question_id: str) -> bool:
    """It asks what a learner knows before the course: it is asked once, and compared at the end, in the recap."""
    known = library().get(question_id)  # a learner may have answered one that is gone
    return known is not None and known.topic is Topic.BEFORE


@dataclass(frozen=True)
class Planned:
    """A question of the course's spaced review."""

    question: Question
    days: int
    due_at: datetime | None
    """None until the learner begins."""
    done: bool


@dataclass(frozen=True)
class Queue:
    """What a learner is to answer."""

    due: tuple[Question, ...]
    """Met before and due, the longest due first, then those of the plan whose day has come."""
    new: tuple[Question, ...]
    """For the first time, in the order of the course, as many as are left for today."""
    plan: tuple[Planned, ...]
    ahead: tuple[datetime, ...]
    """When further questions are due, the earliest first."""

    @property
    def questions(self) -> tuple[Question, ...]:
        """In the order in which they are asked."""
        return self.due + self.new


def queue(session: Session, learner: str, now: datetime) -> Queue:
    """What a learner is to answer now."""
    cards, began, answered = rows.cards(session, learner), rows.began(session, learner), rows.answered(session, learner)
    plan = tuple(
        Planned(known, known.after_days, began and began + timedelta(days=known.after_days), known.id in cards)
        for known in sorted(library().values(), key=lambda known: known.after_days or 0)
        if known.after_days
    )
    known_cards = [card for card in cards.values() if card.question in library() and not asked_before(card.question)]
    due = [library()[card.question] for card in known_cards if card.due_at <= now]
    due += [item.question for item in plan if not item.done and item.due_at and item.due_at <= now]
    planned = {item.question.id for item in plan}
    met_today = sum(card.first_at.date() == now.date() and card.question not in planned for card in cards.values())
    met = cards.keys() | {question_id for question_id in answered if asked_before(question_id)}
    unmet = [known for known in library().values() if known.id not in met and known.id not in planned]
    new = [known for known in unmet if not known.needs or facts(session, known.needs)]
    ahead = [card.due_at for card in known_cards if card.due_at > now]
    ahead += [item.due_at for item in plan if not item.done and item.due_at and item.due_at > now]
    return Queue(tuple(due), tuple(new[: max(0, NEW_PER_DAY - met_today)]), plan, tuple(sorted(ahead)))


def give(session: Session, learner: str, question_id: str, given: Sequence[str], number: float | None) -> LabAnswerRow:
    """Store an answer and judge it: places of choices from 0, ranks of items from 1, the `number` that was entered, or
    the text of an open answer. Raises NotFound, and Invalid for an answer that is none."""
    asked = question(question_id)
    known = facts(session, asked.needs) if asked.needs else None
    if asked.needs and known is None:
        raise Conflict(_("This question is about a run of yours, and there is none that fits."))
    row = LabAnswerRow(
        learner=learner,
        question=question_id,
        given_json=list(given),
        facts_json={"answer": known.answer, "values": dict(known.values)} if known else {},
        right=_judged(asked, given, number, known),
    )
    session.add(row)
    session.flush()
    return row


def _judged(asked: Question, given: Sequence[str], number: float | None, known: Facts | None) -> bool | None:
    match asked:
        case OpenQuestion():
            return None
        case NumberQuestion():
            if number is None:
                raise Invalid.field("answer", _("The number is missing"), _("Enter one, such as 12 or 0.5"))
            return asked.judged(number, known)
        case ChoiceQuestion():
            if not any(given):
                raise Invalid.field("answer", _("Nothing is chosen"), _("Choose an answer"))
            return asked.judged(given, known)
        case OrderQuestion():
            ranks = [int(rank) for rank in given if rank.isdecimal()]
            if sorted(ranks) != list(range(1, len(asked.items) + 1)):
                raise Invalid.field("answer", _("The order is incomplete"), _("Give each item a place of its own"))
            return asked.judged(ranks)


def rate(session: Session, learner: str, answer_id: int, rating: Rating, now: datetime) -> None:
    """Schedule an answered question by how well the learner remembered. A second rating of an answer changes nothing.
    Raises NotFound, and Invalid for a wrong answer that was remembered."""
    answer = rows.answer(session, learner, answer_id, lock=True)
    if answer.right is False and rating is not Rating.AGAIN:
        raise Invalid.field("rating", _("The answer was not right"), _("Choose “Again”"))
    if answer.rating is not None:
        return
    answer.rating = rating
    card = session.get(LabCardRow, (learner, answer.question), with_for_update=True)
    state, due = rated(card.card_json if card else None, rating, now)
    if card is None:
        session.add(LabCardRow(learner=learner, question=answer.question, card_json=state, due_at=due, first_at=now))
    else:
        card.card_json, card.due_at, card.reviews = state, due, card.reviews + 1


def facts(session: Session, need: Need) -> Facts | None:
    """What a question about the learner's own runs is about; None where no run or study fits."""
    return _trainable(session) if need is Need.LORA_TRAINABLE else _compared(session, need)


def _trainable(session: Session) -> Facts | None:
    for run in rows.newest_runs(session, SEARCHED):
        method = run.spec.method
        if isinstance(method, LoraSpec) and (result := run.result):
            count = result.parameters
            values = {"run": run.id, "rank": method.r, "trainable": count.trainable, "total": count.total}
            return Facts(100 * count.trainable / count.total, values)
    return None


@dataclass(frozen=True)
class OwnStudy:
    """A study of the learner's with results of full fine-tuning and of LoRA."""

    row: StudyRow
    comparison: StudyComparison
    full: StudyArm
    lora: StudyArm


def teaching_studies(session: Session) -> Iterator[tuple[StudyRow, StudyComparison]]:
    """Studies that have ended and in which something was learned, the newest first: of others a page would show the
    opposite of its lesson."""
    for row in rows.newest_studies(session, SEARCHED):
        shown = study_service.comparison(session, row.id)
        if shown.complete and not shown.learning.nothing:
            yield row, shown


def own_studies(session: Session) -> Iterator[OwnStudy]:
    """Those of them that have both, the newest first."""
    for row, shown in teaching_studies(session):
        arms = {type(arm.spec.method): arm for arm in reversed(shown.arms) if arm.costs}
        full, lora = arms.get(FullSpec), arms.get(LoraSpec)
        if full and lora:
            yield OwnStudy(row, shown, full, lora)


def _compared(session: Session, need: Need) -> Facts | None:
    for own in own_studies(session):
        full, lora, name = own.full, own.lora, own.row.name
        if need is Need.MEMORY_SHARE and full.costs and lora.costs:
            share = 100 * lora.costs.peak_bytes.mean / full.costs.peak_bytes.mean
            peaks = {"lora": lora.costs.peak_bytes.mean, "full": full.costs.peak_bytes.mean}
            return Facts(share, {"study": name, **peaks})
        verdict = lora.verdict
        if need is Need.DIFFERENCE and verdict and verdict.difference and full.is_reference:
            low, high = verdict.difference.low, verdict.difference.high
            points = own.comparison.spec.margin_points
            values: dict[str, str | float] = {"study": name, "low": 100 * low, "high": 100 * high, "margin": points}
            # The question is one-sided, whatever the study tested.
            kind = VerdictKind.BETTER if low > 0 else word(low, high, points / 100)[0]
            return Facts(kind, values)
    return None
