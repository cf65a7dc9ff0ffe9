"""Questions of the Lab: what a file may hold, and how answers are judged."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.features.lab.rules.questions import (
    NAMES,
    QUESTIONS,
    ChoiceQuestion,
    Facts,
    Need,
    NumberQuestion,
    OrderQuestion,
)
from app.features.lab.services import learner as lab

TEXT = {"en": "Which?", "bg": "Кое?"}
RIGHT, WRONG = TEXT | {"right": True}, TEXT
SINGLE = {"id": "q", "topic": "step-1", "kind": "single", "text": TEXT, "choices": [RIGHT, WRONG], "because": TEXT}
NUMBER = {"id": "n", "topic": "rank", "kind": "number", "text": TEXT, "answer": 6144, "because": TEXT}


def parsed(entry: dict[str, Any]) -> Any:
    [found] = QUESTIONS.validate_python([entry])
    return found


def test_the_packaged_questions_cover_the_course() -> None:
    known = lab.library().values()
    assert [found.course for found in known if found.course] == list(range(1, 8))
    assert [found.after_days for found in known if found.after_days] == [1, 3, 7, 30]
    assert len([found for found in known if not found.course and not found.after_days]) >= 40
    assert {found.needs for found in known if found.needs} == set(Need)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"choices": [WRONG, WRONG]}, "one choice of `single` is right"),
        ({"choices": [RIGHT, RIGHT]}, "one choice of `single` is right"),
        ({"choices": [RIGHT, TEXT | {"when": "within"}]}, "`when` is for questions with `needs`"),
        ({"needs": "difference"}, "each choice of a question with `needs` has `when`"),
        ({"text": {"en": "Only English"}}, "Field required"),
        ({"text": TEXT | {"en": "Run %(run)s?"}}, "names ['run']"),
        ({"id": "No Spaces"}, "should match pattern"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why.replace("[", r"\[").replace("]", r"\]")):
        parsed(SINGLE | change)


def test_a_number_has_an_answer_or_takes_it_from_the_learners_runs() -> None:
    with pytest.raises(ValidationError, match="a number has an `answer`, or it has `needs`"):
        parsed({name: value for name, value in NUMBER.items() if name != "answer"})
    with pytest.raises(ValidationError, match="a number has an `answer`, or it has `needs`"):
        parsed(NUMBER | {"needs": "memory-share"})


def test_choices_are_right_only_together() -> None:
    several = parsed(SINGLE | {"kind": "multiple", "choices": [RIGHT, WRONG, RIGHT]})
    assert isinstance(several, ChoiceQuestion)
    assert several.judged(["2", "0"])
    assert not any(several.judged(given) for given in (["0"], ["0", "1", "2"], [], ["x"]))


def test_a_number_is_right_within_its_tolerance() -> None:
    exact, near = parsed(NUMBER), parsed(NUMBER | {"tolerance": 5})
    assert isinstance(exact, NumberQuestion)
    assert (exact.judged(6144), exact.judged(6145), near.judged(6149), near.judged(6150)) == (True, False, True, False)
    own = parsed(
        {"id": "o", "topic": "rank", "kind": "number", "text": TEXT, "needs": "memory-share"}
        | {"tolerance_percent": 10, "because": TEXT}
    )
    assert (own.judged(44, Facts(40.0)), own.judged(45, Facts(40.0))) == (True, False)


def test_items_are_never_shown_in_the_right_order() -> None:
    for number in range(20):
        items = [{"en": str(i), "bg": str(i)} for i in range(3)]
        asked = parsed(
            {"id": f"o{number}", "topic": "rank", "kind": "order", "text": TEXT} | {"items": items, "because": TEXT}
        )
        assert isinstance(asked, OrderQuestion)
        assert sorted(asked.shuffled()) == [0, 1, 2] and asked.shuffled() != [0, 1, 2]
    assert asked.judged([1, 2, 3]) and not asked.judged([2, 1, 3])


def test_every_value_of_a_need_is_known() -> None:
    assert set(NAMES) == set(Need)
