"""Pages of studies that tuned rates or searched spaces, and of arms that are added and stopped, by HTTP."""

import re
from math import log10
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.domain.studies.spec import StudySpec
from app.samples import samples as sample
from app.services.studies import studies as study_service
from app.services.studies import tuning
from app.store.runs import queries as runs
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import filled
from tests.support.rows.factories import plain
from tests.support.rows.tuned_studies import add_tuned_study, end_trial
from tests.unit.web.conftest import database_of

LOST = {"full": (None, None, None), "LoRA r=8": (0.83, None, 0.8), "head only": (0.8, 0.81, 0.82)}
LORA_64 = {"arms.0.method.kind": "lora", "arms.0.method.r": "64", "arms.0.method.lora_alpha": "128"}


def tuned(client: TestClient, *args: Any, **options: Any) -> int:
    with database_of(client).transaction() as session:
        return add_tuned_study(session, *args, **options)


def section(text: str, name: str) -> str:
    return plain(text[text.index(f'id="{name}"') :].split("</section>")[0])


def test_an_undecided_study_looks_further_for_rates_before_it_adds_seeds(registered_only: TestClient) -> None:
    study = tuned(registered_only, margin_points=0.5)
    text = plain(registered_only.get(f"/studies/{study}").text)
    assert "Undecided whether LoRA r=8" in text
    first = "First widen the search for learning rates: the best rate of LoRA r=8 is at the edge of the rates tried."
    assert text.index('id="rates-first"') < text.index('id="add-seeds"')
    assert re.search(r'class="button quiet"\s+type="submit"\s+id="add-seeds"', text)
    assert "LoRA r=8: 2e-3, 6e-3, 0.018" in text
    sentence = registered_only.get(f"/api/v1/studies/{study}/comparison").json()["summary"]
    assert first in sentence
    form = registered_only.get(f"/studies/new?from_study={study}&rates=further").text
    rates = re.findall(r'name="arms.\d.search.learning_rate"\s+value="([^"]*)"', form)
    assert rates == ["", "2e-3, 6e-3, 0.018", ""]


def test_arms_that_found_no_rate_stay_with_their_reason_and_block_nothing(registered_only: TestClient) -> None:
    study = tuned(registered_only, LOST, finals=True)
    text = plain(registered_only.get(f"/studies/{study}").text)
    assert "every trial of a round failed: diverged" in section(text, "arms")
    tuning_part = section(plain(registered_only.get(f"/studies/{study}/conditions").text), "tuning")
    assert "Every trial of a round failed, so the arm has no runs." in tuning_part
    assert "Full: every trial of a round failed" in text
    answer = registered_only.get(f"/api/v1/studies/{study}/comparison").json()
    assert answer["complete"]
    assert [arm["tuning"]["failed"] for arm in answer["arms"]] == [True, False, False]
    assert "trial_steps" in answer["differed"]


@pytest.mark.slow
def test_the_page_of_a_trial_says_that_it_is_one(registered_only: TestClient) -> None:
    tuned(registered_only)
    text = plain(registered_only.get("/runs/1").text)
    trial = text[text.index('id="trial"') :]
    assert "3.33e-5" in trial[: trial.index("</p>")]
    assert 'href="/studies/1/conditions#tuning"' in trial[: trial.index("</p>")]
    assert "150 validation items" in text
    assert "On the validation split" in text
    answer = registered_only.get("/api/v1/runs/1").json()
    assert (answer["trial_round"], answer["score"], answer["validation_score"]) == (0, None, 0.85)


@pytest.mark.parametrize("ending", ["csv", "svg", "png"])
def test_the_figure_of_the_rates_has_its_files(registered_only: TestClient, ending: str) -> None:
    answer = registered_only.get(f"/studies/{tuned(registered_only)}/charts/tuning.{ending}")
    assert answer.status_code == 200
    if ending == "csv":
        lines = answer.text.splitlines()
        assert lines[0] == "arm,learning_rate,round,score,loss,trials,lost,chosen"
        assert lines[2] == "full,0.0001,0,0.89,0.61,1,0,1"


