"""Alembic, from within: bring a database up to date, and tell whether it is."""

import re
from functools import cache

from sqlalchemy import Connection, inspect, text

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.settings import ROOT
from app.store.database.session import Database

MIGRATIONS = ROOT / "migrations"
_NAMED = re.compile(r"""^(?:down_)?revision(?:: [^=]+)? = (?:["'](\w+)["']|None)$""", re.MULTILINE)
"""The two lines of a migration that name it and the one before it."""
FIRST = "0055"
"""The oldest revision that can be brought up to date: the migrations before it were joined into it."""


def upgrade(database: Database) -> None:
    """Apply every migration that the database lacks, one process at a time. Raises Unavailable if it is newer, or older
    than the first."""
    from alembic import command  # noqa: PLC0415 for those who only look, it would be a twentieth of their start
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.connect() as connection:
        _refuse_unknown(_revision(connection))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(database: Database) -> None:
    """Raise Unavailable unless the database's tables are those of this code."""
    with database.engine.connect() as connection:
        current = _revision(connection)
    _refuse_unknown(current)
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
    """Revision of the database; None if it is empty."""
    known = inspect(connection).has_table("alembic_version")
    return connection.scalar(text("SELECT version_num FROM alembic_version")) if known else None


def _refuse_unknown(current: str | None) -> None:
    if current is None or current in _revisions():
        return
    if current < FIRST:
        raise Unavailable(
            _(
                "A development version of Vezna made this database (%(current)s), which no release can bring up to "
                "date. Start with a new one.",
                current=current,
            )
        )
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
    """The latest revision: the one that no other comes after."""
    revisions = _revisions()
    [last] = revisions.keys() - revisions.values()
    return last


@cache
def _revisions() -> dict[str, str | None]:
    """What each revision comes after, as the files say it: their numbers need not be in that order."""
    texts = [path.read_text(encoding="utf-8") for path in (MIGRATIONS / "versions").glob("[0-9]*.py")]
    named = [_NAMED.findall(text) for text in texts]
    return {revision: before or None for revision, before in named}
