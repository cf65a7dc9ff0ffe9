"""The mark beside an answer: the majority of seeds counts, and a half is no majority."""

import pytest

from app.services.comparison.flips import Answer
from app.web.pages.study.flips import _cell


@pytest.mark.parametrize(("right", "mark"), [(3, "yes"), (2, "tie"), (1, "no")])
def test_as_many_seeds_right_as_wrong_are_a_tie(right: int, mark: str) -> None:
    answer = Answer(score=right / 4, seeds=4, right=right, label="sport")
    assert _cell(answer, "accuracy").mark == mark


def test_a_graded_score_of_one_half_is_no_tie() -> None:
    assert _cell(Answer(score=0.5, seeds=2, right=0, text="A headline"), "rouge_l").mark == "graded"
