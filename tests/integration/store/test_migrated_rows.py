"""Rows survive a migration, up and down. On SQLite and on PostgreSQL.

These tests add a revision of their own that replaces the table of runs, which is how SQLite changes a column.
"""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import inspect, text, update
from sqlalchemy.exc import IntegrityError

from app.domain.runs.job import EvaluationReport, StepsReport
from app.domain.runs.listing.annotations import Annotation
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.services.runs import annotations, attempts
from app.services.runs import runs as run_service
from app.services.studies import studies
from app.settings import ROOT
from app.store.database import migrate
from app.store.database.session import Database
from app.store.runs import evaluations, steps
from app.store.runs import queries as runs
from app.store.studies import tags
from app.store.tables import Base, RunRow, StudyRow
from tests.support.checks.migrations_in_step import config, differences
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.results import evaluation, result, step

FULL = {"kind": "full"}
RUN = {"base_model": "tiny", "dataset": "small", "method": FULL}
STUDY = {"name": "S", "base_model": "tiny", "dataset": "small", "arms": [{"method": FULL}], "seeds": [0, 1]}

Migrate = Callable[[str], None]


@pytest.fixture
def rows(registered: Database, bell: SilentBell) -> Database:
    """A study of two runs, one of which succeeded with everything that belongs to it."""
    with registered.transaction() as session:
        studies.submit(session, bell, StudySpec.model_validate(STUDY))
        mine = attempts.claim(session, 1, "w1", 45)
        assert mine is not None
        scored = EvaluationReport(evaluation=evaluation(accuracy=0.5), items=["a", "b"], scores=[1, 0])
        attempts.report(session, mine, 1, [StepsReport(steps=[step(1, 0.5)]), scored], 45)
        attempts.finish(session, bell, mine, result(0.5), {})
        annotations.annotate_run(session, 1, Annotation(note="Mine", tags=["paper"]))
    return registered


@pytest.fixture
def to(rows: Database, tmp_path: Path) -> Migrate:
    """Migrates to a revision; `next` renames a column of runs and makes another one longer."""
    _write(
        tmp_path,
        upgrade="""
        with op.batch_alter_table("runs", table_kwargs={"sqlite_autoincrement": True}) as batch:
            batch.alter_column("worker", new_column_name="host", existing_type=sa.String(120))
            batch.alter_column("arm", type_=sa.String(200), existing_type=sa.String(60))
        """,
        downgrade="""
        with op.batch_alter_table("runs", table_kwargs={"sqlite_autoincrement": True}) as batch:
            batch.alter_column("host", new_column_name="worker", existing_type=sa.String(120))
            batch.alter_column("arm", type_=sa.String(60), existing_type=sa.String(200))
        """,
    )
    return _migrating(rows, tmp_path)


def _write(folder: Path, *, upgrade: str, downgrade: str = "pass") -> None:
    """A revision named `next` that follows the last one."""
    head = f"import sqlalchemy as sa\nfrom alembic import op\nrevision = 'next'\ndown_revision = {migrate.head()!r}\n"
    bodies = {"upgrade": upgrade, "downgrade": downgrade}
    functions = [
        f"def {name}():\n" + "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
        for name, body in bodies.items()
    ]
    (folder / "next.py").write_text(head + "\n".join(functions))


def _migrating(database: Database, folder: Path) -> Migrate:
    def to(revision: str) -> None:
        with database.engine.connect() as connection:
            found = config(connection)
            found.set_main_option("path_separator", "newline")
            found.set_main_option("version_locations", f"{ROOT / 'migrations' / 'versions'}\n{folder}")
            (command.upgrade if revision == "next" else command.downgrade)(found, revision)

    return to


def test_a_replaced_table_keeps_its_rows_and_those_that_belong_to_them(rows: Database, to: Migrate) -> None:
    to("next")
    with rows.engine.connect() as connection:
        names = {column["name"] for column in inspect(connection).get_columns("runs")}
        hosts = connection.execute(text("SELECT host FROM runs ORDER BY id")).scalars().all()
    assert ("host" in names, "worker" in names, hosts) == (True, False, ["w1", None])

    to(migrate.head())

    assert differences(rows) == []
    migrate.require_current(rows)
    with rows.reading() as session:
        run = runs.get(session, 1)
        assert (run.note, run.worker, run.score, run.result is not None) == ("Mine", "w1", 0.5, True)
        assert evaluations.test_scores(session, [1])[1, "adapted"].scores.tolist() == [1, 0]
        assert np.array_equal(steps.read(session, 1)["step"], [1])
        assert tags.of_runs(session, [1]) == {1: ["paper"]}
        assert [run.status for run in runs.of_study(session, 1)] == ["succeeded", "queued"]


@pytest.mark.slow
def test_foreign_keys_hold_after_a_migration(rows: Database, to: Migrate) -> None:
    to("next")
    to(migrate.head())
    with pytest.raises(IntegrityError), rows.transaction() as session:
        session.execute(update(RunRow).values(dataset_id=99))


def test_ids_are_not_reused_after_a_migration(rows: Database, to: Migrate, bell: SilentBell) -> None:
    to("next")
    to(migrate.head())
    with rows.transaction() as session:
        last = run_service.submit(session, bell, RunSpec.model_validate(RUN)).id
        run_service.cancel(session, bell, last)
        session.delete(runs.get(session, last))
    with rows.transaction() as session:
        assert run_service.submit(session, bell, RunSpec.model_validate(RUN)).id > last


def test_a_migration_that_fails_changes_nothing(rows: Database, tmp_path: Path) -> None:
    _write(
        tmp_path,
        upgrade="""
        op.drop_column("studies", "interim_looks")
        op.execute("DELETE FROM run_tags")
        raise RuntimeError("this cannot be migrated")
        """,
    )
    with pytest.raises(RuntimeError, match="cannot be migrated"):
        _migrating(rows, tmp_path)("next")

    migrate.require_current(rows)
    assert differences(rows) == []
    with rows.transaction() as session:
        assert tags.of_runs(session, [1]) == {1: ["paper"]}
        assert session.get_one(StudyRow, 1).interim_looks == 0
    with pytest.raises(IntegrityError), rows.transaction() as session:
        session.execute(update(RunRow).values(dataset_id=99))


def test_a_migration_that_would_leave_rows_that_belong_to_nothing_is_refused(rows: Database, tmp_path: Path) -> None:
    _write(tmp_path, upgrade='op.execute("DELETE FROM studies")')
    with pytest.raises((CommandError, IntegrityError)):
        _migrating(rows, tmp_path)("next")
    migrate.require_current(rows)
    with rows.reading() as session:
        assert session.get_one(StudyRow, 1).name == "S"


def test_tables_whose_ids_are_never_reused_say_so_on_sqlite(database: Database) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's sequences never go back")
    wanted = {t.name for t in Base.metadata.tables.values() if t.dialect_options["sqlite"]["autoincrement"]}
    query = text("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")
    with database.engine.connect() as connection:
        assert set(connection.execute(query).scalars()) == wanted
