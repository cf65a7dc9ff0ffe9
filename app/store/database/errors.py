"""What an error of the database means: another transaction undid this one, its disk is full, or it does not answer."""

import shutil
import sqlite3
from pathlib import Path

from sqlalchemy import URL

CONFLICTS = ("40P01", "40001")
"""PostgreSQL's codes of a deadlock and of a serialization failure: the same transaction may succeed at once."""
LOCK_REFUSED = "55P03"
"""PostgreSQL's code."""
DISK_FULL = "53100"
"""PostgreSQL's code; SQLite has only its sentence."""


def undone(error: Exception) -> bool:
    """Whether the database undid a transaction because of another one, so that it should be repeated."""
    return _code(error) in CONFLICTS


def refused_lock(error: Exception) -> bool:
    """Whether a lock was not given within `lock_timeout`."""
    return _code(error) == LOCK_REFUSED


def disk_full(error: Exception) -> bool:
    """Whether the disk of the database is full. The text of SQLAlchemy's own error has the values of its statement too,
    which may say anything."""
    raised = getattr(error, "orig", error)
    return _code(error) == DISK_FULL or (isinstance(raised, sqlite3.Error) and "disk is full" in str(raised))


def cause(error: Exception, url: URL) -> str:
    """What went wrong, for a log: with the remedy, where the database at `url` answered."""
    if undone(error):
        return "another transaction changed the same rows, so the database undid this one"
    if not disk_full(error):
        return "database unreachable"
    if url.get_backend_name() != "sqlite":
        return f"the disk of the PostgreSQL server at {url.host or 'its socket'} is full: free some space there"
    place = Path(url.database or "").resolve().parent
    free = shutil.disk_usage(place).free / 2**20
    return f"the disk of the database ({place}, {free:.1f} MiB left) is full: free some space there"


def _code(error: Exception) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)
