"""A study's page in every state, and the list of studies, by HTTP."""

import csv
import io
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.comparison.study import StudyComparison
from app.domain.failures import FailureCode
from app.domain.methods import LoraSpec
from app.domain.studies.arms import ArmSpec
from app.services.studies import studies
from app.store.studies import queries as study_queries
from app.store.tables import EstimateRow
from app.web.http.middleware import kept
from app.web.pages.studies.routes import IntervalMark
from app.web.pages.study.context import TABS
from tests.support.filled import filled
from tests.support.rows.factories import ALL, FULL, LORA, MANY, STATES, plain, seed_study
from tests.unit.web.conftest import database_of


@pytest.fixture
def client(empty: TestClient) -> TestClient:
    """A browser without JavaScript, before an application on SQLite."""
    empty.follow_redirects = True
    return empty


def study(client: TestClient, **options: Any) -> int:
    """A study in the client's database."""
    with database_of(client).transaction() as session:
        return seed_study(session, **options)


@pytest.mark.by_day
@pytest.mark.parametrize("state", STATES)
def test_the_page_answers_in_every_state(client: TestClient, state: str) -> None:
    answer = client.get(f"/studies/{study(client, **STATES[state])}")
    assert answer.status_code == 200
    assert answer.text.count("<h1>") == 1
    assert "None" not in answer.text


def test_the_verdict_is_the_heading_and_the_order_is_kept(client: TestClient) -> None:
    text = client.get(f"/studies/{study(client)}").text
    assert "<h1>LoRA r=8 is enough: it loses less than 2 points against full fine-tuning</h1>" in text
    marks = ['class="verdict"', 'class="facts"', 'class="remarks"', 'class="tabs"', 'class="tab" id="arms"']
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)


def test_each_tab_has_an_address_and_keeps_the_view(full: TestClient) -> None:
    first = full.get("/studies/1?sort=memory").text
    tabs = re.findall(r'<a id="to-(\w+)"\s+href="([^"]+)"', first[first.index('class="tabs"') :])
    names = [name for name, _href in tabs if name in TABS]
    assert names == ["arms", "costs", "errors", "weights", "conditions"], "nothing asks for causes"
    assert 'href="/studies/1/costs?sort=memory#tabs"' in first
    for name in names:
        assert kept.PATHS.fullmatch(f"/studies/1/{name}"), "the server keeps the page until something changes"
        text = full.get(f"/studies/1/{name}").text
        assert re.findall(r'class="tab"\s+id="(\w+)"', text) == [name]
        assert re.findall(r'id="to-(\w+)"[^>]*aria-current="page"', text) == [name]
    assert full.get("/studies/1/causes").status_code == 200, "an empty tab gives way to the first"


def test_best_is_shaded_also_where_it_cannot_be_told_apart(client: TestClient) -> None:
    text = client.get(f"/studies/{study(client)}").text
    accuracies = text.split('<td class="num best" data-label="Accuracy, %"><b>')
    assert [part[:4] for part in accuracies[1:3]] == ["89.5", "89.1"]


def test_what_is_drawn_is_in_the_address(client: TestClient) -> None:
    address = f"/studies/{study(client)}"
    view = "?x=time&y=loss&curve=validation"
    assert "charts/trade-off.csv?x=memory&amp;y=score" in client.get(f"{address}/costs").text
    assert "charts/curves.csv?curve=loss&amp;by=step" in client.get(address).text
    assert "charts/trade-off.csv?x=time&amp;y=loss" in client.get(f"{address}/costs{view}").text
    assert "charts/curves.csv?curve=validation&amp;by=step" in client.get(f"{address}{view}").text
    for words in ("x=money", "y=money", "sort=money", "curve=money", "by=money", "smooth=1", "smooth=nan"):
        assert client.get(f"{address}?{words}").status_code == 422


