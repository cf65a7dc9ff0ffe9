"""Power analyses and metrics in words."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from app.domain.studies.power import GRADED_SCORE, SCORE
from app.services.studies.plan import metric_prior
from app.store.resources import past_runs
from app.words.runs.metrics import counted_items, loss_unit
from app.words.studies.power import prior_basis
from tests.support.filled.language import fill_language
from tests.support.rows.factories import empty_database, plain, seed_study


@pytest.fixture
def session() -> Iterator[Session]:
    """A database of its own."""
    with empty_database() as found:
        yield found


def test_before_any_run_the_score_is_assumed(session: Session) -> None:
    prior = metric_prior(session, "accuracy", [])
    assert (prior.score, prior.disagreement) == (SCORE, None)
    assert plain(prior_basis(prior)) == "The difference assumes accuracy 90 % and typical item and seed variances."


def test_items_with_values_between_are_assumed_to_vary_less_and_that_is_said(session: Session) -> None:
    prior = metric_prior(session, "rouge_l", [])
    assert (prior.score, prior.disagreement) == (GRADED_SCORE, None)
    assert plain(prior_basis(prior)) == (
        "The difference assumes ROUGE-L 50 %, a third of the item variance of a right-or-wrong metric, and a typical "
        "seed variance."
    )


def test_past_runs_of_several_methods_show_how_items_vary(session: Session) -> None:
    seed_study(session)
    prior = metric_prior(session, "accuracy", past_runs.succeeded(session, 1, 1))
    assert prior.score == pytest.approx(0.895, abs=0.01)
    assert prior.disagreement and 0.02 < prior.disagreement < 0.2
    assert (
        plain(prior_basis(prior))
        == "The difference rests on the item variance of 3 past runs and a typical seed variance."
    )


def test_past_runs_of_another_metric_say_nothing(session: Session) -> None:
    fill_language(session)
    past = past_runs.succeeded(session, 3, 2)
    assert {run.spec.verdict_metric for run in past} == {"token_accuracy"}
    assert metric_prior(session, "rouge_l", past).disagreement is None
    assert metric_prior(session, "token_accuracy", past).disagreement == pytest.approx(0.0032, rel=0.3)


def test_past_runs_of_one_method_show_a_score_and_no_disagreement(session: Session) -> None:
    seed_study(session)
    past = [run for run in past_runs.succeeded(session, 1, 1) if run.spec.method.kind == "full"]
    prior = metric_prior(session, "accuracy", past)
    assert prior.score == pytest.approx(0.895, abs=0.01)
    assert prior.disagreement is None
    assert "typical item and seed variances" in prior_basis(prior)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("accuracy", "1,646 test items"),
        ("preference_accuracy", "1,646 test pairs"),
        ("mrr_at_10", "1,646 test queries"),
        ("of an imported run", "1,646 test items"),
    ],
)
def test_test_items_are_called_by_what_has_a_value_of_the_metric(metric: str, words: str) -> None:
    assert plain(counted_items(1646, metric)) == words


def test_the_loss_of_preferences_is_per_pair() -> None:
    assert (loss_unit("preference"), loss_unit("sequence-classification")) == ("nats per pair", "nats per item")
