"""Alembic, from within: bring a database up to date, and tell whether it is."""

from functools import cache

from sqlalchemy import inspect, text

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.settings import ROOT
from app.store.session import Database

MIGRATIONS = ROOT / "migrations"


def upgrade(database: Database) -> None:
    """Apply every migration that the database lacks, one process at a time."""
    from alembic import command  # noqa: PLC0415 for those who only look, it would be a twentieth of their start
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(database: Database) -> None:
    """Raise Unavailable unless the database's tables are those of this code."""
    with database.engine.connect() as connection:
        known = inspect(connection).has_table("alembic_version")
        current = connection.scalar(text("SELECT version_num FROM alembic_version")) if known else None
    if current != head():
        state = "is empty" if current is None else f"stands at {current}"
        raise Unavailable(
            _(
                "The database %(state)s, but this version of Vezna needs %(head)s. Run: vezna migrate",
                state=state,
                head=head(),
            )
        )


@cache
def head() -> str:
    """The latest revision. File names begin with the number of their revision: `0001_initial.py`."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]