@pytest.mark.slow
def test_the_table_is_sorted_by_any_column_and_keeps_what_else_the_address_says(client: TestClient) -> None:
    failed = {("LoRA r=8", seed): FailureCode.DIVERGED for seed in (0, 1, 2)}
    address = f"/studies/{study(client, failed=failed)}"

    def order(sort: str) -> list[str]:
        rows = client.get(f"{address}?sort={sort}").text.split('class="tab" id="arms"')[1]
        return re.findall(r"</svg><span>([^<]+)</span></span><small>", rows.split("</table>")[0])

    assert order("memory") == order("trainable") == ["head only", "full", "LoRA r=8", "base model"]
    assert order("-memory") == order("-score") == ["full", "head only", "LoRA r=8", "base model"]
    assert order("arm") == ["full", "head only", "LoRA r=8", "base model"]
    assert order("") == ["full", "LoRA r=8", "head only", "base model"]
    assert "curve=validation&amp;sort=-memory#arms" in client.get(f"{address}?curve=validation&sort=memory").text
    refused = client.get(f"{address}?sort=money")
    assert refused.status_code == 422
    assert "sort: there is no &#39;money&#39;; choose from arm, score" in refused.text


def test_the_memory_table_has_each_arms_bytes_below_its_name_in_any_order(client: TestClient) -> None:
    address = f"/studies/{study(client)}"

    def columns(sort: str) -> list[tuple[str, str]]:
        section = client.get(f"{address}/costs?sort={sort}").text.split('id="memory"')[1].split("</table>")[0]
        heads = re.findall(r'<th scope="col" class="num">([^<]+)</th>', section)
        [total] = re.findall(r'<tr class="total">.*?</tr>', section, re.DOTALL)
        return list(zip(heads, re.findall(r'<td class="num">([^<]+)</td>', total), strict=True))

    assert columns("memory") == columns("") == [("full", "403.0"), ("LoRA r=8", "150.0"), ("head only", "121.0")]


def test_a_finished_study_listens_to_nothing_and_a_running_one_does(client: TestClient) -> None:
    finished = client.get(f"/studies/{study(client)}").text
    running = client.get(f"/studies/{study(client, **STATES['running'])}").text
    assert "sse-connect" not in finished
    assert 'sse-connect="/api/v1/studies/2/events?status=running&amp;done=3"' in running
    assert "3 of 9 runs done" in running
    assert '<form method="post" action="/studies/2/cancel">' in running


@pytest.mark.slow
def test_a_page_that_follows_its_study_is_loaded_again_when_that_ends(client: TestClient) -> None:
    running, finished = study(client, **STATES["running"]), study(client)
    follows = {"HX-Request": "true", "HX-Trigger": "live"}
    assert re.search(rf'id="live"\s+hidden\s+hx-get="/studies/{running}"', client.get(f"/studies/{running}").text)
    assert "HX-Refresh" not in client.get(f"/studies/{running}", headers=follows).headers
    assert client.get(f"/studies/{finished}", headers=follows).headers["HX-Refresh"] == "true"
    assert "HX-Refresh" not in client.get(f"/studies/{finished}", headers={"HX-Request": "true"}).headers, "a tab"
    progress = client.get(f"/studies/{running}/progress").text
    assert "step 153 of 246" in progress
    assert 'id="worker-state" hx-swap-oob="true"' in " ".join(progress.split())


@pytest.mark.slow
def test_ended_runs_are_folded_away_where_there_are_many(client: TestClient) -> None:
    few = client.get(f"/studies/{study(client, queued=ALL[4:])}").text
    seeds = range(5)
    many = client.get(f"/studies/{study(client, seeds=seeds, queued=[('full', seed) for seed in seeds])}").text
    assert "ended-runs" not in few
    listed, folded = many[many.index('id="progress"') :].split('<details id="ended-runs"')
    assert listed.count("runs-progress") == 1
    assert listed.count("<tr data-status") == 5
    assert folded.count("<tr data-status") == 10
    assert "10 runs that have ended" in folded


