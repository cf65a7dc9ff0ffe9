"""Alembic's environment. It runs inside `app.store.database.migrate` (which gives a connection) or by the `alembic`
command."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import sqlalchemy as sa
from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, text

from app import feature
from app.settings import Settings
from app.store.database.base import UtcDateTime
from app.store.database.session import Database
from app.store.tables import Base

feature.load_tables()

LOCK = 7_305_112  # any number that nobody else takes for an advisory lock


def render(kind: str, item: object, _autogen: object) -> str | Literal[False]:
    """Write our column types as what they are in the database: a migration imports nothing of the application."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, sa.JSON):
        return 'sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")'
    return False


def run(connection: Connection) -> None:
    """Run the migrations in one transaction; two processes that start together take turns."""
    sqlite = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=sqlite,
        transactional_ddl=True,  # alembic does not expect it of SQLite, which can
        compare_type=True,
        render_item=render,
    )
    with tables_replaced(connection) if sqlite else nullcontext(), context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        context.run_migrations()
        if sqlite and (lost := connection.execute(text("PRAGMA foreign_key_check")).all()):
            raise CommandError(f"The migration would leave rows that belong to nothing: {lost[:3]}")


@contextmanager
def tables_replaced(connection: Connection) -> Iterator[None]:
    """No foreign keys meanwhile. SQLite changes a table by making a new one and dropping the old one, and dropping it
    deletes its rows, with all that hangs on them (https://sqlite.org/lang_altertable.html, section 7).

    Below SQLAlchemy, which would begin a transaction, and within one SQLite takes no notice.
    """
    connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        connection.connection.cursor().execute("PRAGMA foreign_keys=ON")


given = context.config.attributes.get("connection")
if given is not None:
    run(given.execution_options(vezna_write=True))
    given.commit()
else:
    with Database(Settings().database).engine.connect() as own:
        run(own.execution_options(vezna_write=True))
        own.commit()
