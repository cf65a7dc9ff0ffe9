"""A run's page: live, succeeded and failed; its actions and its exports."""

import json
import re
from datetime import timedelta
from html import unescape

import pytest
import yaml
from fastapi.testclient import TestClient

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.failures import FAILURES, FailureCode
from app.domain.models.exports import ExportFormat
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.features.shipping.services.work import EXPORTS
from app.store.runs import queries as runs
from app.store.tables import now
from app.web.pages.run.live import RunLive
from tests.support.filled.exports import add, gate
from tests.unit.web.conftest import database_of

SUCCEEDED, RUNNING, QUEUED, FAILED, CANCELLED = 2, 16, 17, 25, 30


def spec_of(client: TestClient, run_id: int) -> RunSpec:
    """What was asked for."""
    with database_of(client).reading() as session:
        return runs.get(session, run_id).spec


def shown_spec(text: str) -> str:
    """The spec as the page shows it."""
    found = re.search(r'<pre class="code" id="spec"[^>]*>(.*?)</pre>', text, re.DOTALL)
    assert found
    return found[1].replace("&#34;", '"').replace("&#39;", "'")


def test_a_succeeded_run_says_first_what_it_reached(full: TestClient) -> None:
    text = full.get(f"/runs/{SUCCEEDED}").text
    heading = re.search("<h1>(.*)</h1>", text)
    assert heading
    assert re.fullmatch(r"Run 2: LoRA r=8 gets 89\.\d\xa0% right, the base model 29\.\d\xa0%", heading[1])
    for words in ("of 646 test items", "95 % interval", "Freeze audit passed", "adapter.safetensors", "peak", "150.0"):
        assert words in text
    assert re.search(r'href="/api/v1/artifacts/\d+/content"', text)
    assert "sse-connect" not in text
    assert "/cancel" not in text


def test_clocks_sum_to_the_attempt(full: TestClient) -> None:
    text = full.get(f"/runs/{SUCCEEDED}").text.split('aria-label="Clocks"')[1].split("</table>")[0]
    numbers = [float(n) for n in re.findall(r'</th>\s*<td class="num">([\d.]+)</td>', text)]
    assert sum(numbers[:-1]) == pytest.approx(numbers[-1], rel=0.02)


@pytest.mark.slow
def test_a_run_that_downloads_its_model_shows_how_far_it_is(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        run = runs.get(session, RUNNING)
        run.phase, run.step, run.total_steps = "download", 0, None
        run.downloaded_bytes, run.download_bytes = 3 << 29, 4 << 30
        study = run.study_id
    text = full.get(f"/runs/{RUNNING}").text
    assert "Downloading the base model, 1.5\xa0GiB of 4.0\xa0GiB" in text
    assert f'value="{3 << 29}" max="{4 << 30}" aria-label="Download"' in text
    assert re.search(r'<li aria-current="step">download<', text)
    assert "download 37.5\xa0%" in full.get(f"/studies/{study}").text
    answer = full.get(f"/api/v1/runs/{RUNNING}").json()
    assert (answer["downloaded_bytes"], answer["download_bytes"]) == (3 << 29, 4 << 30)


@pytest.mark.parametrize("written", ["yaml", "json"])
def test_the_spec_can_be_sent_again_as_it_is_shown(full: TestClient, written: str) -> None:
    text = shown_spec(full.get(f"/runs/{SUCCEEDED}?spec={written}").text)
    read = yaml.safe_load(text) if written == "yaml" else json.loads(text)
    assert RunSpec.model_validate(read) == spec_of(full, SUCCEEDED)


def test_the_curl_command_names_this_server(full: TestClient) -> None:
    assert "curl -X POST http://testserver/api/v1/runs" in shown_spec(full.get(f"/runs/{SUCCEEDED}?spec=curl").text)


def test_a_running_run_is_followed(full: TestClient) -> None:
    text = full.get(f"/runs/{RUNNING}").text
    assert f'sse-connect="/api/v1/runs/{RUNNING}/events?status=running"' in text
    assert "step 153 of 246" in text
    assert "epoch 2 of 3" in text
    assert "of training left" in text
    assert re.search(r'<li aria-current="step">train<small>\d', text)
    update = " ".join(full.get(f"/runs/{RUNNING}/live").text.split())
    assert 'id="byline" hx-swap-oob="true"' in update
    assert 'id="worker-state" hx-swap-oob="true"' in update
    assert "<svg" in full.get(f"/runs/{RUNNING}/figures").text


def test_the_live_part_of_an_ended_run_asks_for_the_page(full: TestClient) -> None:
    assert full.get(f"/runs/{SUCCEEDED}/live").headers["hx-refresh"] == "true"


def test_a_failed_run_says_its_code_and_what_to_do(full: TestClient) -> None:
    text = full.get(f"/runs/{FAILED}").text
    assert "<h1>Run 25 failed: out of memory</h1>" in text
    assert FAILURES[FailureCode.OUT_OF_MEMORY] in text
    assert "Code: out_of_memory" in text
    assert f'action="/runs/{FAILED}/clone"' in text


def test_run_again_queues_the_same_spec_on_its_own(full: TestClient) -> None:
    answer = full.post(f"/runs/{FAILED}/clone")
    assert answer.status_code == 303
    new = int(answer.headers["location"].removeprefix("/runs/"))
    assert spec_of(full, new) == spec_of(full, FAILED)
    with database_of(full).reading() as session:
        assert runs.get(session, new).study_id is None


def test_a_queued_run_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(full: TestClient) -> None:
    assert full.post(f"/runs/{QUEUED}/cancel").status_code == 303
    assert "was cancelled" in full.get(f"/runs/{QUEUED}").text
    assert full.post(f"/runs/{RUNNING}/cancel").status_code == 303
    assert "Cancelling" in full.get(f"/runs/{RUNNING}").text


def test_an_ended_run_is_not_cancelled(full: TestClient) -> None:
    answer = full.post(f"/runs/{CANCELLED}/cancel")
    assert answer.status_code == 409
    assert "<h1>" in answer.text


def test_a_run_that_begins_again_counts_only_its_own_attempt(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        run = runs.get(session, RUNNING)
        run.started_at = now() - timedelta(seconds=5)
        run.phase, run.epoch = None, 2
        live = RunLive(run, [], None)
        _names, states, seconds = zip(*live.phases, strict=True)
    assert list(states) == ["done", "current", *["ahead"] * 6]
    assert seconds[1] == pytest.approx(5, abs=1)
    assert RunStatus(run.status) is RunStatus.RUNNING


def test_a_result_without_a_confusion_matrix_has_a_page(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        run = runs.get(session, 2)
        run.result_json = (run.result_json or {}) | {"confusion": None}
    page = full.get("/runs/2")
    assert page.status_code == 200
    assert 'id="confusion-csv"' not in page.text


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