@pytest.mark.slow
def test_an_undecided_study_offers_seeds_and_the_offer_works(client: TestClient) -> None:
    study_id = study(client, luck=0.5, seed_sd=0.012)
    text = client.get(f"/studies/{study_id}").text
    lacking = int(re.findall(r"(\d+) seeds per arm instead of 3", text)[0]) - 3
    assert lacking > 2
    assert f"Add {lacking} seeds" in text  # as many as the sentence beside it says
    assert f"{3 * lacking} runs; the next verdict needs 99\N{NO-BREAK SPACE}% confidence" in text
    answer = client.post(f"/studies/{study_id}/seeds", data={"count": "2"})
    assert answer.status_code == 200
    assert answer.url.path == f"/studies/{study_id}"
    assert "9 of 15 runs done" in answer.text
    assert "Verdicts have 99\N{NO-BREAK SPACE}% confidence instead of" in answer.text


def test_a_decided_study_offers_none(client: TestClient) -> None:
    assert 'name="count"' not in client.get(f"/studies/{study(client)}").text


def test_cancel_ends_what_has_not_ended(client: TestClient) -> None:
    study_id = study(client, queued=ALL)
    assert "Cancelled before a run had ended" in client.post(f"/studies/{study_id}/cancel").text
    assert client.post(f"/studies/{study_id}/cancel").status_code == 409


@pytest.mark.slow
def test_a_lost_seed_is_named_with_its_reason_and_a_link(client: TestClient) -> None:
    text = client.get(f"/studies/{study(client, failed={('LoRA r=8', 1): FailureCode.DIVERGED})}").text
    assert '<a class="lost" id="lost-5" href="/runs/5">seed 1: diverged</a>' in text
    assert "2 of 3 seeds" in text
    assert "1 run failed: diverged" in text


@pytest.mark.slow
def test_what_differed_has_a_row_for_each_field_of_a_method_that_did(client: TestClient) -> None:
    own = LoraSpec(r=64, target_modules=["query", "value"], use_dora=True, lora_dropout=0.1)
    arms = (FULL, LORA, ArmSpec(method=own))
    text = client.get(f"/studies/{study(client, arms=arms)}/conditions").text
    rows = [" ".join(re.sub("<[^>]*>", " ", row).split()) for row in text.split("<tr>")]
    assert "r – 8 64" in rows
    assert "use_dora – no yes" in rows
    assert "lora_dropout – 0 0.1" in rows
    assert "trains every weight query, value, and the head query, value, and the head" in rows
    assert not [row for row in rows if row.startswith(("lora_alpha", "bias"))]


@pytest.mark.slow
def test_names_are_text(client: TestClient) -> None:
    arms = [arm.model_copy(update={"name": f"<b>{n}</b>"}) for n, arm in enumerate(MANY)]
    text = client.get(f"/studies/{study(client, arms=arms)}").text
    assert "<b>1</b>" not in text
    assert "&lt;b&gt;1&lt;/b&gt;" in text


def test_a_chart_that_is_not_there_is_not_found(client: TestClient) -> None:
    study_id = study(client, queued=ALL)
    assert client.get(f"/studies/{study_id}/charts/nothing.svg").status_code == 404
    assert client.get(f"/studies/{study_id}/charts/memory.png").status_code == 404
    assert client.get("/studies/99/charts/memory.png").status_code == 404
    assert client.get("/studies/99").status_code == 404


def test_the_csv_of_runs_has_a_row_a_run(client: TestClient) -> None:
    study_id = study(client, failed={("full", 0): FailureCode.OUT_OF_MEMORY})
    rows = list(csv.DictReader(io.StringIO(client.get(f"/api/v1/studies/{study_id}/tables/runs.csv").text)))
    assert len(rows) == 9
    assert rows[0]["failure"] == "out_of_memory"
    assert rows[1]["peak_bytes"] == str(403 * filled.MIB)


def test_no_name_is_a_formula_in_a_csv_and_numbers_stay_numbers(client: TestClient) -> None:
    arms = (FULL, LORA.model_copy(update={"name": '=HYPERLINK("http://x")'}))
    address = f"/studies/{study(client, arms=arms)}"
    for file in (f"/api/v1{address}/tables/runs.csv", f"{address}/charts/verdict.csv", f"{address}/charts/curves.csv"):
        text = client.get(file).text
        assert "'=HYPERLINK" in text
        assert not [cell for row in csv.reader(io.StringIO(text)) for cell in row if cell.startswith("=")]
    [row] = csv.DictReader(io.StringIO(client.get(f"{address}/charts/verdict.csv").text))
    assert float(row["difference"]) < 0


