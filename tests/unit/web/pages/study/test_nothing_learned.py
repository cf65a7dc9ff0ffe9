"""The page of a study in which nothing was learned, by HTTP; the same answer in JSON, on a terminal, in the report."""

import html
import re

import pytest
from fastapi.testclient import TestClient

from tests.support.filled import filled
from tests.support.filled import learning as filled_learning
from tests.support.rows.factories import seed_study
from tests.support.servers.forms import without_tokens
from tests.unit.web.conftest import database_of

HEADLINE = "Nothing was learned: every arm predicts “positive” for almost all test items"


@pytest.fixture
def study(registered_only: TestClient) -> int:
    with database_of(registered_only).transaction() as session:
        return filled_learning.add(session)


def seen(client: TestClient, address: str) -> str:
    """The text of a page, without tags."""
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).replace("\xa0", " ").split())


@pytest.mark.slow
def test_the_heading_says_it_and_no_arm_has_a_verdict(registered_only: TestClient, study: int) -> None:
    text = registered_only.get(f"/studies/{study}").text
    assert f"<h1>{HEADLINE}</h1>" in text
    words = seen(registered_only, f"/studies/{study}")
    assert "Does fine-tuning help? no" in words and "Is another arm enough? not tested" in words
    assert "most frequent label 65.4 %, TF-IDF 73.4 %" in words
    assert "undecided" not in words and "loses less" not in words
    assert 'id="add-seeds"' not in text


@pytest.mark.parametrize(
    ("remedy", "field", "value"),
    [
        ("steps", "training.num_train_epochs", "8"),
        ("max-length", "training.max_length", "256"),
        ("learning-rate", "tuning.rates", "5"),
    ],
)
def test_a_button_prepares_the_study_that_removes_the_cause(
    registered_only: TestClient, study: int, remedy: str, field: str, value: str
) -> None:
    text = registered_only.get(f"/studies/new?from_study={study}&remedy={remedy}").text
    [tag] = re.findall(rf'<input[^>]* name="{re.escape(field)}"[^>]*>', text)
    assert f'value="{value}"' in tag


def test_an_unknown_remedy_changes_nothing(registered_only: TestClient, study: int) -> None:
    prepared = registered_only.get(f"/studies/new?from_study={study}&remedy=labels")
    assert prepared.status_code == 200 and "drug-reviews" in prepared.text
    unknown, plain = (
        without_tokens(registered_only.get(f"/studies/new?{query}").text)
        for query in (f"from_study={study}&remedy=prayer", f"from_study={study}")
    )
    assert unknown == plain


def test_the_api_answers_the_same(registered_only: TestClient, study: int) -> None:
    answer = registered_only.get(f"/api/v1/studies/{study}/comparison").json()
    learning = answer["learning"]
    assert answer["headline"] == HEADLINE and HEADLINE in answer["summary"]
    assert (learning["helps"], learning["label"], learning["nothing_learned"]) == ("no", "no", True)
    assert learning["criteria"] == ["trivial", "one_label", "no_progress"]
    assert not learning["arms_tested"] and learning["most_predicted"]["full"]["label"] == "positive"
    assert [cause["kind"] for cause in learning["causes"]] == ["steps", "max-length"]
    assert learning["causes"][0]["prepared"] == f"/studies/new?from_study={study}&remedy=steps"
    [lora] = [arm["verdict"] for arm in answer["arms"] if arm["verdict"]]
    assert (lora["kind"], lora["reason"], lora["label"]) == ("none", "not_tested", "not tested")
    assert lora["delta"] == pytest.approx(-2.5 / 379)


def test_runs_of_the_study_compared_freely_have_no_verdict_either(registered_only: TestClient, study: int) -> None:
    answer = registered_only.get(f"/api/v1/compare?study={study}").json()
    [lora] = [arm["verdict"] for arm in answer["arms"] if arm["verdict"]]
    assert (lora["kind"], lora["label"]) == ("none", "not tested")
    assert "not tested" in answer["headline"]
    assert registered_only.get(f"/compare?study={study}").status_code == 200


def test_a_study_that_learned_answers_both_questions(registered_only: TestClient) -> None:
    with database_of(registered_only).transaction() as session:
        number = seed_study(session)
        filled.add_baselines(session, filled.three_arms())
    words = seen(registered_only, f"/studies/{number}")
    assert "Does fine-tuning help? yes" in words and "Is another arm enough? enough" in words
    assert "Why nothing was learned" not in words
    answer = registered_only.get(f"/api/v1/studies/{number}/comparison").json()["learning"]
    assert (answer["helps"], answer["arms_tested"], answer["causes"]) == ("yes", True, [])


@pytest.mark.slow
def test_a_reference_below_tfidf_is_not_tested_though_it_learned(registered_only: TestClient) -> None:
    with database_of(registered_only).transaction() as session:
        number = seed_study(session, accuracy={"full": 0.60, "LoRA r=8": 0.61, "head only": 0.5})
        filled.add_baselines(session, filled.three_arms())
    text = registered_only.get(f"/studies/{number}").text
    assert "<h1>Fine-tuning does not help: the baseline “TF-IDF” reaches 78.5" in text
    words = seen(registered_only, f"/studies/{number}")
    assert "Is another arm enough? not tested" in words and "Why nothing was learned" not in words


def test_a_run_shows_its_most_frequent_prediction_and_loss_trend(registered_only: TestClient, study: int) -> None:
    runs = registered_only.get(f"/api/v1/studies/{study}").json()["runs"]
    words = seen(registered_only, f"/runs/{runs[0]}")
    assert "Most frequent prediction “positive” for 100.0 % of the test items" in words
    assert "Training loss, second half still falling" in words
    assert "Best evaluation on validation the first of 2" in words
    learned = registered_only.get(f"/api/v1/runs/{runs[0]}").json()["learned"]
    assert (learned["predicted"], learned["share"], learned["trend"]["kind"]) == ("positive", 1.0, "falling")
    assert learned["progress"] == {"evaluations": 2, "best": 1, "step": 34, "improved": False}
