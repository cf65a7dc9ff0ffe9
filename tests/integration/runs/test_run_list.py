"""The list of runs walks along an index, in every order and on both databases."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, String, cast, event, func, insert, text, update
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.runs.listing.filters import VISIBLE, Condition, parse
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import groups as run_groups
from app.store.runs.columns import SHOWN
from app.store.runs.listing import NEWEST, Order, RunValues, count, page
from app.store.tables import RunRow, RunTagRow, now
from app.store.workers import queue
from tests.conftest import DATABASES, empty_database, register_tiny

RUNS = 3000


@pytest.fixture(scope="module", params=DATABASES)
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Runs enough for a planner to prefer an index; every third has no number, and numbers repeat. Tests share them."""
    folder = tmp_path_factory.mktemp("many")
    with empty_database(request, folder) as database:
        register_tiny(database, Files(str(folder / "files")))
        _add_runs(database)
        yield database


@pytest.fixture
def changing(many: Database) -> Iterator[Session]:
    """A session whose changes are undone after the test."""
    with Session(many.engine) as session:
        yield session


def _add_runs(database: Database) -> None:
    usual = {
        "arm": "full",
        "seed": 0,
        "method_kind": "full",
        "metric": "accuracy",
        "base_model_id": 1,
        "dataset_id": 1,
        "learning_rate": 1e-4,
        "spec_json": {},
        "queued_at": now(),
    }
    with database.transaction() as session:
        numbers = [None if n % 3 == 0 else n * 7919 % 1000 for n in range(1, RUNS + 1)]
        session.execute(
            insert(RunRow),
            [
                usual
                | {"score": n, "peak_bytes": n, "train_seconds": n, "status": "queued" if place < 50 else "succeeded"}
                for place, n in enumerate(numbers)
            ],
        )
    with database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))


