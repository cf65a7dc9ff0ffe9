"""Alembic, from within: bring a database up to date, and tell whether it is."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.domain.errors import Unavailable
from app.settings import ROOT
from app.store.session import Database


def upgrade(database: Database) -> None:
    """Apply every migration that the database lacks, one process at a time."""
    config = _config()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(database: Database) -> None:
    """Raise Unavailable unless the database's tables are those of this code."""
    with database.engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if current != head:
        state = "is empty" if current is None else f"stands at {current}"
        raise Unavailable(f"The database {state}, and this version of Vezna needs {head}. Run: vezna migrate")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config
