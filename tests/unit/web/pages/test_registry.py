"""The pages of the registry: register an export on the run's page, promote it, read who did what."""

import re

import pytest
from fastapi.testclient import TestClient

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.models.exports import ExportFormat
from tests.support.filled.exports import add, gate
from tests.unit.web.conftest import database_of

SUCCEEDED = 2


def export(client: TestClient, outcome: GateOutcome, form: ExportFormat) -> str:
    """The address of the form that registers a new export."""
    delta = {GateOutcome.PASS: -0.002, GateOutcome.UNDECIDED: -0.011, GateOutcome.FAIL: -0.06}[outcome]
    with database_of(client).transaction() as session:
        number = add(session, SUCCEEDED, form, "succeeded", gate(outcome, delta, 0.014))
    return f"/runs/{SUCCEEDED}/exports/{number}/register"


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).replace("\xa0", " ")


def test_an_export_goes_from_the_run_to_champion(full: TestClient) -> None:
    assert "No registered models yet" in full.get("/registry").text
    assert 'href="/registry"' in full.get("/models").text
    address = export(full, GateOutcome.PASS, ExportFormat.MERGED_FLOAT32)
    assert f'href="{address}"' in full.get(f"/runs/{SUCCEEDED}").text
    page = full.get(address).text
    assert "Register export: Merged, float32" in words(page) and "The gate of this export is" not in page
    sent = {"name": "headlines", "stage": "candidate", "reason": "", "idempotency_key": "k"}
    for _click in range(2):
        answer = full.post(address, data=sent)
        assert (answer.status_code, answer.headers["location"]) == (303, "/registry/headlines")
    shown = words(full.get("/registry/headlines").text)
    assert "No version is the champion." in shown and "registered as candidate" in shown
    assert "headlines none" in words(full.get("/registry").text)
    answer = full.post(
        "/registry/headlines", data={"version": "1", "stage": "champion", "reason": "good", "revision": "1"}
    )
    assert answer.status_code == 303
    page = full.get("/registry/headlines").text
    assert "Version 1 is the champion." in words(page) and "candidate → champion" in words(page)
    assert 'href="/api/v1/registry/headlines/versions/1/receipt"' in page
    assert "headlines version 1" in words(full.get("/registry").text)
    run = full.get(f"/runs/{SUCCEEDED}").text
    assert '<a href="/registry/headlines">headlines 1</a>, champion' in run
    outdated = full.post("/registry/headlines", data={"version": "1", "stage": "retired", "revision": "1"})
    assert outdated.status_code == 409 and "has changed since you read it" in outdated.text


@pytest.mark.parametrize("outcome", [GateOutcome.UNDECIDED, GateOutcome.FAIL])
def test_one_that_has_not_passed_asks_for_a_reason(full: TestClient, outcome: GateOutcome) -> None:
    address = export(full, outcome, ExportFormat.MERGED_BFLOAT16)
    assert f"The gate of this export is {outcome.value}" in words(full.get(address).text)
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
