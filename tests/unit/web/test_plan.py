"""What a plan knows of chance before a study starts: from past runs on the same data, else assumed and said to be."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from app.domain.studies.power import GRADED_SCORE, SCORE
from app.store.queries import past_runs
from app.web.text.assumed_score import Chance
from tests.factories import empty_database, plain, seed_study
from tests.filled_language import fill_language


@pytest.fixture
def session() -> Iterator[Session]:
    """A database of its own."""
    with empty_database() as found:
        yield found


def test_before_any_run_the_score_is_assumed(session: Session) -> None:
    chance = Chance.of(session, "accuracy", [])
    assert (chance.score, chance.disagreement) == (SCORE, None)
    assert plain(chance.words) == "the difference from accuracy 90 % and usual variances;"


def test_items_with_values_between_are_assumed_to_vary_less_and_that_is_said(session: Session) -> None:
    chance = Chance.of(session, "rouge_l", [])
    assert (chance.score, chance.disagreement) == (GRADED_SCORE, None)
    assert plain(chance.words) == (
        "the difference from ROUGE-L 50 %, items that vary a third as much as right and wrong do, and what seeds "
        "usually change;"
    )


def test_past_runs_of_several_methods_show_how_items_vary(session: Session) -> None:
    seed_study(session)
    chance = Chance.of(session, "accuracy", past_runs.succeeded(session, 1, 1))
    assert chance.score == pytest.approx(0.895, abs=0.01)
    assert chance.disagreement and 0.02 < chance.disagreement < 0.2
    assert plain(chance.words) == "the difference from how items varied in 3 past runs, and what seeds usually change;"


def test_past_runs_of_another_metric_say_nothing(session: Session) -> None:
    fill_language(session)
    past = past_runs.succeeded(session, 3, 2)
    assert {run.spec.verdict_metric for run in past} == {"token_accuracy"}
    assert Chance.of(session, "rouge_l", past).disagreement is None
    assert Chance.of(session, "token_accuracy", past).disagreement == pytest.approx(0.0032, rel=0.3)


def test_past_runs_of_one_method_show_a_score_and_no_disagreement(session: Session) -> None:
    seed_study(session)
    past = [run for run in past_runs.succeeded(session, 1, 1) if run.spec.method.kind == "full"]
    chance = Chance.of(session, "accuracy", past)
    assert chance.score == pytest.approx(0.895, abs=0.01)
    assert chance.disagreement is None
    assert "usual variances" in chance.words
