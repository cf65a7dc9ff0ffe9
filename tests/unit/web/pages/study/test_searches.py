"""Pages of studies that searched several hyperparameters, by HTTP."""

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
from tests.support.rows.tuned_studies import end_trial
from tests.unit.web.conftest import database_of

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
    for path in (f"/studies/{study}", f"/studies/{study}/report.html"):
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
