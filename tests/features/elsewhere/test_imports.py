"""Imported results, brought in by API and by page: once, whole, and in nobody's verdict."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from app.domain.data.item_names import copy_name
from app.domain.errors import Conflict, Invalid
from app.domain.runs.listing.filters import parse
from app.features.elsewhere.rules import MOST_AT_ONCE, MOST_FILES, MOST_RESULTS, NamedText
from app.features.elsewhere.services import imports
from app.services.runs import runs as run_service
from app.store.database.session import Database
from app.store.runs import evaluations
from app.store.runs import groups as run_groups
from app.store.runs import listing as run_list
from app.store.runs.listing import Order
from app.store.studies import collections
from app.store.tables import CollectionRow, RunRow
from tests.support.rows.imported_results import as_file, peft_files, result

ITEMS = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}


def bring(database: Database, *files: NamedText, collection: str = "others") -> imports.ImportReport:
    """Import files."""
    with database.transaction() as session:
        return imports.add_results(session, imports.read_files(files), collection)


def count(database: Database) -> int:
    """How many runs there are."""
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(RunRow)) or 0


def test_a_result_becomes_a_run_that_is_marked_as_imported(database: Database) -> None:
    found = bring(database, as_file(result(learning_rate=1e-3, tokens=2800, trainable_parameters=10)))
    with database.reading() as session:
        run = session.get_one(RunRow, found.added[0])
        assert (run.imported, run.study_id, run.base_model_id, run.dataset_id) == (True, None, None, None)
        assert (run.status, run.arm, run.family, run.score, run.peak_bytes) == (
            "succeeded", "LoRA r=8", "lora", 0.75, 150 * 2**20
        )  # fmt: skip
        assert (run.tokens_per_second, run.device_name, run.learning_rate) == (100.0, "NVIDIA L4", 1e-3)
        assert run.imported_result and run.imported_result.items == 400
        with pytest.raises(Conflict, match=r"was imported\. It has a result, but no spec"):
            _ = run.spec


def test_groups_of_imported_items_are_clusters_and_count_for_their_identity(database: Database) -> None:
    grouped = result(items=None, item_scores=ITEMS, item_groups={"a": "user 1", "c": "user 1"})
    found = bring(database, as_file(result(items=None, item_scores=ITEMS)), as_file(grouped))
    assert len(found.added) == 2
    with database.reading() as session:
        scores = evaluations.test_scores(session, found.added)
        stored = [session.get_one(RunRow, run).imported_result for run in found.added]
    plain, clustered = (scores[run, "adapted"].clusters for run in found.added)
    assert plain is None and clustered is not None and clustered.ids.tolist() == [0, 1, 0, 2]
    assert all(one and one.item_groups is None for one in stored)


def test_groups_that_contradict_another_result_are_refused(database: Database) -> None:
    groups = [{"a": "1", "c": "1"}, {"a": "1", "b": "1"}]
    results = [
        result(label=f"LoRA {n}", items=None, item_scores=ITEMS, item_groups=own) for n, own in enumerate(groups)
    ]
    with pytest.raises(Invalid, match="test items of LoRA 1 are not those of run 1"):
        bring(database, as_file(*results))
    assert count(database) == 0
    bring(database, as_file(results[0]))
    with pytest.raises(Invalid, match="Give the same item_groups"):
        bring(database, as_file(results[1]))
    assert len(bring(database, as_file(results[1]), collection="another").added) == 1


def test_scores_of_items_are_kept_as_those_of_our_own_runs(database: Database) -> None:
    found = bring(database, as_file(result(items=None, item_scores=ITEMS)))
    with database.reading() as session:
        scores = evaluations.test_scores(session, found.added)
        run = session.get_one(RunRow, found.added[0])
    assert scores[found.added[0], "adapted"].scores.tolist() == [1, 0, 1, 1]
    assert run.imported_result and (run.imported_result.items, run.imported_result.item_scores) == (4, None)


def test_items_with_equal_inputs_are_stored_as_one_cluster(database: Database) -> None:
    names = [copy_name("0123456789abcdef", before) for before in range(3)]
    found = bring(
        database, as_file(result(items=None, item_scores=dict(zip([*names, "other"], ITEMS.values(), strict=True))))
    )
    with database.reading() as session:
        clusters = evaluations.test_scores(session, found.added)[found.added[0], "adapted"].clusters
    assert clusters is not None
    assert clusters.ids.tolist() == [0, 0, 0, 1]


def test_the_same_file_twice_adds_nothing(database: Database) -> None:
    first = bring(database, *peft_files())
    again = bring(database, *peft_files(), as_file(result()))
    assert (len(first.added), first.known) == (5, [])
    assert (len(again.added), again.known) == (1, first.added)
    assert count(database) == 6
    twice = bring(database, as_file(result()), as_file(result(), name="copy.json"), collection="fresh")
    assert (len(twice.added), twice.known) == (1, twice.added)


def test_two_that_bring_the_same_into_a_new_collection_at_once_add_each_result_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, look = Barrier(2), collections.by_name

    def seen_by_both(session: Session, name: str, *, lock: bool = False) -> CollectionRow | None:
        """Neither goes on before the other has seen that there is none. SQLite lets only one look at a time."""
        row = look(session, name, lock=lock)
        if row is None:
            with suppress(BrokenBarrierError):
                both.wait(0.5 if database.engine.dialect.name == "sqlite" else 20)
        return row

    monkeypatch.setattr(collections, "by_name", seen_by_both)
    files = [as_file(*(result(seed=seed) for seed in range(20))), *peft_files()]
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda order: bring(database, *files[::order]), (1, -1))
    assert sorted(map(len, (one.added, other.added))) == [0, 25]
    assert sorted(map(len, (one.known, other.known))) == [0, 25]
    assert {*one.added, *one.known} == {*other.added, *other.known}
    with database.reading() as session:
        assert [stock.runs for stock in collections.everyone(session)] == [25]


def test_invalid_files_are_refused_completely_and_the_others_imported(database: Database) -> None:
    bad = (
        NamedText("../broken.json", "{"),
        as_file(result(), result(score=47), name="half.json"),
        NamedText("empty.json", b""),
    )
    found = bring(database, *bad, as_file(result(seed=3)))
    assert [(one.file, one.place) for one in found.refused] == [("broken.json", 0), ("half.json", 1), ("empty.json", 2)]
    assert (len(found.added), count(database)) == (1, 1)


def test_no_collection_is_created_without_a_valid_file(database: Database) -> None:
    assert bring(database, NamedText("x.json", "{}")).collection is None
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(CollectionRow)) == 0


def test_no_file_and_too_many_are_refused(database: Database) -> None:
    with pytest.raises(Invalid, match="No file was sent"):
        bring(database)
    with pytest.raises(Invalid, match=f"{MOST_FILES + 1} files are too many"):
        bring(database, *[as_file(result())] * (MOST_FILES + 1))
    assert count(database) == 0


def test_more_results_than_a_transaction_may_write_are_refused(database: Database) -> None:
    full = as_file(*(result(seed=seed) for seed in range(MOST_RESULTS)))
    files = [full] * (MOST_AT_ONCE // MOST_RESULTS)
    with pytest.raises(Invalid, match=f"There are more than {MOST_AT_ONCE} results"):
        bring(database, *files, as_file(result()))
    assert count(database) == 0
    assert len(imports.read_files(files).results) == MOST_AT_ONCE


def test_many_results_are_written_with_a_few_statements_and_keep_their_order(database: Database) -> None:
    """Row by row, 5,000 hold SQLite's lock for seconds, and the heartbeats of runs wait."""
    texts = [as_file(*(result(label=f"r={file}", seed=file * 1000 + n) for n in range(700))) for file in range(3)]
    looked_at = imports.read_files([*texts, as_file(result(label="r=0", seed=0))])
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    with database.transaction() as session:
        found = imports.add_results(session, looked_at, "others")
    assert len(found.added) == 2100
    assert found.added == sorted(found.added)
    assert found.known == found.added[:1]
    assert len(statements) < 30
    with database.reading() as session:
        seeds = session.scalars(select(RunRow.seed).order_by(RunRow.id))
        assert list(seeds) == [file * 1000 + n for file in range(3) for n in range(700)]
        assert collections.run_ids(session, 1, limit=9999) == found.added
        run = session.get_one(RunRow, found.added[-1])
        assert (run.family, run.task, run.rank, run.status, run.step) == ("lora", "", None, "succeeded", 0)
        groups = session.execute(select(RunRow.arm, func.count(RunRow.group_key.distinct())).group_by(RunRow.arm))
        assert sorted(groups) == [("r=0", 1), ("r=1", 1), ("r=2", 1)]
        assert session.scalar(select(func.count(RunRow.group_key.distinct()))) == 3


