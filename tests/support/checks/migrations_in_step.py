"""Whether the migrations lead to the tables of the code: `python -m tests.support.checks.migrations_in_step`, a part of
`make check`.

An empty SQLite database is brought up to date and compared with the tables; exit status 1 with the differences.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from app import feature
from app.settings import ROOT
from app.store.database import migrate
from app.store.database.session import Database
from app.store.tables import Base

feature.load_tables()


def differences(database: Database) -> list[Any]:
    """What a new migration would have to change in an up-to-date database."""
    with database.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def config(connection: Connection) -> Config:
    """Alembic's, for commands on a connection."""
    found = Config()
    found.set_main_option("script_location", str(ROOT / "migrations"))
    found.attributes["connection"] = connection
    return found


def main() -> int:
    """Print the differences; the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'vezna.sqlite'}")
        migrate.upgrade(database)
        found = differences(database)
        database.engine.dispose()
    for difference in found:
        print(difference, file=sys.stderr)
    if found:
        print(
            "The migrations do not lead to the tables of the code. "
            'Write one with: alembic revision --autogenerate -m "what it does"',
            file=sys.stderr,
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
