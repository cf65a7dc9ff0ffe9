"""A study as files: what stands in them, and that they agree with what the study's page rests on."""

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from app.domain.failures import FailureCode
from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as runs
from app.web.http.files import table_file
from tests.support import prediction_files
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import ITEMS, MIB, TOTAL_STEPS, add_baselines, register, three_arms
from tests.support.rows.factories import FULL, LORA, seed_study
from tests.support.rows.tuned_studies import add_tuned_study


@pytest.fixture
def api(database: Database, settings: Settings, bell: SilentBell) -> Iterator[TestClient]:
    """A client of an application that knows nothing yet."""
    app = create_app(settings)
    app.state.doorbell = bell
    with TestClient(app, base_url="http://127.0.0.1/api/v1") as client:
        yield client


@pytest.fixture
def study(database: Database) -> int:
    """A study of which one run failed."""
    with database.transaction() as session:
        return seed_study(session, failed={("full", 0): FailureCode.OUT_OF_MEMORY})


def read(api: TestClient, study: int, table: str) -> tuple[list[dict[str, str]], list[dict[str, object]]]:
    """A table as CSV and as Parquet."""
    address = f"/studies/{study}/tables/{table}"
    text, parquet = api.get(f"{address}.csv"), api.get(f"{address}.parquet")
    assert text.headers["content-type"].startswith("text/csv")
    assert f'filename="study-{study}-{table}.parquet"' in parquet.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(text.text))), pq.read_table(io.BytesIO(parquet.content)).to_pylist()


def test_the_table_of_runs_has_scores_and_costs(api: TestClient, study: int) -> None:
    text, rows = read(api, study, "runs")
    assert len(text) == len(rows) == 9
    assert (rows[0]["arm"], rows[0]["status"], rows[0]["failure"]) == ("full", "failed", "out_of_memory")
    assert rows[0]["score"] is None
    assert text[0]["score"] == text[0]["peak_bytes"] == ""
    assert rows[1]["peak_bytes"] == int(text[1]["peak_bytes"]) == 403 * MIB
    assert rows[1]["train_seconds"] == pytest.approx(float(text[1]["train_seconds"]))
    found = api.get(f"/studies/{study}/comparison").json()["arms"][1]["score"]["mean"]
    assert np.mean([row["score"] for row in rows if row["arm"] == "LoRA r=8"]) == pytest.approx(found)


def test_trials_are_in_the_table_and_marked(api: TestClient, database: Database) -> None:
    with database.transaction() as session:
        register(session)
        study = add_tuned_study(session)
    _text, rows = read(api, study, "runs")
    trials = [row for row in rows if row["trial_round"] is not None]
    judged = [row for row in rows if row["trial_round"] is None and row["arm"] == "full"]
    tried = {row["learning_rate"] for row in trials if row["arm"] == "full"}
    assert {row["score"] for row in trials} == {None}
    assert len(tried) == 3
    assert len(judged) == 3
    assert {row["learning_rate"] for row in judged} < tried


@pytest.mark.slow
def test_a_row_an_item_and_run_with_both_scores(api: TestClient, study: int, database: Database, files: Files) -> None:
    text, rows = read(api, study, "items")
    assert len(text) == len(rows) == 8 * ITEMS
    assert rows[0]["item"] is None, "no predictions file is there to name it"
    with database.transaction() as session:
        prediction_files.add_to_study(session, files, study)
    _text, rows = read(api, study, "items")
    assert [(row["position"], row["item"]) for row in rows[:2]] == [(0, "item-0"), (1, "item-1")]
    assert {row["metric"] for row in rows} == {"accuracy"}
    flips = api.get(f"/studies/{study}/flips", params={"seed": 1, "kind": "worse", "limit": 500}).json()
    score = {(row["arm"], row["seed"], row["item"]): row["score"] for row in rows}
    worse = {i for a, s, i in score if (a, s) == ("full", 1) and score[a, s, i] == 1 and score["LoRA r=8", 1, i] == 0}
    assert {item["item"] for item in flips["items"]} == worse


