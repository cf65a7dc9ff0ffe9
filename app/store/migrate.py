"""Alembic, from within: bring a database up to date, and tell whether it is."""

from functools import cache

from sqlalchemy import Connection, inspect, text

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.settings import ROOT
from app.store.session import Database

MIGRATIONS = ROOT / "migrations"


def upgrade(database: Database) -> None:
    """Apply every migration that the database lacks, one process at a time. Raises Unavailable if it is newer."""
    from alembic import command  # noqa: PLC0415 for those who only look, it would be a twentieth of their start
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.connect() as connection:
        _refuse_newer(_revision(connection))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(database: Database) -> None:
    """Raise Unavailable unless the database's tables are those of this code."""
    with database.engine.connect() as connection:
        current = _revision(connection)
    _refuse_newer(current)
    if current != head():
        state = "is empty" if current is None else f"stands at {current}"
        raise Unavailable(
            _(
                "The database %(state)s, but this version of Vezna needs %(head)s. Run: vezna migrate",
                state=state,
                head=head(),
            )
        )


def _revision(connection: Connection) -> str | None:
    """Of the database; None if it is empty."""
    known = inspect(connection).has_table("alembic_version")
    return connection.scalar(text("SELECT version_num FROM alembic_version")) if known else None


def _refuse_newer(current: str | None) -> None:
    if current is not None and current > head():
        raise Unavailable(
            _(
                "A newer version of Vezna has migrated the database to %(current)s; this version needs %(head)s. Start "
                "the newer version, or restore a backup from before it.",
                current=current,
                head=head(),
            )
        )


@cache
def head() -> str:
    """The latest revision. File names begin with the number of their revision: `0001_initial.py`."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]
