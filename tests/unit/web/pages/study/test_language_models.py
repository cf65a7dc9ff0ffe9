"""Studies of language models: every page takes the metric's own words, and shows what was forgotten."""

import csv
import io
import re

import pytest
from fastapi.testclient import TestClient

from app.cli.terminal.comparison import remarks
from app.domain.comparison.study import StudyComparison
from app.domain.tasks import METRICS
from app.services.studies import studies as study_service
from app.settings import Settings
from app.web.figures.figure import Figure
from app.web.figures.studies.study import FIGURES, StudyData, study_figure
from app.web.figures.studies.view import USUAL, ViewParams
from app.words.verdict.caveats import caveats
from tests.support.filled.judged import add_judgements
from tests.support.rows.factories import plain
from tests.unit.web.conftest import database_of, page_words

CAUSAL, SEQ2SEQ = 5, 6
STOPPED, RESUMED, RUNNING, HANDED_BACK = 43, 46, 54, 55
"""Runs of `tests.support.filled.language`."""


def rows(client: TestClient, address: str) -> list[str]:
    """The rows of a page's tables, as one reads them."""
    parts = re.split(r"<tr[^>]*>", client.get(address).text)
    return [plain(" ".join(re.sub(r"<[^>]*>", " ", part.split("</tr>")[0]).split())) for part in parts[1:]]


def weighed(client: TestClient, study_id: int) -> StudyComparison:
    with database_of(client).reading() as session:
        return study_service.comparison(session, study_id)


def figures(client: TestClient, study_id: int) -> dict[str, Figure]:
    with database_of(client).reading() as session:
        data = StudyData(session, Settings(), study_id)
        return {name: study_figure(data, USUAL, name) for name in FIGURES}


def validation(client: TestClient, study_id: int) -> Figure:
    """A study's curves of validation."""
    with database_of(client).reading() as session:
        return study_figure(StudyData(session, Settings(), study_id), ViewParams(curve="validation"), "curves")


@pytest.mark.slow
def test_the_newest_scores_of_a_judge_stand_beside_the_arms_in_page_report_and_api(with_language: TestClient) -> None:
    address = f"/studies/{CAUSAL}"
    assert 'id="judge"' not in with_language.get(address).text
    assert with_language.get(f"/api/v1{address}/comparison").json()["judged"] == []
    with database_of(with_language).transaction() as session:
        add_judgements(session, CAUSAL)
    full, lora, qlora, prompt = with_language.get(f"/api/v1{address}/comparison").json()["judged"]
    assert (full["arm"], full["delta"], full["seeds"]) == ("full", None, 3)
    assert lora["low"] < lora["delta"] < lora["high"] and lora["error"]["rated"] == 58
    assert qlora["error"] is None and (qlora["verdict"], prompt["verdict"]) == ("undecided", "worse")
    for page in (address, f"{address}/report.html"):
        text = page_words(with_language, page)
        assert "Scores of the answers by judge" in text and "on 20 of 58 rated items; corrected by +6.9 points" in text
        assert "The judge's error is unknown for QLoRA r=16, prompt tuning n=20." in text
    again = page_words(with_language, f"{address}/judge")
    assert "Judgement 1 by judge" in again and "knows no model other" in again and "running" in again


@pytest.mark.parametrize(("study_id", "title"), [(1, "accuracy"), (CAUSAL, "token accuracy"), (SEQ2SEQ, "ROUGE-L")])
def test_a_study_speaks_of_its_metric_and_of_no_other(with_language: TestClient, study_id: int, title: str) -> None:
    text = page_words(with_language, f"/studies/{study_id}?curve=validation").lower()
    assert f"difference in {title.lower()} from full, points" in text
    others = {facts.title.lower() for facts in METRICS.values()} - {title.lower()}
    if title == "token accuracy":
        text = text.replace(title, "")
    assert [other for other in others if other in text] == []
    drawn = figures(with_language, study_id)
    assert plain(drawn["trade-off"].label).lower().startswith(f"{title.lower()} by peak memory")
    assert drawn["trade-off"].table.columns[1].heading == title


def test_what_was_forgotten_has_a_column_where_it_was_measured(with_language: TestClient) -> None:
    text = with_language.get(f"/studies/{CAUSAL}").text
    assert "Forgetting</a><span>nats/token</span>" in text
    found = {arm.title: arm.forgetting for arm in weighed(with_language, CAUSAL).arms}
    assert found["full"] and found["full"].mean == pytest.approx(0.311, abs=0.005)
    marked = re.findall(r'<td class="num( best)?" data-label="Forgetting, nats/token"><b>([+−]0\.\d{3})</b></td>', text)
    assert [sign for _best, value in marked for sign in value[:1]] == ["+", "+", "+", "−"]
    assert [bool(best) for best, _value in marked] == [False, False, False, True]
    assert "Forgetting" not in with_language.get("/studies/1").text


def test_the_number_format_of_frozen_weights_forbids_no_comparison(with_language: TestClient) -> None:
    found = weighed(with_language, CAUSAL)
    assert {r.result.environment.frozen_dtype for r in found.runs if r.result} == {"float32", "bfloat16", "nf4"}
    assert found.memory_comparable
    assert "only the method and its learning rate differ" in [c.text for c in caveats(found)]
    assert "frozen weights – bfloat16 nf4 bfloat16" in rows(with_language, f"/studies/{CAUSAL}/conditions")
    assert not [row for row in rows(with_language, "/studies/1/conditions") if row.startswith("frozen weights")]


def test_the_csv_of_runs_has_every_metric(with_language: TestClient) -> None:
    found = list(csv.DictReader(io.StringIO(with_language.get(f"/api/v1/studies/{CAUSAL}/tables/runs.csv").text)))
    assert {row["metric"] for row in found} == {"token_accuracy"}
    for row in [row for row in found if row["status"] != "not_applicable"]:
        assert float(row["score"]) == pytest.approx(float(row["token_accuracy"]), abs=1e-6)
        assert row["baseline"] or 0 < float(row["rouge_l"]) < 1 < float(row["perplexity"])
    assert "zero-shot" in {row["baseline"] for row in found}
    assert float(found[0]["forgetting"]) > 0.3
    classifier = list(csv.DictReader(io.StringIO(with_language.get("/api/v1/studies/1/tables/runs.csv").text)))
    assert "macro_f1" in classifier[0] and "rouge_l" not in classifier[0]
    assert classifier[0]["forgetting"] == ""


@pytest.mark.parametrize(
    ("study_id", "why"),
    [(CAUSAL, "token accuracy scores no generated text"), (SEQ2SEQ, "only causal language models have it")],
)
def test_a_baseline_that_does_not_apply_has_a_reason(with_language: TestClient, study_id: int, why: str) -> None:
    assert f"few-shot not applicable: {why} – –" in rows(with_language, f"/studies/{study_id}")
    assert f"not applicable: {why}" in page_words(with_language, f"/studies/{study_id}/report.html")
    answer = with_language.get(f"/api/v1/studies/{study_id}/comparison").json()
    [few_shot] = [known for known in answer["baselines"] if known["kind"] == "few-shot"]
    assert (few_shot["status"], few_shot["message"], few_shot["score"]) == ("not_applicable", why, None)
    assert f"- few-shot, not applicable: {why}" in list(remarks(answer))
    runs = csv.DictReader(io.StringIO(with_language.get(f"/api/v1/studies/{study_id}/tables/runs.csv").text))
    [row] = [row for row in runs if row["baseline"] == "few-shot"]
    assert (row["status"], row["failure"], row["score"]) == ("not_applicable", why, "")
