"""The list of runs walks along an index, in every order and on both databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text

from app.domain.errors import NotFound
from app.domain.runs import RunStatus
from app.store.queries import runs
from app.store.queries.run_list import RunFilter, Sort, page
from app.store.session import Database
from app.store.tables import RunRow, now

RUNS = 3000


@pytest.fixture
def many(registered: Database) -> Database:
    """Runs enough for a planner to prefer an index; every third has no number, and numbers repeat."""
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
    with registered.transaction() as session:
        numbers = [None if n % 3 == 0 else n * 7919 % 1000 for n in range(1, RUNS + 1)]
        session.execute(
            insert(RunRow),
            [
                usual
                | {
                    "score": n,
                    "peak_bytes": n,
                    "train_seconds": n,
                    "status": "queued" if place < 50 else "succeeded",
                }
                for place, n in enumerate(numbers)
            ],
        )
    with registered.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
    return registered


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


@pytest.mark.parametrize("sort", ["newest", "score", "peak", "train"])
def test_no_order_sorts_the_table(many: Database, sort: Sort) -> None:
    with many.reading() as session, plans(many) as found:
        first = page(session, RunFilter(), sort=sort)
        page(session, RunFilter(), sort=sort, after=first.next_after)
    assert found
    for plan in found:
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan and "Sort" not in plan, plan
        assert "SCAN runs\n" not in f"{plan}\n" or sort == "newest", plan
        assert "Seq Scan" not in plan, plan


def test_the_queue_is_read_along_its_index(many: Database) -> None:
    with many.reading() as session, plans(many) as found:
        runs.queued(session)
        page(session, RunFilter(status=RunStatus.QUEUED))
    assert all("Seq Scan" not in plan and "TEMP B-TREE" not in plan for plan in found), found
    assert "ix_runs_status_id" in found[0]


@pytest.mark.parametrize("sort", ["score", "peak"])
def test_runs_without_the_number_come_last_and_equal_ones_once(many: Database, sort: Sort) -> None:
    with many.reading() as session:
        seen: list[RunRow] = []
        after = None
        while after is not None or not seen:
            part = page(session, RunFilter(), sort=sort, after=after, limit=500)
            seen += part.rows
            after = part.next_after
    numbers = [run.score for run in seen]
    known = [n for n in numbers if n is not None]
    assert len({run.id for run in seen}) == RUNS
    assert known == sorted(known, reverse=sort == "score") and numbers[: len(known)] == known


def test_an_unknown_run_is_no_place_to_go_on_from(many: Database) -> None:
    with many.reading() as session:
        assert page(session, RunFilter(), after=RUNS + 10).rows[0].id == RUNS
        assert page(session, RunFilter(), after=10**22).rows[0].id == RUNS
        assert page(session, RunFilter(study_id=10**22)).rows == []
        with pytest.raises(NotFound):
            page(session, RunFilter(), sort="score", after=RUNS + 10)