def test_baselines_have_rows_of_runs_and_of_items(api: TestClient, study: int, database: Database) -> None:
    with database.transaction() as session:
        add_baselines(session, three_arms())
    text, rows = read(api, study, "runs")
    found = {row["baseline"]: row for row in rows if row["baseline"]}
    assert len(rows) == 9 + len(found) and list(found) == ["most-frequent", "tfidf", "embeddings"]
    tfidf = found["tfidf"]
    assert (tfidf["arm"], tfidf["seed"], tfidf["run"], tfidf["status"]) == ("TF-IDF", None, None, "ready")
    shown = api.get(f"/studies/{study}/comparison").json()
    scores = {one["kind"]: one["score"] for one in shown["baselines"]}
    assert tfidf["score"] == tfidf["accuracy"] == pytest.approx(scores["tfidf"]["mean"])
    assert found["embeddings"]["status"] == "failed" and "15.0 GiB" in str(found["embeddings"]["failure"])
    assert text[-1]["seed"] == text[-1]["score"] == ""
    text, items = read(api, study, "items")
    own = [row for row in items if row["baseline"] == "tfidf"]
    assert len(own) == ITEMS and len(text) == len(items) == (8 + 2) * ITEMS
    assert np.mean([row["score"] for row in own]) == pytest.approx(tfidf["score"])
    assert {row["baseline"] for row in items if row["run"]} == {None}
    assert shown["best_baseline"] == "TF-IDF"
    above = {arm["title"]: arm["above_baseline"]["mean"] for arm in shown["arms"]}
    own_scores = {arm["title"]: arm["score"]["mean"] for arm in shown["arms"]}
    assert above == {title: pytest.approx(score - scores["tfidf"]["mean"]) for title, score in own_scores.items()}


def test_a_validation_score_is_that_of_the_kept_weights_of_a_run_as_of_a_trial(
    api: TestClient, study: int, database: Database
) -> None:
    with database.transaction() as session:
        run = next(r for r in runs.of_study(session, study) if r.arm == "full" and r.result)
        assert run.result is not None
        test = run.result.evaluations[-1]
        seen = {"subject": "adapted", "split": "validation"}
        later = [
            test.model_copy(update=seen | {"step": step, "metrics": {"accuracy": score}, "loss": 1 - score})
            for step, score in ((82, 0.8), (164, 0.9), (246, 0.7))
        ]
        kept = run.result.model_copy(update={"best_step": 164, "evaluations": [*later, test]})
        run.result_json, number = kept.model_dump(mode="json"), run.id
    rows = {row["run"]: row for row in read(api, study, "runs")[1]}
    assert (rows[number]["validation_score"], rows[number]["validation_loss"]) == pytest.approx((0.9, 0.1))


def test_a_row_a_step_and_run(api: TestClient, study: int, database: Database) -> None:
    text, rows = read(api, study, "steps")
    assert len(text) == len(rows) == 8 * TOTAL_STEPS
    with database.reading() as session:
        run = next(r for r in runs.of_study(session, study) if (r.arm, r.seed) == ("full", 1))
    assert {(row["arm"], row["run"]) for row in rows[:TOTAL_STEPS]} == {(run.arm, run.id)}
    assert [row["step"] for row in rows[:3]] == [1, 2, 3]
    assert float(text[0]["loss"]) == pytest.approx(rows[0]["loss"])


def test_a_study_that_has_nothing_yet_gives_heads_without_rows(api: TestClient, database: Database) -> None:
    with database.transaction() as session:
        waiting = seed_study(session, arms=(FULL, LORA), seeds=(0,), queued=[("full", 0), ("LoRA r=8", 0)])
    for table in ("items", "steps"):
        text, rows = read(api, waiting, table)
        assert text == rows == []
        assert api.get(f"/studies/{waiting}/tables/{table}.csv").text.startswith("arm,seed,run,")


def test_an_unknown_table_or_format_is_refused(api: TestClient, study: int) -> None:
    assert api.get("/studies/99/tables/runs.csv").status_code == 404
    assert api.get(f"/studies/{study}/tables/runs.xlsx").status_code == 422
    assert api.get(f"/studies/{study}/tables/secrets.csv").status_code == 422


def test_no_name_is_a_formula(api: TestClient, database: Database) -> None:
    with database.transaction() as session:
        odd = seed_study(session, arms=(FULL, LORA.model_copy(update={"name": "=1+1"})), seeds=(0,))
    text, rows = read(api, odd, "runs")
    assert [row["arm"] for row in text] == ["full", "'=1+1"]
    assert [row["arm"] for row in rows] == ["full", "=1+1"]


def test_a_long_table_goes_by_way_of_the_disk(api: TestClient, study: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(api, study, "steps")
    monkeypatch.setattr(table_file, "IN_MEMORY", 1000)
    assert read(api, study, "steps") == whole
