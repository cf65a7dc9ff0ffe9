"""A run that is trained again: what is queued, and what is reported about it."""

import json

import numpy as np
import pytest
import typer
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.cli.runs import reproduce as cli
from app.domain.comparison.fairness.reproduction import Reproduction
from app.domain.runs.status import RunStatus
from app.store.runs import artifacts
from app.store.runs import queries as runs
from app.store.tables import EvaluationRow, RunRow
from tests.support.filled.filled import succeed
from tests.unit.web.conftest import database_of

SUCCEEDED, QUEUED = 2, 17
ADDRESS = f"/api/v1/runs/{SUCCEEDED}/reproductions"


@pytest.fixture
def again(full: TestClient) -> int:
    """A second training of a run, queued."""
    answer = full.post(ADDRESS, params={"insist": True})
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def copy_test_scores(full: TestClient, again: int) -> None:
    """Give the second training the test scores and the weights of the first."""
    with database_of(full).transaction() as session:
        found = {}
        for run_id in (SUCCEEDED, again):
            query = select(EvaluationRow).where(EvaluationRow.run_id == run_id, EvaluationRow.split == "test")
            found[run_id] = session.scalars(query.where(EvaluationRow.subject == "adapted")).one()
        found[again].scores = found[SUCCEEDED].scores
        first = {file.name: file.sha256 for file in artifacts.of_run(session, SUCCEEDED)}
        for file in artifacts.of_run(session, again):
            file.sha256 = first[file.name]


def test_the_same_spec_seed_and_data_are_queued_as_a_run_of_its_own(full: TestClient, again: int) -> None:
    with database_of(full).reading() as session:
        first, second = runs.get(session, SUCCEEDED), runs.get(session, again)
        assert second.study_id is None and second.status == RunStatus.QUEUED
        assert (second.spec, second.seed) == (first.spec, first.seed)
        assert (second.base_model_id, second.dataset_id) == (first.base_model_id, first.dataset_id)
    assert full.get(ADDRESS).json() == [{"run_id": again, "status": "queued", "result": None}]


@pytest.mark.slow
def test_once_it_has_succeeded_it_is_judged_by_the_arms_seeds(full: TestClient, again: int) -> None:
    with database_of(full).transaction() as session:
        succeed(session, runs.get(session, again))
        first = runs.get(session, SUCCEEDED)
        arm = session.scalars(select(RunRow).where(RunRow.study_id == first.study_id, RunRow.arm == first.arm)).all()
        known, score = [run.score for run in arm], first.score
    [listed] = full.get(ADDRESS).json()
    section = full.get(f"/runs/{SUCCEEDED}").text.partition('id="reproductions"')[2].partition("</section>")[0]
    assert f'href="/runs/{again}"' in section and "3 seeds predict" in section
    result = listed["result"]
    assert (result["seeds"], result["score"]) == (3, score)
    mean, sd = np.mean(known), np.std(known, ddof=1)
    assert result["high"] - result["low"] == pytest.approx(2 * 4.302653 * sd * np.sqrt(4 / 3), rel=1e-5)
    assert (result["high"] + result["low"]) / 2 == pytest.approx(mean)
    expected = "within" if result["low"] <= result["again"] <= result["high"] else "outside"
    assert (result["outcome"], result["same_items"] < result["items"]) == (expected, True)
    copy_test_scores(full, again)
    result = full.get(ADDRESS).json()[0]["result"]
    assert (result["outcome"], result["same_weights"], result["same_items"]) == ("identical", True, result["items"])


def test_a_run_of_another_seed_is_no_reproduction(full: TestClient, again: int) -> None:
    with database_of(full).transaction() as session:
        row = runs.get(session, again)
        spec = row.spec_json | {"training": row.spec_json["training"] | {"seed": 41}}
        row.seed, row.spec_json = 41, spec
    assert full.get(ADDRESS).json() == []


def test_a_run_without_a_result_is_refused(full: TestClient) -> None:
    for method in (full.get, full.post):
        answer = method(f"/api/v1/runs/{QUEUED}/reproductions")
        assert (answer.status_code, "no score on the test split" in answer.json()["detail"]) == (409, True)
    assert full.get("/api/v1/runs/9999/reproductions").status_code == 404


def result(outcome: str, **changed: object) -> Reproduction:
    values: dict[str, object] = {
        "outcome": outcome, "score": 0.9, "again": 0.88, "seeds": 3, "low": 0.87, "high": 0.93, "items": 646,
        "same_items": 620, "delta": -0.02, "half_width": 0.011, "same_weights": False,
    }  # fmt: skip
    return Reproduction.model_validate(values | changed)


@pytest.mark.parametrize(("outcome", "code"), [("within", 0), ("outside", 1)])
def test_the_command_waits_and_its_status_tells(
    full: TestClient, outcome: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Client:
        address = "http://server"

        def __init__(self, _url: str) -> None:
            self.waited = False

        def post(self, path: str, **query: object) -> dict[str, int]:
            assert (path, query) == (f"/runs/{SUCCEEDED}/reproductions", {"insist": False})
            return {"id": 90}

        def events(self, path: str) -> list[dict[str, object]]:
            assert path == "/runs/90/events"
            self.waited = True
            return []

        def get(self, _path: str) -> list[dict[str, object]]:
            assert self.waited
            one = {"run_id": 90, "status": "succeeded", "result": result(outcome).model_dump(mode="json")}
            return [{"run_id": 80, "status": "failed", "result": None}, one]

    monkeypatch.setattr(cli, "Client", Client)
    try:
        cli.reproduce(SUCCEEDED, as_json=True)
        ended = 0
    except typer.Exit as exit_:
        ended = exit_.exit_code
    assert ended == code
    assert json.loads(capsys.readouterr().out)["result"]["outcome"] == outcome