@pytest.mark.slow
def test_an_arm_is_added_by_a_form_that_names_what_is_wrong(registered_only: TestClient) -> None:
    study = tuned(registered_only)
    assert 'href="?method=lora"' in registered_only.get(f"/studies/{study}/arms/new").text
    text = plain(registered_only.get(f"/studies/{study}/arms/new?method=lora").text)
    assert "3 trials, then 3 runs" in text
    assert re.search(r'name="arms.0.method.r"\s+value="16"', text)  # the study has r = 8 already
    wrong = registered_only.post(f"/studies/{study}/arms", data=LORA_64 | {"arms.0.method.r": "0"})
    assert wrong.status_code == 422
    assert re.search(r'id="arms-0-method-r"[^>]*aria-invalid="true"', wrong.text)
    assert '<li>Rank: <a href="#arms-0-method-r">Must be 1 or more</a></li>' in wrong.text
    twice = registered_only.post(
        f"/studies/{study}/arms", data={"arms.0.method.kind": "full", "arms.0.learning_rate": "1e-4"}
    )
    assert "Two arms are named" in plain(twice.text)
    incompatibility = registered_only.post(
        f"/studies/{study}/arms", data=LORA_64 | {"arms.0.method.target_modules": "q_proj"}
    )
    assert re.search(r'id="arms-0-method-target_modules"[^>]*aria-invalid="true"', incompatibility.text)

    answer = registered_only.post(f"/studies/{study}/arms", data=LORA_64)

    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{study}")
    text = registered_only.get(f"/studies/{study}").text
    assert "LoRA r=64" in section(text, "arms")
    assert registered_only.get(f"/api/v1/studies/{study}").json()["status"] == "running"


def test_an_arm_is_stopped_by_a_button_that_only_live_arms_have(registered_only: TestClient) -> None:
    study = tuned(registered_only, finals=False)
    assert section(registered_only.get(f"/studies/{study}").text, "arms").count(">Stop<") == 3
    answer = registered_only.post(f"/studies/{study}/arms/stop", data={"arm": "head only"})
    assert answer.status_code == 303
    text = section(registered_only.get(f"/studies/{study}").text, "arms")
    assert text.count(">Stop<") == 2
    assert "stopped" in text
    assert registered_only.post(f"/studies/{study}/arms/stop", data={"arm": "head only"}).status_code == 409


def test_arms_over_http(registered_only: TestClient) -> None:
    api, study = f"/api/v1/studies/{tuned(registered_only)}", 1
    answer = registered_only.post(f"{api}/arms", json={"method": {"kind": "lora", "r": 0}})
    assert [e["path"] for e in answer.json()["errors"]] == ["method.r"]
    answer = registered_only.post(f"{api}/arms", json={"method": {"kind": "full"}, "learning_rate": 1e-4})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "name")
    answer = registered_only.post(f"{api}/arms", json={"method": {"kind": "bitfit"}, "learning_rates": [1e-5, 2e-5]})
    assert [e["path"] for e in answer.json()["errors"]] == ["search.learning_rate"]
    answer = registered_only.post(f"{api}/arms", json={"name": "a/b", "method": {"kind": "lora", "r": 4}})
    assert (answer.status_code, answer.json()["id"], len(answer.json()["trials"])) == (202, study, 12)
    assert answer.json()["spec"]["reference"] == "full"
    answer = registered_only.post(f"{api}/arms/a/b/stop")
    assert (answer.status_code, answer.json()["stopped"], answer.json()["status"]) == (202, ["a/b"], "finished")
    assert registered_only.post(f"{api}/arms/a/b/stop").status_code == 409
    assert registered_only.post(f"{api}/arms/nothing/stop").status_code == 404


def test_a_submit_answers_what_the_study_can_decide(registered_only: TestClient) -> None:
    body = {
        "name": "s", "base_model": "all-MiniLM-L6-v2", "dataset": "bbc-headlines", "margin_points": 0.5,
        "arms": [{"method": {"kind": "full"}}, {"method": {"kind": "head-only"}}], "tuning": "grid",
    }  # fmt: skip
    answer = registered_only.post("/api/v1/studies", json=body).json()
    plan, power = answer["plan"], answer["plan"]["power"]
    assert (plan["runs"], plan["trials"], plan["can_decide"]) == (6, 6, False)
    assert power["detectable_difference"] > 0.005
    assert power["enough_items"] > 646
    assert re.match(r"646 test items and 3 seeds detect a difference of about", plain(answer["warning"]))
    assert "50 % power" in plain(answer["warning"])
    one = registered_only.post("/api/v1/studies", json=body | {"seeds": [0]}).json()
    assert one["warning"].startswith("One seed gives a hint at best")
    wide = registered_only.post("/api/v1/studies", json=body | {"margin_points": 5}).json()
    assert (wide["plan"]["can_decide"], wide["warning"], wide["plan"]["power"]["enough_seeds"]) == (True, "", None)