def test_it_is_listed_and_sorted_among_the_others(database: Database) -> None:
    found = bring(database, as_file(result(score=0.5), result(score=0.7)))
    with database.reading() as session:
        page = run_list.page(session, parse("imported"), order=Order("score", True), fields=("model", "collection"))
    assert [run.id for run in page.rows] == found.added[::-1]
    assert {(run.values["model"], run.values["collection"]) for run in page.rows} == {(None, "others")}


def test_imported_runs_are_filtered_by_the_fields_of_their_files(database: Database) -> None:
    found = bring(database, as_file(*(result(base_model="Llama 3", dataset="GSM8K", seed=s) for s in (0, 1))))
    with database.reading() as session:
        for text in ('model = "Llama 3"', 'data ~ gsm and collection = "others"', "imported and not trial"):
            assert run_list.count(session, parse(text)) == 2
        assert run_list.count(session, parse('model != "Llama 3"')) == 0
        (group,) = run_groups.page(session, None, order=Order("score", True), fields=("score", "model")).rows
    assert list(group.runs) == found.added
    assert group.first.values["model"] == "Llama 3"


def test_a_verdict_of_a_study_and_the_past_of_a_model_do_not_have_it(registered: Database) -> None:
    found = bring(registered, as_file(result(base_model="tiny", dataset="small")))
    with registered.reading() as session:
        run = session.get_one(RunRow, found.added[0])
        assert (run.study_id, run.base_model_id, run.estimate_id) == (None, None, None)
        assert run_service.view(session, run.id).base_model == "tiny"