@contextmanager
def plans(database: Database) -> Iterator[list[str]]:
    """The plans of what is selected meanwhile."""
    found: list[str] = []
    explain = "EXPLAIN QUERY PLAN" if database.engine.dialect.name == "sqlite" else "EXPLAIN"

    def explained(connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
            found.append("\n".join(str(row[-1]) for row in rows))

    event.listen(database.engine, "before_cursor_execute", explained)
    yield found
    event.remove(database.engine, "before_cursor_execute", explained)


@pytest.mark.parametrize("order", [NEWEST, Order("score", True), Order("peak", False), Order("train", False)], ids=str)
@pytest.mark.parametrize("condition", [None, VISIBLE], ids=str)
def test_no_usual_order_sorts_the_table(many: Database, order: Order, condition: Condition | None) -> None:
    with many.reading() as session, plans(many) as found:
        first = page(session, condition, order=order)
        page(session, condition, order=order, after=first.next_after)
    assert found
    for plan in found:
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan and "Sort" not in plan, plan
        assert "SCAN runs\n" not in f"{plan}\n" or order == NEWEST, plan
        assert "Seq Scan" not in plan, plan


@pytest.mark.parametrize(
    "text", ['accuracy > 0.9 and method = "lora" and not failed', 'arm ~ "r=8"', 'arm ~ "ä"', "seed in (0, 1)"]
)
def test_a_filter_reads_the_index_of_lists_and_not_the_table(many: Database, text: str) -> None:
    if many.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's planner decides by what is in memory")
    condition = parse(text)
    with many.reading() as session, plans(many) as found:
        count(session, condition)
        page(session, condition, order=Order("wall", True))
        run_groups.page(session, condition, order=Order("lower", True), fields=("score", "peak"))
    scans = [plan for plan in found if "SCAN runs" in plan]
    assert scans and all(re.search("COVERING INDEX ix_runs_(list|groups)", plan) for plan in scans), found


@pytest.mark.parametrize("condition", [None, VISIBLE], ids=str)
@pytest.mark.parametrize("order", ["n", "lower", "score"])
def test_groups_by_their_score_read_their_own_index(many: Database, order: str, condition: Condition | None) -> None:
    if many.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's planner decides by what is in memory")
    with many.reading() as session, plans(many) as found:
        run_groups.count(session, condition)
        run_groups.page(session, condition, order=Order(order, True), fields=("score", "peak"))
    found = [plan.replace("SCAN runs USING INDEX ix_runs_archived", "") for plan in found]
    scans = [plan for plan in found if "SCAN runs" in plan]
    assert len(scans) == 2 and all("COVERING INDEX ix_runs_groups" in plan for plan in scans), found


def test_the_queue_is_read_along_its_index(many: Database) -> None:
    with many.reading() as session, plans(many) as found:
        queue.next_queued(session, 1, limit=10)
        page(session, parse("queued"))
    assert all("Seq Scan" not in plan and "TEMP B-TREE" not in plan for plan in found), found
    assert "ix_runs_status_id" in found[0] or "ix_runs_waiting" in found[0]


@pytest.mark.parametrize("order", [Order("score", True), Order("score", False), Order("peak", False)], ids=str)
@pytest.mark.parametrize("text", ["", "id > 0"])
def test_runs_without_the_number_come_last_and_equal_ones_once(many: Database, order: Order, text: str) -> None:
    with many.reading() as session:
        seen: list[RunValues] = []
        after = None
        while after is not None or not seen:
            part = page(session, parse(text), order=order, after=after, limit=500, fields=(order.field,))
            seen += part.rows
            after = part.next_after
    numbers = [run.values[order.field] for run in seen]
    known = [n for n in numbers if n is not None]
    last = [run.id for run in seen[len(known) :]]
    assert len({run.id for run in seen}) == RUNS
    assert known == sorted(known, reverse=order.falls) and numbers[: len(known)] == known
    assert last == sorted(last, reverse=True)


@pytest.mark.slow
def test_groups_reach_every_run_once_page_by_page(changing: Session) -> None:
    changing.execute(update(RunRow).values(group_key=func.substr(cast(RunRow.id * 7919, String), 1, 3)))
    for order in (Order("score", True), Order("lower", False), Order("n", True)):
        seen: list[int] = []
        after, parts = None, 0
        while after is not None or not parts:
            part = run_groups.page(changing, parse("succeeded"), order=order, after=after, limit=50, fields=("score",))
            seen += [run for group in part.rows for run in group.runs]
            after, parts = part.next_after, parts + 1
        assert len(seen) == len(set(seen)) == count(changing, parse("succeeded"))
        assert parts > 3


FILTERS = {
    "accuracy > 0.5 and succeeded": 1964,
    "not accuracy > 0.5": RUNS - 1998,
    "peak > 0 and peak <= 1 kB": 1998,
    "score = 3 %": 0,
    "study = 1 or study_name ~ x": 0,
    "not study = 1": RUNS,
    'model = "tiny" and data ~ "SMALL"': RUNS,
    "tag = x or note ~ x": 0,
    "queued_at > 2020-01-01 and queued_at < 2200-01-01": RUNS,
    "id < 9223372036854775807 and seed != 1.5": RUNS,
    "id = 3000000000": 0,
    "rank in (1, 2, 3) or worker = w": 0,
}


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_means_the_same_on_both_databases(many: Database, text: str) -> None:
    with many.reading() as session:
        assert count(session, parse(text)) == FILTERS[text]
        assert len(page(session, parse(text), limit=5).rows) == min(5, FILTERS[text])


LETTERS = {
    'arm ~ "очень"': [7, 8],
    'arm ~ "ОЧЕНЬ ДЛИННОЕ"': [7],
    'note ~ "änderung"': [9],
    'arm ~ "é*"': [],
    'arm ~ "ÉRO [?] ^]*"': [10],
    'arm ~ "?é"': [],
    'arm ~ "ß"': [8],
    'arm ~ "é"': [10],
    'arm ~ "ZÉRO"': [10],
    'not arm ~ "очень" and id in (7, 9)': [9],
    'tag ~ "КНИГА"': [8],
    'study_name ~ "ЯЗЫК"': [],
    'model ~ "очень" and imported': [],
}


@pytest.mark.parametrize("text", LETTERS)
def test_a_text_is_found_in_any_case_in_every_script(changing: Session, text: str) -> None:
    for number, arm in {7: "Очень длинное имя", 8: "не ОЧЕНЬ ß", 10: "LoRA Zéro [?] ^]*"}.items():
        changing.execute(update(RunRow).where(RunRow.id == number).values(arm=arm))
    changing.execute(update(RunRow).where(RunRow.id == 9).values(note="ÄNDRUNG, Änderung"))
    changing.add(RunTagRow(run_id=8, tag="книга"))
    changing.flush()
    assert sorted(run.id for run in page(changing, parse(text)).rows) == LETTERS[text]


NOTES = {
    "note ~ mended": [7],
    'note ~ "100%"': [8],
    "note = MENDED": [],
    'note = "Mended twice"': [7],
    "not note ~ e and id in (7, 8, 9)": [9],
    "note != x and id in (7, 8, 10)": [7, 8, 10],
    'note = "" and id in (7, 10)': [10],
    'note != "" and id in (7, 10)': [7],
    'note ~ "" and id in (7, 10)': [7, 10],
    "note ~ ÄNDRUNG": [9],
}


@pytest.mark.parametrize("text", NOTES)
def test_notes_are_searched_in_their_index(many: Database, changing: Session, text: str) -> None:
    for number, note in {7: "Mended twice", 8: "nearly 100% the same", 9: "ÄNDRUNG"}.items():
        changing.execute(update(RunRow).where(RunRow.id == number).values(note=note))
    with plans(many) as found:
        assert sorted(run.id for run in page(changing, parse(text)).rows) == NOTES[text]
    if many.engine.dialect.name == "sqlite":
        assert "ix_runs_noted" in found[0]


def test_every_field_can_be_shown(many: Database) -> None:
    with many.reading() as session:
        (run,) = page(session, limit=1, fields=tuple(SHOWN)).rows
    assert set(run.values) == set(SHOWN)
    assert (run.values["model"], run.values["data"], run.values["study_name"]) == ("tiny", "small", None)


def test_an_unknown_run_is_no_place_to_go_on_from(many: Database) -> None:
    with many.reading() as session:
        assert page(session, after=RUNS + 10).rows[0].id == RUNS
        assert page(session, after=10**22).rows[0].id == RUNS
        with pytest.raises(NotFound):
            page(session, order=Order("score", True), after=RUNS + 10)
        with pytest.raises(NotFound):
            run_groups.page(session, order=Order("score", True), after=10**22)