CHOSEN = "at the configurations that their searches chose"
RIVALS = (
    "the verdict is about the configurations that the searches chose: another search could choose others, such as "
    "learning rate 3e-4 for full fine-tuning and learning rate 0.01 for head only, which the validation split cannot "
    "distinguish from the choice"
)


@pytest.mark.slow
def test_a_verdict_after_a_search_is_about_the_configurations_that_it_chose(registered_only: TestClient) -> None:
    """In the heading and the first caveat of page and report, in the list, in REST and in a comparison of the runs."""
    study = tuned(registered_only)
    for address in (f"/studies/{study}/conditions", f"/studies/{study}/report.html"):
        text = plain(registered_only.get(address).text)
        assert re.search(
            rf"<h1>LoRA r=8 is enough: it loses less than 2 points against full fine-tuning {CHOSEN}</h1>", text
        ), address
        assert "The verdict is about the configurations that the searches choose" in section(text, "tuning")
    assert "Chosen by searches" in text and "The verdict is about the configurations that the searches chose" in text
    assert CHOSEN in registered_only.get("/studies").text
    answer = registered_only.get(f"/api/v1/studies/{study}/comparison").json()
    assert all(CHOSEN in answer[field] for field in ("phrase", "headline", "summary"))
    assert all(CHOSEN in arm["verdict"]["sentence"] for arm in answer["arms"] if not arm["reference"])
    assert "about the configurations that the searches choose" in answer["search"]
    assert answer["caveats"][0] == RIVALS
    compared = registered_only.get(f"/api/v1/compare?study={study}").json()
    assert "Searches chose the configurations of full fine-tuning, LoRA r=8 and head only" in compared["lead"]
    assert CHOSEN in compared["arms"][1]["verdict"]["sentence"]


FULL = {"method": {"kind": "full"}, "search": {"learning_rate": {"low": 1e-5, "high": 1e-3}, "batch_size": [8, 16]}}
LORA = {"method": {"kind": "lora"}, "search": {"learning_rate": {"low": 2e-4, "high": 2e-2}, "r": [4, 8, 16]}}
BODY: dict[str, Any] = {
    "name": "Searched",
    "base_model": sample.SAMPLE_MODEL,
    "dataset": sample.SAMPLE_DATASET,
    "tuning": {"kind": "tpe", "budget": 6},
    "arms": [FULL, LORA],
}


def searched(session: Session, body: dict[str, Any] = BODY) -> int:
    """A study whose searches and runs have ended."""
    study = study_service.submit(session, SilentBell(), StudySpec.model_validate(body))
    while study.tuning:
        for trial in runs.trials_of(session, study.id):
            if trial.status == "queued":
                best = 4 if trial.arm == "full" else 2.7
                end_trial(session, trial, 0.9 - 0.04 * abs(log10(trial.learning_rate or 1) + best))
        tuning.advance(session, SilentBell(), study.id)
    for run in runs.of_study(session, study.id):
        if run.trial_round is None:
            filled.succeed(session, run)
    return study.id


