"""Pages of features: recipes, the registry, and webhooks."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.accounts.policy import Role
from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import Invalid
from app.domain.models.exports import ExportFormat
from app.domain.studies.spec import StudySpec
from app.features.recipes import service as recipes
from app.features.recipes.rules.recipes import Outcome, Recipe
from app.features.recipes.service import RecipeRequest
from app.features.recipes.tables import RecipeRunRow
from app.features.webhooks import commands as cli
from app.features.webhooks import queries
from app.features.webhooks import service as webhooks
from app.main import create_app
from app.services.studies import studies as study_service
from app.services.studies import tuning
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.tables import RunRow, StudyRow, WorkerRow
from app.web.pages.study.progress import RunsProgress
from app.words.format import duration
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import estimates as filled_estimates
from tests.support.filled import filled
from tests.support.filled.exports import add, gate
from tests.support.rows.accounts import Installation
from tests.support.rows.factories import plain
from tests.support.rows.tuned_studies import end_trial
from tests.support.servers.forms import form_headers
from tests.unit.web.conftest import database_of, page_words

ON = {"base_model": "all-MiniLM-L6-v2", "dataset": "bbc-headlines"}


def queued(client: TestClient) -> int:
    db: Database = client.app.state.database  # type: ignore[attr-defined]
    with db.reading() as session:
        return session.query(StudyRow).count()


def test_a_recipe_has_a_page_with_its_rule_and_its_file(full: TestClient) -> None:
    recipe = recipes.get("rate-ratio")
    page = page_words(full, "/recipes/rate-ratio")
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
    page = page_words(full, "/recipes")
    assert "reproduced" in page and "Latest results" in page
    whole = page_words(full, "/recipes/attention-only")
    assert "Rule, fixed before the runs" in whole
    assert "instead of: Llama 3 and Qwen3 language models" in whole
    assert "No recipe has this outcome" in page_words(full, "/recipes?outcome=undecided")
    assert "All-linear vs attention-only" in page_words(full, "/recipes?outcome=reproduced")
    assert "Variants tie once tuned" in page_words(full, "/recipes?model=all-MiniLM-L6-v2&data=bbc-headlines&outcome=")
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
    assert "Tests the recipe All-linear vs attention-only" in page_words(full, f"/studies/{first}")
    assert [full.get(f"/api/v1/studies/{study}").json()["recipe"] for study in (1, first)] == [None, "attention-only"]
    assert "Tests the recipe" not in page_words(full, "/studies/1")
    report = full.get(f"/studies/{first}/report.html").text
    assert "Tests the recipe" in report and "/recipes/" not in report
    newest = full.get("/recipes/attention-only").text
    assert f'href="/studies/{second}"' in newest and f'href="/recipes/attention-only?study={first}"' in newest
    older = page_words(full, f"/recipes/attention-only?study={first}")
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
    page = page_words(full, "/recipes/attention-only")
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
    assert "Rule, fixed before the runs" in page_words(full, "/recipes/attention-only")
    assert "has not run here yet" in page_words(full, "/recipes/capacity")


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


SUCCEEDED = 2


def export(client: TestClient, outcome: GateOutcome, form: ExportFormat) -> str:
    """The address of the form that registers a new export."""
    delta = {GateOutcome.PASS: -0.002, GateOutcome.UNDECIDED: -0.011, GateOutcome.FAIL: -0.06}[outcome]
    with database_of(client).transaction() as session:
        number = add(session, SUCCEEDED, form, "succeeded", gate(outcome, delta, 0.014))
    return f"/runs/{SUCCEEDED}/exports/{number}/register"


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).replace("\xa0", " ")


def test_an_export_goes_from_the_run_to_champion(full: TestClient) -> None:
    assert "No registered models yet" in full.get("/registry").text
    assert 'href="/registry"' in full.get("/models").text
    address = export(full, GateOutcome.PASS, ExportFormat.MERGED_FLOAT32)
    assert f'href="{address}"' in full.get(f"/runs/{SUCCEEDED}").text
    page = full.get(address).text
    assert "Register export: Merged, float32" in text_of(page) and "The gate of this export is" not in page
    sent = {"name": "headlines", "stage": "candidate", "reason": "", "idempotency_key": "k"}
    for _click in range(2):
        answer = full.post(address, data=sent)
        assert (answer.status_code, answer.headers["location"]) == (303, "/registry/headlines")
    shown = text_of(full.get("/registry/headlines").text)
    assert "No version is the champion." in shown and "registered as candidate" in shown
    assert "headlines none" in text_of(full.get("/registry").text)
    answer = full.post(
        "/registry/headlines", data={"version": "1", "stage": "champion", "reason": "good", "revision": "1"}
    )
    assert answer.status_code == 303
    page = full.get("/registry/headlines").text
    assert "Version 1 is the champion." in text_of(page) and "candidate → champion" in text_of(page)
    assert 'href="/api/v1/registry/headlines/versions/1/receipt"' in page
    assert "headlines version 1" in text_of(full.get("/registry").text)
    run = full.get(f"/runs/{SUCCEEDED}").text
    assert '<a href="/registry/headlines">headlines 1</a>, champion' in run
    outdated = full.post("/registry/headlines", data={"version": "1", "stage": "retired", "revision": "1"})
    assert outdated.status_code == 409 and "has changed since you read it" in outdated.text


@pytest.mark.parametrize("outcome", [GateOutcome.UNDECIDED, GateOutcome.FAIL])
def test_one_that_has_not_passed_asks_for_a_reason(full: TestClient, outcome: GateOutcome) -> None:
    address = export(full, outcome, ExportFormat.MERGED_BFLOAT16)
    assert f"The gate of this export is {outcome.value}" in text_of(full.get(address).text)
    refused = full.post(address, data={"name": "small", "stage": "champion", "reason": " "})
    assert refused.status_code == 422
    assert 'href="#reason"' in refused.text and 'value="champion" checked' in refused.text
    assert full.get("/registry/small").status_code == 404
    assert full.post(address, data={"name": "small", "stage": "champion", "reason": "a demo"}).status_code == 303
    assert "a demo" in full.get("/registry/small").text


@pytest.mark.parametrize(
    ("name", "stage", "field"), [("", "candidate", "name"), ("two words", "candidate", "name"), ("x", "king", "stage")]
)
def test_a_mistake_is_named_at_its_field(full: TestClient, name: str, stage: str, field: str) -> None:
    address = export(full, GateOutcome.PASS, ExportFormat.ADAPTER)
    answer = full.post(address, data={"name": name, "stage": stage, "reason": ""})
    assert answer.status_code == 422 and f'href="#{field}"' in answer.text
    assert "No registered models yet" in full.get("/registry").text


def test_there_is_no_form_for_what_was_not_scored(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        number = add(session, SUCCEEDED, ExportFormat.ADAPTER, "running")
    assert full.get(f"/runs/{SUCCEEDED}/exports/{number}/register").status_code == 409
    assert full.get(f"/runs/17/exports/{number}/register").status_code == 404
    assert full.post("/registry/nothing", data={"version": "1", "stage": "champion"}).status_code == 404


HOOK = "https://hooks.example.org/vezna"


@pytest.fixture
def client(empty: TestClient, tmp_path: Path) -> TestClient:
    """A client of a server that may reach hooks.example.org."""
    database_of(empty).dispose()
    app = create_app(Settings(home=tmp_path, allowed_hosts=["testserver"], outbound_hosts=["hooks.example.org"]))
    app.state.doorbell = SilentBell()
    return TestClient(app, headers=form_headers(app), follow_redirects=False)


def test_a_secret_is_shown_once_and_stored_encrypted(client: TestClient) -> None:
    answer = client.post("/webhooks", data={"url": HOOK, "events": ["model.promoted", "run.failed"]})
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    [secret] = re.findall(r'<code id="new-secret">(whsec_[\w+/=]+)</code>', answer.text)
    shown = client.get("/webhooks").text
    assert "hooks.example.org" in shown and "enabled" in shown and secret not in shown and HOOK not in shown
    assert "A message that is not received is deleted after 30 days." in shown
    with database_of(client).reading() as session:
        [row] = queries.all_of_them(session)
        assert row.event_names == ["model.promoted", "run.failed"] and secret not in row.secret
    assert client.post(f"/webhooks/{row.id}/test").status_code == 303
    assert "webhook.test" in client.get("/webhooks").text and "waiting" in client.get("/webhooks").text
    with database_of(client).transaction() as session:
        webhooks.disable(session, row.id, "It answered 410 Gone.")
    assert "It answered 410 Gone." in client.get("/webhooks").text
    assert client.post(f"/webhooks/{row.id}/enable").status_code == 303
    assert "410 Gone" not in client.get("/webhooks").text
    assert client.post(f"/webhooks/{row.id}/remove").status_code == 303
    assert (
        "<strong>hooks.example.org" not in client.get("/webhooks").text
        and client.post(f"/webhooks/{row.id}/test").status_code == 404
    )


@pytest.mark.parametrize(
    ("url", "events", "field", "why"),
    [
        ("https://evil.example/", ["run.failed"], "url", "may not reach evil.example"),
        (HOOK, ["run.started"], "events", "Must be one of"),
    ],
)
def test_a_wrong_webhook_is_named(client: TestClient, url: str, events: list[str], field: str, why: str) -> None:
    answer = client.post("/webhooks", data={"url": url, "events": events})
    assert answer.status_code == 422 and f'href="#{field}"' in answer.text and why in answer.text
    with database_of(client).reading() as session:
        assert not queries.all_of_them(session)


def test_only_admins_see_it(tmp_path: Path, empty: TestClient) -> None:
    installation = Installation(Settings(home=tmp_path, login="required"))
    for role in Role:
        assert installation.browser(role).get("/webhooks").status_code == (200 if role is Role.ADMIN else 403)
    installation.database.dispose()


def test_the_command_line_adds_lists_and_removes(
    empty: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path))
    monkeypatch.setenv("VEZNA_OUTBOUND_HOSTS", "hooks.example.org")
    cli.add(HOOK)
    assert re.search(r"^whsec_[\w+/=]{44}$", capsys.readouterr().out, re.MULTILINE)
    cli.test(1)
    cli.deliveries()
    assert "webhook.test" in capsys.readouterr().out
    cli.enable(1)
    assert "messages that waited: 1" in capsys.readouterr().out
    cli.list_all(as_json=True)
    listed = capsys.readouterr().out
    assert '"disabled": ""' in listed and '"host": "hooks.example.org"' in listed and HOOK not in listed
    cli.remove(1)
    cli.list_all()
    assert "hooks.example.org" not in capsys.readouterr().out
    with pytest.raises(Invalid, match="may not reach"):
        cli.add("https://evil.example/")
