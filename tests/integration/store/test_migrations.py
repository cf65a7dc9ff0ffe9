"""Migrations: up, down, up again, and always in step with the tables. On SQLite and on PostgreSQL."""

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from app.domain.errors import Unavailable
from app.store.database import migrate
from app.store.database.session import Database
from app.store.tables import Base
from tests.support.checks.migrations_in_step import config, differences


def test_the_migrations_lead_to_the_tables_of_the_code(database: Database) -> None:
    assert differences(database) == []
    migrate.require_current(database)


def test_they_can_be_undone_and_done_again(database: Database) -> None:
    _downgrade(database)
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    with pytest.raises(Unavailable, match="vezna migrate"):
        migrate.require_current(database)

    migrate.upgrade(database)

    assert differences(database) == []
    assert set(inspect(database.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_the_last_by_the_names_of_the_files_is_the_last_by_what_they_say() -> None:
    assert ScriptDirectory(str(migrate.MIGRATIONS)).get_current_head() == migrate.head()


def test_a_database_of_a_newer_version_is_neither_used_nor_migrated(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for attempt in (migrate.require_current, migrate.upgrade):
        with pytest.raises(Unavailable, match=f"newer version .* to 9999; this version needs {migrate.head()}.*backup"):
            attempt(database)
    with database.reading() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def test_a_database_of_before_the_first_migration_is_neither_used_nor_migrated(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0040'"))
    for attempt in (migrate.require_current, migrate.upgrade):
        with pytest.raises(Unavailable, match="development version of Vezna made this database"):
            attempt(database)


def test_doing_them_twice_changes_nothing(database: Database) -> None:
    migrate.upgrade(database)
    assert differences(database) == []


def _downgrade(database: Database) -> None:
    with database.engine.connect() as connection:
        command.downgrade(config(connection), "base")
