"""Each test has an engine of its own, and SQLAlchemy compiles each statement once per engine: a tenth of the time of
the tests of pages and of the API. Here all engines of a process share what was compiled, per dialect."""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

STATEMENTS = 2000


def share_compiled_sql() -> None:
    """Let every engine that is created from now on look statements up in the cache of its dialect.

    The dialect is a part of the keys, so dialects of one class must be equal; the tests have one version of each
    database, and `Database` configures all engines alike.
    """
    for dialect in (SQLiteDialect_pysqlite, PGDialect_psycopg):
        _share(dialect, LRUCache(STATEMENTS))


def _share(dialect: Any, kept: LRUCache[Any, Any]) -> None:
    def created(_dialect: Any, engine: Engine) -> None:
        engine._compiled_cache = kept

    dialect.engine_created = classmethod(created)
    dialect.__hash__ = lambda _self: hash(dialect)
    dialect.__eq__ = lambda _self, other: type(other) is dialect