def test_baselines_stand_below_the_arms_with_their_difference_or_why_there_is_none(full: TestClient) -> None:
    text = full.get("/studies/1").text
    table = text[text.index('class="tab" id="arms"') : text.index('id="over-training"')]
    rows = [re.sub(r"<[^>]+>", " ", row) for row in table.split('<tr class="aside">')[1:]]
    assert [name in row for name, row in zip(("base model", "most frequent", "TF-IDF", "frozen"), rows, strict=True)]
    assert "23.1" in rows[1] and "not beaten" not in "".join(rows)
    assert "−10.9" in rows[2]
    assert "not computed" in rows[3] and "Frozen embeddings could not be computed. The base model" in table
    baselines = full.get("/api/v1/studies/1/comparison").json()["baselines"]
    assert [(one["kind"], one["status"], one["beaten"]) for one in baselines] == [
        ("most-frequent", "ready", True), ("tfidf", "ready", True), ("embeddings", "failed", False),
    ]  # fmt: skip
    assert baselines[1]["score"]["mean"] == pytest.approx(0.786, abs=0.01)
    assert baselines[0]["trained_rows"] == 1300
    stored = [full.get(f"/api/v1/estimates/{number}").json() for number in (1, 2, 3)]
    assert [(one["kind"], one["request"]["kind"], one["state"]) for one in stored] == [
        ("baseline", "most-frequent", "ready"), ("baseline", "tfidf", "ready"), ("baseline", "embeddings", "failed"),
    ]  # fmt: skip
    assert len(stored[1]["baseline"]["scores"]["accuracy"]) == filled.ITEMS


def test_a_baseline_that_is_not_beaten_is_the_heading(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        row = session.query(EstimateRow).where(EstimateRow.kind == "baseline").order_by(EstimateRow.id).all()[1]
        row.result_json = {**(row.result_json or {}), "scores": {"accuracy": [1.0] * filled.ITEMS}}
    headline = full.get("/api/v1/studies/1/comparison").json()["headline"]
    assert plain(headline).startswith("Fine-tuning does not help: the baseline “TF-IDF” reaches 100.0 %, full")
    assert "not beaten" in full.get("/studies/1").text


def test_the_page_of_an_ended_study_asks_again_until_its_baselines_are_computed(full: TestClient) -> None:
    asks = 'id="study" hx-get="/studies/1?sort=memory" hx-trigger="every 3s" hx-select="#study"'
    assert asks not in full.get("/studies/1?sort=memory").text
    with database_of(full).transaction() as session:
        session.query(EstimateRow).where(EstimateRow.kind == "baseline").first().status = "queued"  # type: ignore[union-attr]
    text = full.get("/studies/1?sort=memory").text
    assert asks in text and "sse-connect" not in text


def weighed(client: TestClient, study_id: int) -> StudyComparison:
    """A study's comparison."""
    with database_of(client).reading() as session:
        return studies.comparisons(session, [study_queries.get(session, study_id)])[study_id]


def test_a_family_second_arm_has_a_hollow_marker_and_its_third_a_half_filled_one(full: TestClient) -> None:
    address = re.search(r'href="(/studies/\d+)"><strong>Two ranks', full.get("/studies").text)
    assert address
    shown = full.get(address[1]).text
    assert 'class="hollow"' in shown
    assert 'class="half"' in shown


def test_a_scale_is_in_units_of_the_margin_and_never_leaves_its_box(full: TestClient) -> None:
    found = weighed(full, 1)
    assert IntervalMark.of_arm(found.reference, found.margin) is None
    for arm in found.others:
        mark = IntervalMark.of_arm(arm, found.margin)
        assert mark is not None
        assert 0 <= mark.scale.low <= mark.scale.at <= mark.scale.high <= 120
