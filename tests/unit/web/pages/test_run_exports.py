"""The exports on a run's page: what can be exported, what a worker is writing, and what the gate says."""

import re
from html import unescape

import pytest
from fastapi.testclient import TestClient

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.models.exports import ExportFormat
from app.features.shipping.services.work import EXPORTS
from tests.support.filled.exports import add, gate
from tests.unit.web.conftest import database_of

SUCCEEDED, QUEUED = 2, 17
PASS = gate(GateOutcome.PASS, -0.002, 0.004)


def section(client: TestClient, run_id: int = SUCCEEDED) -> str:
    """The section of a run's page."""
    found = re.search(
        r'<section class="section" id="exports".*?</section>', client.get(f"/runs/{run_id}").text, re.DOTALL
    )
    return re.sub(r"\s+", " ", found[0]).replace("\xa0", " ") if found else ""


def test_a_run_with_weights_offers_every_format_with_its_size(full: TestClient) -> None:
    text = section(full)
    options = dict(re.findall(r'<option value="([\w-]+)"[^>]*>([^<]+)<', text))
    assert options.keys() == {form.value for form in ExportFormat if not form.gguf}, "it is a classifier"
    assert all(re.search(r", [\d.]+ MiB, about [\d.]+ \w+$", words) for words in options.values())
    assert "hx-trigger" not in text
    assert text.count("Vezna writes GGUF for language models") == 1, "one reason for seven formats"
    assert section(full, QUEUED) == ""


def test_exporting_queues_once_and_leads_back(full: TestClient) -> None:
    sent = {"format": "merged-bfloat16", "idempotency_key": "k"}
    for _click in range(2):
        answer = full.post(f"/runs/{SUCCEEDED}/exports", data=sent, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{SUCCEEDED}#exports")
    with database_of(full).reading() as session:
        [row] = EXPORTS.of(session, SUCCEEDED)
    text = section(full)
    assert "queued" in text and 'hx-trigger="every 2s"' in text
    assert 'value="merged-bfloat16"' not in text, "it is not offered again"
    full.post(f"/runs/{SUCCEEDED}/exports/{row.id}/cancel")
    assert "cancelled" in section(full)
    assert 'value="merged-bfloat16"' in section(full)


def test_the_fragment_shows_progress_and_stops_asking_when_it_has_ended(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        add(session, SUCCEEDED, ExportFormat.MERGED_FLOAT32, "running")
    text = full.get(f"/runs/{SUCCEEDED}/exports").text
    assert re.search(r'<progress class="progress"\s+value="0.62"', text) and "every 2s" in text
    assert "<html" not in text


def test_an_export_can_be_loaded_with_code_that_is_there_to_copy(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        add(session, SUCCEEDED, ExportFormat.MERGED_BFLOAT16, "succeeded", PASS)
        add(session, SUCCEEDED, ExportFormat.MERGED_FLOAT32, "running")
    text = full.get(f"/runs/{SUCCEEDED}").text
    assert text.count("Use Merged, bfloat16") == 1 and "Use Merged, float32" not in text
    code, *quantized = re.findall(r'<pre class="code" id="export-\d+-way-\d" tabindex="0">(.*?)</pre>', text, re.DOTALL)
    compile(unescape(code), "snippet", "exec")
    assert len(quantized) == 2 and all("BitsAndBytesConfig" in other for other in quantized)
    assert text.count("The gate has not scored this") == 2
    assert f"run-{SUCCEEDED}-merged-bfloat16" in code
    assert full.get("/static/js/copy.js").status_code == 200 and "copy.js" in text


@pytest.mark.parametrize("action", ["cancel", "delete"])
def test_another_runs_export_is_not_found(full: TestClient, action: str) -> None:
    with database_of(full).transaction() as session:
        export_id = add(session, SUCCEEDED, ExportFormat.MERGED_FLOAT32, "running")
    assert full.post(f"/runs/{QUEUED}/exports/{export_id}/{action}").status_code == 404
    with database_of(full).reading() as session:
        assert EXPORTS.get(session, export_id).status == "running"
