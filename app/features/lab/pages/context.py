"""The context of a question."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.errors import FieldError
from app.features.lab.queries import learner as rows
from app.features.lab.rules.questions import ChoiceQuestion, Facts, OpenQuestion, OrderQuestion, Question
from app.features.lab.rules.review import Rating, intervals
from app.features.lab.services import learner as lab
from app.features.lab.tables import LabAnswerRow
from app.store.tables import now


@dataclass(frozen=True)
class QuestionPage:
    """A question, before or after it is answered."""

    question: Question
    facts: Facts | None
    answer: LabAnswerRow | None = None
    ratings: tuple[tuple[Rating, timedelta], ...] = ()
    """With the time until the question comes again, after a wrong answer "again" alone; empty once the answer is rated,
    and for what is asked before the course."""
    errors: Sequence[FieldError] = ()
    given: Sequence[str] = ()
    """What was sent and refused, or answered."""
    number: str = ""

    @property
    def places(self) -> list[int]:
        """Of choices or items, in the order in which they are shown."""
        return self.question.shuffled() if isinstance(self.question, ChoiceQuestion | OrderQuestion) else []

    @property
    def right(self) -> set[int]:
        """Places of the right choices."""
        return self.question.right(self.facts) if isinstance(self.question, ChoiceQuestion) else set()

    @property
    def compared_later(self) -> bool:
        """A model answer is shown at the end of the course."""
        return lab.asked_before(self.question.id)

    @property
    def is_open(self) -> bool:
        """The learner judges the answer."""
        return isinstance(self.question, OpenQuestion)


def question_page(session: Session, learner: str, question_id: str, answer_id: int | None = None) -> QuestionPage:
    """A question, or what its answer was worth. Raises NotFound."""
    question, at = lab.question(question_id), now()
    if answer_id is None:
        return QuestionPage(question, lab.facts(session, question.needs) if question.needs else None)
    answer = rows.answer(session, learner, answer_id)
    facts = Facts(**answer.facts_json) if answer.facts_json else None
    card = rows.cards(session, learner).get(question_id)
    ratings = intervals(card.card_json if card else None, at)
    if answer.rating is not None or lab.asked_before(question_id):
        ratings = {}
    elif answer.right is False:
        ratings = {Rating.AGAIN: ratings[Rating.AGAIN]}
    return QuestionPage(question, facts, answer, tuple(ratings.items()), given=answer.given_json)
