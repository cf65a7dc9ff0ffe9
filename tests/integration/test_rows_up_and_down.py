"""Rows of data and runs on the way down through the last migrations and up again. On SQLite and on PostgreSQL."""

from typing import Any

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import inspect, text, update
from sqlalchemy.exc import IntegrityError

from app.domain.methods import FullSpec
from app.domain.runs.spec import RunSpec
from app.services import datasets, imports, runs
from app.settings import Settings
from app.store import migrate
from app.store.files import Files
from app.store.queries import datasets as rows_of_data
from app.store.queries import runs as run_rows
from app.store.queries import uploads as upload_rows
from app.store.session import Database
from app.store.tables import DatasetRow, RunRow
from tests.fakes import SilentBell
from tests.imported_results import as_file, result
from tests.migrations_in_step import config, differences
from tests.reading import context, dataset, upload
from worker.context import Context

CSV = b"text,label\n" + b"".join(b"good thing %d,yes\nbad thing %d,no\n" % (i, i) for i in range(60))


@pytest.fixture
def here(registered: Database, settings: Settings, files: Files, bell: SilentBell) -> Context:
    """A worker's context, on a database with data that a program made, data that came as a file, and a run on each."""
    found = context(settings, registered, files)
    dataset(found, upload(found, {"reviews.csv": CSV}), "reviews")
    with registered.transaction() as session:
        for name in ("small", "reviews"):
            run = runs.submit(session, bell, RunSpec(base_model="tiny", dataset=name, method=FullSpec()))
            run.downloaded_bytes, run.download_bytes = 5_000_000_000, 6_000_000_000
    return found


def _to(database: Database, revision: str) -> None:
    with database.engine.connect() as connection:
        command.downgrade(config(connection), revision)


def _rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_a_run_loses_only_how_far_its_download_is(here: Context) -> None:
    _to(here.database, "0008")
    assert "download_bytes" not in {column["name"] for column in inspect(here.database.engine).get_columns("runs")}
    assert _rows(here.database, "SELECT id, status, dataset_id FROM runs ORDER BY id") == [
        (1, "queued", 1), (2, "queued", 2)
    ]  # fmt: skip
    migrate.upgrade(here.database)
    assert differences(here.database) == []
    with here.database.reading() as session:
        found = [run_rows.get(session, which) for which in (1, 2)]
        assert [(run.downloaded_bytes, run.download_bytes) for run in found] == [(None, None)] * 2
        assert [run.spec.dataset for run in found] == ["small", "reviews"]


def test_first_versions_that_are_ready_are_what_they_were_and_are_one_of_no_upload(here: Context) -> None:
    with here.database.reading() as session:
        before = {row.name: (row.id, row.facts, row.file) for row in rows_of_data.everyone(session)}
    _to(here.database, "0007")
    assert "uploads" not in inspect(here.database.engine).get_table_names()
    assert _rows(here.database, "SELECT name, title FROM datasets ORDER BY id") == [("small", "Small"), ("reviews", "")]
    with pytest.raises(IntegrityError), here.database.engine.begin() as connection:  # one name, one dataset
        connection.execute(
            text(
                "INSERT INTO datasets (id, name, title, content_hash, file, facts_json, created_at) "
                "SELECT 9, name, title, content_hash, file, facts_json, created_at FROM datasets WHERE id = 1"
            )
        )

    migrate.upgrade(here.database)

    assert differences(here.database) == []
    with here.database.reading() as session:
        after = rows_of_data.everyone(session)
        assert {row.name: (row.id, row.facts, row.file) for row in after} == before
        states = {(row.version, row.status, row.message, row.progress, tuple(row.findings)) for row in after}
        assert states == {(1, "ready", "", 1.0, ())}
        assert {(row.upload_id, row.mapping, row.splitting) for row in after} == {(None, None, None)}
        assert upload_rows.newest(session) == []
        assert rows_of_data.used_by(session, before["reviews"][0]) == (1, 0)
    again = dataset(here, upload(here, {"reviews.csv": CSV}), "reviews")
    assert (again.reference, again.facts) == ("reviews@2", before["reviews"][1])


def test_foreign_keys_hold_on_the_way_down_and_up_again(here: Context) -> None:
    _to(here.database, "0007")
    migrate.upgrade(here.database)
    with pytest.raises(IntegrityError), here.database.transaction() as session:
        session.execute(update(RunRow).values(dataset_id=99))
    with pytest.raises(IntegrityError), here.database.transaction() as session:
        session.execute(update(DatasetRow).values(upload_id=99))


@pytest.mark.parametrize("which", ["a second version", "one that is not ready"])
def test_the_way_down_is_refused_where_0007_has_no_place_for_a_version(here: Context, which: str) -> None:
    if which == "a second version":
        dataset(here, upload(here, {"reviews.csv": CSV + b"one more,yes\n"}), "reviews")
    else:
        blocked = dataset(here, upload(here, {"one.csv": b"text,label\na,b\n"}), "one")
        assert blocked.status == "blocked"
    with pytest.raises(CommandError, match=r"holds versions of datasets, .* or restore the backup"):
        _to(here.database, "0007")
    migrate.require_current(here.database)
    with here.database.transaction() as session:  # as it advises
        for row in rows_of_data.all_versions(session):
            if row.version > 1 or row.status != "ready":
                datasets.delete(session, here.files, row.id)
    _to(here.database, "0007")
    migrate.upgrade(here.database)
    migrate.require_current(here.database)


def test_runs_are_grouped_anew_by_the_very_model_and_data_and_back_as_before(here: Context) -> None:
    """On the way down runs on two versions of the data are one group, as they were; on the way up no longer."""
    version = dataset(here, upload(here, {"reviews.csv": CSV + b"one more,yes\n"}), "reviews")
    told = [result(seed=seed, source=f"{seed}.json") for seed in (0, 1)]
    with here.database.transaction() as session:
        for collection in ("one", "two"):
            imports.add_results(session, imports.read_files([as_file(*told)]), collection)
        first = run_rows.get(session, 2)
        newer = RunRow(
            arm=first.arm,
            seed=1,
            method_kind=first.method_kind,
            metric=first.metric,
            learning_rate=first.learning_rate,
            base_model_id=first.base_model_id,
            dataset_id=version.id,
            spec_json=first.spec_json,
        )
        session.add(newer)
    keys = "SELECT group_key FROM runs ORDER BY id"
    before = _rows(here.database, keys)
    assert _alike(before) == [[1], [2], [3, 4], [5, 6], [7]]

    _to(here.database, "0011")
    assert _alike(_rows(here.database, keys)) == [[1], [2, 7], [3, 5], [4, 6]]

    migrate.upgrade(here.database)
    assert _rows(here.database, keys) == before


def _alike(keys: list[tuple[Any, ...]]) -> list[list[int]]:
    """Numbers of the rows that have one key."""
    places: dict[str, list[int]] = {}
    for number, (key,) in enumerate(keys, start=1):
        places.setdefault(key, []).append(number)
    return list(places.values())