@pytest.mark.slow
def test_page_report_rest_and_files_have_the_space_and_every_trial(registered_only: TestClient) -> None:
    with database_of(registered_only).transaction() as session:
        study = searched(session)
    for path in (f"/studies/{study}/conditions", f"/studies/{study}/report.html"):
        text = plain(registered_only.get(path).text)
        section = text[text.index('id="tuning"') :].split("</section>")[0]
        assert "TPE (Optuna): 6 trials per arm, 1 seed per configuration, the same for every arm" in section
        assert "Searched: learning rate 2e-4 to 0.02; rank 4, 8, 16." in section
        assert section.count("Used 6 of 6 trials;") == 2
        assert section.count('class="here-row"') == 2
        table = section[section.index('class="table tuning"') :]
        assert len(re.findall(r'<th scope="row">', table)) == 12
        assert "LoRA r tuned" in text
    answer = registered_only.get(f"/api/v1/studies/{study}/comparison").json()
    lora = answer["arms"][1]["tuning"]
    assert (lora["unit"], lora["budget"], lora["used"], len(lora["tried"])) == ("trials", 6, 6, 6)
    assert lora["space"]["r"]["values"] == [4, 8, 16]
    assert lora["chosen"]["r"] in (4, 8, 16)
    assert lora["chosen"] in [one["configuration"] for one in lora["tried"]]
    lines = registered_only.get(f"/studies/{study}/charts/tuning.csv").text.splitlines()
    assert lines[0] == "arm,learning_rate,batch_size,r,round,score,loss,trials,lost,chosen"
    assert len(lines) == 1 + 12
    assert registered_only.get(f"/studies/{study}/charts/tuning.svg").text.startswith("<svg")
    trial = plain(registered_only.get(f"/runs/{lora['tried'][0]['trials'][0]}").text)
    assert re.search(r"A trial of learning rate [^,]+, rank \d+\.", trial)


def test_the_form_of_a_searched_study_has_its_spaces(registered_only: TestClient) -> None:
    with database_of(registered_only).transaction() as session:
        study = searched(session)
    text = plain(registered_only.get(f"/studies/new?from_study={study}").text)
    assert re.search(r'name="arms.1.search.learning_rate"\s+value="2e-4 to 0.02"', text)
    assert re.search(r'name="arms.1.search.r"\s+value="4, 8, 16"', text)
    assert 'name="arms.0.search.r"' not in text, "full fine-tuning has no rank"
    assert re.search(r'name="tuning.budget"\s+value="6"', text)


def test_what_is_wrong_with_a_space_is_at_its_field_and_queues_nothing(registered_only: TestClient) -> None:
    form = {
        "name": "S", "base_model": sample.SAMPLE_MODEL, "dataset": sample.SAMPLE_DATASET, "seeds": "2",
        "tuning.kind": "random", "tuning.of": "random", "tuning.budget": "4", "arms.0.method.kind": "lora",
        "arms.0.search.learning_rate": "0 to 0.01",
    }  # fmt: skip
    answer = registered_only.post("/studies", data=form)
    assert answer.status_code == 422
    assert re.search(r'id="arms-0-search-learning_rate"[^>]*aria-invalid="true"', answer.text)
    assert "A logarithmic range cannot begin at 0" in plain(answer.text)
    body = BODY | {"tuning": {"kind": "tpe", "budget": 1}}
    answer = registered_only.post("/api/v1/studies", json=body)
    assert (answer.status_code, [e["path"] for e in answer.json()["errors"]]) == (422, ["tuning.budget"])
    assert registered_only.get("/api/v1/runs").json()["items"] == []


@pytest.mark.slow
def test_conditions_have_what_the_searches_chose(registered_only: TestClient) -> None:
    """Every arm chooses 32 rows and 5 epochs, the budget says 16 and 1; the warmup differs."""
    spaces = [{"batch_size": [32], "num_train_epochs": [5], "warmup_steps": [warmup]} for warmup in (10, 20)]
    arms = [
        {"method": {"kind": kind}, "search": {"learning_rate": [1e-4, 1e-3]} | space}
        for kind, space in zip(("full", "lora"), spaces, strict=True)
    ]
    body = BODY | {"tuning": {"kind": "random", "budget": 2}, "arms": arms}
    with database_of(registered_only).transaction() as session:
        before = study_service.submit(session, SilentBell(), StudySpec.model_validate(body)).id
    waiting = plain(registered_only.get(f"/studies/{before}/report.html").text)
    assert "steps by arm, batch size by arm" in waiting, "nothing is chosen yet"
    with database_of(registered_only).transaction() as session:
        study = searched(session, body)
    text = plain(registered_only.get(f"/studies/{study}/report.html").text)
    assert "5 epochs, batch size 32, max length" in text and "warmup by arm" in text
    assert "batch size 16, max length" not in text and "1 epoch," not in text
    assert "training rows, 5 epochs" in plain(registered_only.get(f"/studies/{study}").text)