def body(*files: NamedText, **more: Any) -> dict[str, Any]:
    """A request."""
    return {"files": [{"name": f.name, "text": f.text} for f in files]} | more


def test_the_api_reports_the_outcome_of_each_file(api: TestClient) -> None:
    answer = api.post("imports", json=body(as_file(result()), NamedText("bad.json", "[1]"), collection="mine"))
    assert answer.status_code == 201
    said = answer.json()
    assert (said["collection"], said["added"], said["known"]) == ("mine", [1], [])
    assert said["refused"] == [
        {
            "file": "bad.json",
            "place": 1,
            "errors": [
                {
                    "path": "0",
                    "message": "Must be an object",
                    "remedy": "Use an object with label, score, seed, source and any optional fields",
                }
            ],
        }
    ]
    assert api.get("collections").json()[0]["runs"] == 1
    run = api.get("runs/1").json()
    assert (run["spec"], run["collection_id"], run["imported"]["source"]) == (None, 1, "https://example.org/results")


def test_by_api_results_may_stand_in_the_request_itself(api: TestClient) -> None:
    answer = api.post("imports", json={"results": [result(), result(seed=1)]})
    assert answer.json()["added"] == [1, 2]
    wrong = api.post("imports", json={"results": [result(score=47)]})
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["path"] == "results.0.score"


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        ({"files": []}, 422, "No file was sent"),
        ({}, 422, "No file was sent"),
        ({"files": [{"name": "a"}]}, 422, "files.0.text: This field is required"),
        ({"file": []}, 422, "file: There is no such field"),
        ({"results": [1], "collection": ""}, 422, "collection"),
        ({"results": [result()], "collection": "a\u0000b"}, 422, "U+0000 cannot be printed"),
    ],
)
def test_by_api_a_request_that_says_nothing_is_refused(
    api: TestClient, sent: dict[str, Any], status: int, says: str
) -> None:
    answer = api.post("imports", json=sent)
    assert answer.status_code == status
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"versions": {"to\0rch": "2"}}, "results.0.versions.to�rch"),
        ({"versions": {"torch": "2\0"}}, "results.0.versions.torch"),
        ({"settings": {"\ud800": 1}}, "results.0.settings.�"),
        ({"settings": {"a": "\0"}}, "results.0.settings.a"),
        ({"item_scores": {"a\0": 0.75}, "items": None}, "results.0.item_scores"),
        ({"score": 10**400}, "results.0.score"),
    ],
)
def test_the_api_refuses_values_that_no_database_stores(api: TestClient, changes: dict[str, Any], path: str) -> None:
    text = json.dumps({"results": [result(**changes)]})
    answer = api.post("imports", content=text, headers={"content-type": "application/json"})
    assert (answer.status_code, [e["path"] for e in answer.json()["errors"]]) == (422, [path])


def test_by_api_a_request_that_is_too_large_is_refused(api: TestClient) -> None:
    assert api.post("imports", content=b" " * ((16 << 20) + 1)).status_code == 413
    long = json.dumps({"results": [result()]}) + " " * (2 << 20)
    assert api.post("imports", content=long, headers={"content-type": "application/json"}).status_code == 201


def test_it_has_ended_and_cannot_be_cancelled(api: TestClient) -> None:
    api.post("imports", json={"results": [result()]})
    assert api.post("runs/1/cancel").status_code == 409


@pytest.mark.parametrize(
    "address", ["/runs/1/charts/loss.svg", "/runs/1/live", "/runs/1/figures", "/studies/new?from_run=1"]
)
def test_parts_of_a_page_of_a_run_trained_here_are_refused(api: TestClient, address: str) -> None:
    api.post("imports", json={"results": [result()]})
    answer = api.get(f"http://127.0.0.1{address}")
    assert answer.status_code == 409
    assert "was imported" in answer.text
