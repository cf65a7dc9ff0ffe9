"""Flips over HTTP: counts from scores, items from predictions files, whole, missing and spoilt."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.main import create_app
from app.services.comparison import flips
from app.services.runs import predictions
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as runs
from tests.support import prediction_files
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import LABELS
from tests.support.rows.factories import seed_study

WORST = "LoRA r=8"


@pytest.fixture
def api(
    database: Database, settings: Settings, bell: SilentBell, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """A client of an application that knows nothing yet, and has read no file."""
    monkeypatch.setattr(predictions, "CACHE", predictions.Cache())
    app = create_app(settings)
    app.state.doorbell = bell
    with TestClient(app, base_url="http://127.0.0.1/api/v1") as client:
        yield client


@pytest.fixture
def study(api: TestClient, database: Database, files: Files) -> int:
    """A finished study with predictions."""
    with database.transaction() as session:
        found = seed_study(session)
        prediction_files.add_to_study(session, files, found)
    return found


def get(api: TestClient, study: int, **asked: Any) -> dict[str, Any]:
    """The flips asked for."""
    answer = api.get(f"/studies/{study}/flips", params=asked)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def run_ids(session: Session, study: int) -> list[int]:
    return [run.id for run in runs.of_study(session, study)]


def test_items_have_texts_labels_and_everybodys_answers(api: TestClient, study: int) -> None:
    found = get(api, study, limit=5)
    assert (found["arm"], found["kind"], found["seed"], found["mcnemar"]) == (WORST, "worse", None, None)
    assert "more than half of its 3 seeds" in found["rule"]
    assert found["total"] == found["counts"][WORST]["worse"]
    first = found["items"][0]
    assert first["item"] == f"item-{first['position']}"
    assert first["text"] == prediction_files.headline(first["position"])
    assert first["label"] == LABELS[first["position"] % 5]
    assert first["reference"]["label"] == first["label"] != first["arm"]["label"]
    assert first["reference"]["right"] > 1.5 > first["arm"]["right"]
    assert 0 < first["arm"]["probability_of_true_label"] < first["reference"]["probability_of_true_label"]
    assert found["unread"] == []


@pytest.mark.slow
def test_pages_follow_each_other_and_hold_every_item_once(api: TestClient, study: int) -> None:
    positions: list[int] = []
    after: int | None = None
    while True:
        page = get(api, study, kind="gained", limit=100, **({} if after is None else {"after": after}))
        positions += [item["position"] for item in page["items"]]
        after = page["next_after"]
        assert page["has_more"] == (after is not None)
        if after is None:
            break
    assert positions == sorted(set(positions))
    assert len(positions) == page["total"] == page["counts"][WORST]["gained"]


def test_slices_add_up_to_the_whole(api: TestClient, study: int) -> None:
    whole = get(api, study, kind="any", limit=1)["total"]
    assert whole == 646
    for name, choices in (("label", LABELS), ("length", range(1, 5)), ("sure", range(1, 5))):
        parts = [get(api, study, kind="any", limit=1, **{name: choice})["total"] for choice in choices]
        assert sum(parts) == whole, name
        assert min(parts) > 0, name
    shortest = get(api, study, kind="any", length=1, limit=500)["items"]
    longest = get(api, study, kind="any", length=4, limit=500)["items"]
    assert max(len(item["text"]) for item in shortest) < min(len(item["text"]) for item in longest)


def test_words_are_looked_for_in_the_text_whatever_their_capitals(api: TestClient, study: int) -> None:
    found = get(api, study, kind="any", q="  GOALkeeper ", limit=500)
    assert 0 < found["total"] < 646
    assert all("goalkeeper" in item["text"] for item in found["items"])
    assert get(api, study, kind="any", q="50% of (no such thing")["total"] == 0


def test_one_seed_has_its_own_counts_and_mcnemars_p(api: TestClient, study: int) -> None:
    found = get(api, study, seed=1)
    assert found["rule"].startswith("Seed 1 alone")
    assert 0 < found["mcnemar"] <= 1
    assert found["items"][0]["arm"]["seeds"] == 1


def test_the_reference_is_not_held_against_itself(api: TestClient, study: int) -> None:
    found = get(api, study, arm="full")
    assert found["kind"] == "gained"
    assert found["total"] > 0
    assert found["counts"]["full"]["worse"] is None
    assert get(api, study, arm="full", kind="worse")["total"] == 0


@pytest.mark.parametrize(
    ("asked", "path", "says"),
    [
        ({"arm": "nope"}, "arm", "The study has no arm 'nope'"),
        ({"seed": 9}, "seed", "The study has no seed 9"),
        ({"label": "weather"}, "label", "No item has the label 'weather'"),
        ({"kind": "nope"}, "kind", "Must be one of"),
        ({"length": 5}, "length", "Must be 4 or less"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_field(
    api: TestClient, study: int, asked: dict[str, Any], path: str, says: str
) -> None:
    answer = api.get(f"/studies/{study}/flips", params=asked)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["path"] == path
    assert says in error["message"]
    assert error["remedy"] or error["message"].startswith("Must")


def test_a_study_that_is_not_there_is_not_found(api: TestClient) -> None:
    assert api.get("/studies/999/flips").status_code == 404


def test_a_study_without_results_has_no_counts(api: TestClient, database: Database) -> None:
    with database.transaction() as session:
        waiting = seed_study(session, queued=[(arm, s) for arm in ("full", WORST, "head only") for s in (0, 1, 2)])
    found = get(api, waiting)
    assert found["counts"] == {}
    assert found["items"] == []


def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on(
    api: TestClient, study: int, database: Database, files: Files
) -> None:
    with database.transaction() as session:
        full_0, lora_0, _head, full_1 = (runs.get(session, run) for run in run_ids(session, study)[:4])
        files.remove(f"runs/{full_0.id}")
        prediction_files.store_bytes(session, files, lora_0, b"no parquet at all")
        base, other = np.zeros(646), np.ones(646)
        names = prediction_files.labelled(base, other).column("item").to_pylist()
        table = prediction_files.labelled(base, other)
        shuffled = table.set_column(0, "item", pa.array(names[::-1]))
        prediction_files.store(session, files, full_1, shuffled)
        missing, spoilt, strange = full_0.id, lora_0.id, full_1.id
    found = get(api, study)
    why = {trouble["run_id"]: trouble["why"] for trouble in found["unread"]}
    assert set(why) == {missing, spoilt, strange}
    assert "no longer in the store" in why[missing]
    assert "not a valid file of predictions" in why[spoilt]
    assert "other items than its scores" in why[strange]
    assert found["items"][0]["text"].startswith(tuple(prediction_files.SUBJECTS))
    assert found["items"][0]["arm"]["seeds"] == 3


def test_without_any_file_there_are_counts_and_no_items(api: TestClient, database: Database) -> None:
    with database.transaction() as session:
        bare = seed_study(session)
    found = get(api, bare)
    assert found["counts"][WORST]["worse"] > 0
    assert found["items"] == []
    assert len(found["unread"]) == 6


def test_tagged_items_have_no_label_to_filter_by() -> None:
    tagged = predictions.Predictions(pa.table({"item": ["a"], "text": ["Ada"]}), ("B-PER", "O"), "")
    with pytest.raises(Invalid, match="No item has the label"):
        flips._index(tagged, "B-PER")


def test_generated_texts_are_shown_with_their_metrics(api: TestClient, database: Database, files: Files) -> None:
    with database.transaction() as session:
        found = seed_study(session, seeds=(0,))
        for run in runs.of_study(session, found):
            scores = np.linspace(0, 1, 646)
            prediction_files.store(session, files, run, prediction_files.generated(scores, scores, "rouge_l"))
    item = get(api, found, kind="any", limit=3)["items"][2]
    assert item["label"] is None
    assert item["target"] == prediction_files.headline(2)
    assert item["text"].startswith("Article 2:")
    assert item["arm"]["text"] is not None
    assert set(item["arm"]["text_metrics"]) == {"rouge_l", "exact_match"}
    assert item["arm"]["text_seed"] == 0


def test_of_a_large_file_the_first_rows_are_listed(
    api: TestClient, study: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MOST_ROWS", 300)
    found = get(api, study, kind="any", limit=500)
    assert found["total"] == len(found["items"]) == predictions.BATCH
    assert found["counts"][WORST]["any"] == 646


def test_what_was_read_is_kept_up_to_so_many_bytes() -> None:
    table = pa.table({"item": [f"item-{n}" for n in range(100)]})
    kept = predictions.Cache(most=2 * table.nbytes)
    read: list[str] = []

    def reader(name: str) -> predictions.Predictions:
        read.append(name)
        return predictions.Predictions(table, (), name)

    for name in ("a", "b", "a", "c", "a", "b"):
        kept.get(name, lambda name=name: reader(name))  # type: ignore[misc]
    assert read == ["a", "b", "c", "b"]
