"""Recipes by REST and on their pages: what is refused, what is queued, and the card of what has run."""

import html
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.studies.spec import StudySpec
from app.features.recipes import service as recipes
from app.features.recipes.rules.recipes import Outcome, Recipe
from app.features.recipes.service import RecipeRequest
from app.features.recipes.tables import RecipeRunRow
from app.services.studies import studies as study_service
from app.services.studies import tuning
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.tables import RunRow, StudyRow, WorkerRow
from app.web.pages.study.progress import RunsProgress
from app.words.format import duration
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import estimates as filled_estimates
from tests.support.filled import filled
from tests.support.rows.factories import plain
from tests.support.rows.tuned_studies import end_trial
from tests.unit.web.conftest import database_of

ON = {"base_model": "all-MiniLM-L6-v2", "dataset": "bbc-headlines"}


def words(client: TestClient, address: str, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status
    return plain(html.unescape(" ".join(re.sub(r"<[^>]+>", " ", answer.text).split())))


def queued(client: TestClient) -> int:
    db: Database = client.app.state.database  # type: ignore[attr-defined]
    with db.reading() as session:
        return session.query(StudyRow).count()


def test_a_recipe_has_a_page_with_its_rule_and_its_file(full: TestClient) -> None:
    recipe = recipes.get("rate-ratio")
    page = words(full, "/recipes/rate-ratio")
    assert recipe.rule in page and recipe.source.setting in page and "has not run here yet" in page
    assert Recipe.model_validate(full.get("/api/v1/recipes/rate-ratio").json()) == recipe
    assert full.get("/recipes/rate-ratio/recipe.yaml").text.startswith("# Five rates")
    assert full.get("/recipes/elsewhere").status_code == 404
    assert "Choose from: attention-only" in full.get("/api/v1/recipes/elsewhere").json()["detail"]


@pytest.mark.parametrize(
    ("recipe", "body", "path", "reason"),
    [
        ("forgetting", ON, "dataset", "has no rows for causal-lm"),
        ("rank-ladder", ON | {"base_model": "nowhere"}, "base_model", "There is no inspected base model"),
        ("rank-ladder", ON | {"base_model": "distilbert-base"}, "base_model", "There is no inspected base model"),
        ("rank-ladder", ON | {"dataset": "nowhere"}, "dataset", "There is no dataset"),
        ("rank-ladder", ON | {"seeds": 3}, "seeds", "There is no such field"),
        ("rank-ladder", {}, "base_model", "This field is required"),
    ],
)
def test_what_does_not_fit_is_refused_with_field_and_remedy_and_queues_nothing(
    full: TestClient, recipe: str, body: dict[str, Any], path: str, reason: str
) -> None:
    before = queued(full)
    answer = full.post(f"/api/v1/recipes/{recipe}/runs", json=body)
    assert answer.status_code == 422
    error = answer.json()["errors"][0]
    assert path in error["path"] and reason in error["message"]
    assert queued(full) == before


def test_the_form_is_refused_with_the_same_words(full: TestClient) -> None:
    answer = full.post("/recipes/forgetting/run", data=ON)
    assert answer.status_code == 422
    assert "The recipe was not queued" in answer.text and "has no rows for causal-lm" in answer.text


def test_a_recipe_is_queued_with_the_rule_of_that_day(full: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = full.post("/api/v1/recipes/rank-ladder/runs", json=ON)
    assert answer.status_code == 202
    study = answer.json()["study_id"]
    spec = StudySpec.model_validate(full.get(f"/api/v1/studies/{study}").json()["spec"])
    assert [arm.title for arm in spec.arms] == ["rank 64", "rank 16", "rank 4", "rank 1"]
    changed = recipes.get("rank-ladder").model_copy(update={"rule": "another rule"})
    monkeypatch.setattr(recipes, "library", lambda: {"rank-ladder": changed})
    card = full.get("/api/v1/recipes/rank-ladder/card").json()
    assert card["outcome"] is None and card["label"] == "0 of 12 runs have ended"
    assert card["rule"] != "another rule", "the rule was fixed before the runs"


def test_before_it_has_run_there_is_no_card(full: TestClient) -> None:
    assert "has not run here yet" in full.get("/api/v1/recipes/capacity/card").json()["detail"]
    full.post("/api/v1/recipes/rank-ladder/runs", json=ON)
    wrong = full.get("/api/v1/recipes/capacity/card", params={"study": queued(full)})
    assert wrong.status_code == 404


def ran(client: TestClient, recipe_id: str, accuracy: dict[str, float]) -> int:
    """A recipe whose runs have all succeeded; its study."""
    db: Database = client.app.state.database  # type: ignore[attr-defined]
    recipe = recipes.get(recipe_id)
    with db.transaction() as session:
        spec = recipes.spec(session, recipe, RecipeRequest(**ON))
        runs = filled.add_study(session, spec, hours_ago=1)
        for run in runs:
            _succeed(session, run, accuracy[run.arm])
        study = runs[0].study_id
        session.add(RecipeRunRow(study_id=study, recipe=recipe_id, recipe_json=recipe.model_dump(mode="json")))
        assert study is not None
        return study


def _succeed(session: Any, run: RunRow, accuracy: float) -> None:
    usual = filled.ACCURACY[run.method_kind]
    filled.ACCURACY[run.method_kind] = accuracy
    try:
        filled.succeed(session, run)
    finally:
        filled.ACCURACY[run.method_kind] = usual


@pytest.mark.slow
def test_the_card_says_paper_here_and_one_of_three_outcomes(full: TestClient) -> None:
    study = ran(full, "attention-only", {"all-linear": 0.9, "attention-only": 0.7})
    card = full.get("/api/v1/recipes/attention-only/card").json()
    assert (card["outcome"], card["study_id"]) == (Outcome.REPRODUCED, study)
    assert card["findings"][0]["high"] < 0 and card["findings"][0]["state"] == "confirmed"
    assert plain(card["here"]).startswith("−20.") and "points" in card["here"]
    page = words(full, "/recipes")
    assert "reproduced" in page and "Latest results" in page
    whole = words(full, "/recipes/attention-only")
    assert "Rule, fixed before the runs" in whole
    assert "instead of: Llama 3 and Qwen3 language models" in whole
    assert "No recipe has this outcome" in words(full, "/recipes?outcome=undecided")
    assert "All-linear vs attention-only" in words(full, "/recipes?outcome=reproduced")
    assert "Variants tie once tuned" in words(full, "/recipes?model=all-MiniLM-L6-v2&data=bbc-headlines&outcome=")
    assert full.get("/recipes?outcome=perhaps").status_code == 422


def test_a_claim_that_fails_here_is_not_reproduced(full: TestClient) -> None:
    ran(full, "attention-only", {"all-linear": 0.7, "attention-only": 0.9})
    assert full.get("/api/v1/recipes/attention-only/card").json()["outcome"] == Outcome.NOT_REPRODUCED


@pytest.mark.slow
def test_a_study_and_its_recipe_link_to_each_other(full: TestClient) -> None:
    accuracy = {"all-linear": 0.9, "attention-only": 0.7}
    first, second = (ran(full, "attention-only", accuracy | {"attention-only": score}) for score in (0.7, 0.9))
    page = full.get(f"/studies/{first}").text
    assert f'href="/recipes/attention-only?study={first}"' in page
    assert "Tests the recipe All-linear vs attention-only" in words(full, f"/studies/{first}")
    assert [full.get(f"/api/v1/studies/{study}").json()["recipe"] for study in (1, first)] == [None, "attention-only"]
    assert "Tests the recipe" not in words(full, "/studies/1")
    report = full.get(f"/studies/{first}/report.html").text
    assert "Tests the recipe" in report and "/recipes/" not in report
    newest = full.get("/recipes/attention-only").text
    assert f'href="/studies/{second}"' in newest and f'href="/recipes/attention-only?study={first}"' in newest
    older = words(full, f"/recipes/attention-only?study={first}")
    assert "Result reproduced" in older and "−20." in older
    assert f"charts/recipe.csv?study={first}" in full.get(f"/recipes/attention-only?study={first}").text
    numbers = full.get("/recipes/attention-only/charts/recipe.csv", params={"study": first}).text.splitlines()
    assert float(numbers[1].split(",")[1]) == pytest.approx(-20, abs=1)
    assert full.get(f"/recipes/capacity?study={first}").status_code == 404


def test_a_card_goes_with_its_study(full: TestClient) -> None:
    study = ran(full, "attention-only", {"all-linear": 0.9, "attention-only": 0.7})
    assert full.delete(f"/api/v1/studies/{study}").status_code == 204
    assert full.get("/api/v1/recipes/attention-only/card").status_code == 404


def test_cancelled_runs_leave_the_outcome_undecided_and_are_not_counted(full: TestClient) -> None:
    study = ran(full, "attention-only", {"all-linear": 0.9, "attention-only": 0.7})
    with database_of(full).transaction() as session:
        for run in session.query(RunRow).filter_by(study_id=study, arm="attention-only"):
            if run.seed > 1:
                run.status, run.result_json = "cancelled", None
    card = full.get("/api/v1/recipes/attention-only/card").json()
    assert card["outcome"] == Outcome.UNDECIDED and card["findings"][0]["state"] == "open"
    assert "Only 2 of 4 seeds have a result for every arm" in card["here"]
    page = words(full, "/recipes/attention-only")
    assert "2 of 4 seeds complete, 6 of 8 runs succeeded" in page


def test_a_card_says_why_all_trials_failed_and_how_long_they_took(full: TestClient) -> None:
    recipe = recipes.get("variants-tie")
    with database_of(full).transaction() as session:
        spec = recipes.spec(session, recipe, RecipeRequest(**ON))
        study = study_service.submit(session, SilentBell(), spec)
        for trial in runs.trials_of(session, study.id):
            end_trial(session, trial, None)
        tuning.advance(session, SilentBell(), study.id)
        session.add(RecipeRunRow(study_id=study.id, recipe=recipe.id, recipe_json=recipe.model_dump(mode="json")))
    with database_of(full).reading() as session:
        card = recipes.card(session, recipe.id)
        assert card.failure and card.outcome is Outcome.UNDECIDED
        progress = study_service.progress(session, card.study.id)
        spent = [arm.tuning.seconds for arm in card.comparison.arms if arm.tuning]
        assert card.device_seconds == sum(spent) == 12 * 12, "12 trials of 12 s each"
        [trials] = [text for name, text in RunsProgress(card.comparison, progress).costs if name == "Trials"]
        assert plain(trials) == f"12 trials, {plain(duration(144))}"


def test_a_recipes_page_compares_that_recipe_only(full: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(full, "attention-only", {"all-linear": 0.9, "attention-only": 0.7})
    monkeypatch.setattr(recipes, "cards", lambda session: pytest.fail("every recipe's card was computed"))
    assert "Rule, fixed before the runs" in words(full, "/recipes/attention-only")
    assert "has not run here yet" in words(full, "/recipes/capacity")


def test_what_fits_no_live_worker_can_be_queued_anyway(registered_only: TestClient) -> None:
    db = database_of(registered_only)
    with db.transaction() as session:
        session.add(WorkerRow(name="cpu-1", device="cpu", device_name="x86", memory_bytes=600 * 2**20, cores=2))
    queued_first = registered_only.post("/recipes/rank-ladder/run", data=ON)
    assert queued_first.status_code == 303, "no estimate is known yet"
    while filled_estimates.answer_requests(db):
        pass
    refused = registered_only.post("/recipes/rank-ladder/run", data=ON)
    assert refused.status_code == 422 and "more than any live worker has" in plain(refused.text)
    assert 'href="#insist"' in refused.text and "insist=true" not in refused.text
    form = re.search(r'<form method="post" action="/recipes/rank-ladder/run">(.*?)</form>', refused.text, re.DOTALL)
    assert form and "Queue it anyway" in form[1]
    fields = dict(re.findall(r'name="(\w+)"\s+value="([^"]*)"', form[1]))
    assert fields.pop("idempotency_key") and fields.pop("csrf_token")
    assert fields == ON | {"general_text": "", "insist": "true"}
    assert registered_only.post("/recipes/rank-ladder/run", data=fields).status_code == 303
