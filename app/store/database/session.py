"""The only place that opens transactions and commits them.

`Database.transaction()` is for writing, `Database.reading()` for reading. On SQLite a write begins with
BEGIN IMMEDIATE, so that it waits at its start instead of failing at its first UPDATE.
`Database.seen_by(viewer)` gives sessions that see only what a user may (`app.store.database.ownership`).
`after_commit(session, call)` registers what must happen after the commit, such as ringing a doorbell.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from pathlib import Path
from threading import Lock, RLock
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Viewer, Visibility
from app.store.database import reads
from app.store.database.errors import undone
from app.store.database.owned import VIEWER
from app.store.database.ownership import FILTERED, OPENED, guard

Result = TypeVar("Result")
REPEATS = 3
"""How often a transaction that another one undid is repeated."""
BUSY_MILLISECONDS = 30_000
POOL = {"pool_size": 10, "max_overflow": 30}
"""Connections of a process: twice the requests that the web works on at once (`app.web.http.middleware.gate`), and a
few."""
BINARY = 1
"""libpq's format code."""
SNAPSHOT = text("SELECT pg_current_snapshot()::text")
IN_BINARY = {"vezna_binary": True}
"""Execution options of a query for large binary values. PostgreSQL's default text format takes two characters per
byte."""


class Database:
    """An engine and its sessions. `url` is SQLAlchemy's; SQLite and PostgreSQL (psycopg) are supported."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.url = parsed
        if parsed.get_backend_name() == "sqlite":
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            waiting = {"timeout": BUSY_MILLISECONDS / 1000}
            self.engine = create_engine(parsed, connect_args=waiting, **POOL)
            _speak_sqlite(self.engine)
        else:
            ours = parsed.set(drivername="postgresql+psycopg") if parsed.get_backend_name() == "postgresql" else parsed
            self.engine = create_engine(ours, pool_pre_ping=True, **POOL)
            _have_bytes_in_binary(self.engine)
        reads.record(self.engine)
        guard(self.engine)
        self._filtered = self.engine.execution_options(**{FILTERED: True})
        self.viewer: Viewer | None = None
        """Viewer of the sessions; None: they see everything."""
        self._opened: Callable[[list[tuple[str, int]]], None] | None = None
        self._observer = _Observer(parsed.database or "")
        self._between_forks: AbstractContextManager[object] = nullcontext()

    def seen_by(
        self, viewer: Viewer | None, opened: Callable[[list[tuple[str, int]]], None] | None = None
    ) -> "Database":
        """The same database for the requests of a user: its sessions see and change only what the user may. `opened` is
        told of private objects of others, by table and id, that an admin opened."""
        theirs = copy(self)
        theirs.viewer, theirs._opened = viewer, opened or self._opened
        return theirs

    def creating(self, visibility: Visibility) -> "Database":
        """The same, with the visibility of what its sessions create."""
        return self.seen_by(self.viewer.creating(visibility) if self.viewer else None)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        viewer = self.viewer
        engine = self.engine if viewer is None or viewer.sees_all else self._filtered
        session = Session(engine, expire_on_commit=False, info={VIEWER: viewer})
        try:
            with session:
                yield session
        finally:  # a download that breaks off, or a change that is refused, has opened them too
            if self._opened is not None and (opened := session.info.get(OPENED)):
                self._opened(opened)

    def close_at_forks(self) -> None:
        """Close every connection whenever this process forks, and fork only between transactions.

        SQLite keeps a record of the locks that its process holds. A child gets a copy of it, and would wait for ever
        for a lock that a thread of its parent held at that moment (sqlite.org/howtocorrupt.html, section 2.6).
        """
        lock = RLock()
        self._between_forks = lock

        def before() -> None:
            lock.acquire()
            self.dispose()

        os.register_at_fork(before=before, after_in_parent=lock.release, after_in_child=lock.release)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session for writing: commits at the end, rolls back on an exception, then runs the after-commit calls."""
        with self._between_forks, self._session() as session:
            session.connection(execution_options={"vezna_write": True})
            yield session
            session.commit()
            calls: list[Callable[[], object]] = session.info.pop("after_commit", [])
        for call in calls:
            call()

    def write(self, act: Callable[[Session], Result]) -> Result:
        """The result of `act` in a transaction of its own. If the database undoes it because of another transaction (a
        deadlock), it is repeated."""
        for _ in range(REPEATS):
            try:
                with self.transaction() as session:
                    return act(session)
            except OperationalError as error:
                if not undone(error):
                    raise
        with self.transaction() as session:
            return act(session)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading; changes are discarded."""
        with self._between_forks, self._session() as session:
            yield session

    def version(self) -> str:
        """A text that changes with every commit, by any process.

        On SQLite `PRAGMA data_version`, which counts the commits of other connections, on a connection that never
        writes; on PostgreSQL the current snapshot, which names the transactions that a query would see.
        """
        if self.engine.dialect.name != "sqlite":
            with self.engine.connect() as connection:
                return str(connection.execution_options(isolation_level="AUTOCOMMIT").scalar(SNAPSHOT))
        return self._observer.version()

    def dispose(self) -> None:
        self.engine.dispose()
        self._observer.close()


class _Observer:
    """A connection to a SQLite file that never writes, opened when it is first needed."""

    def __init__(self, file: str) -> None:
        self._file, self._lock = file, Lock()
        self._connection: sqlite3.Connection | None = None

    def version(self) -> str:
        with self._lock:
            if self._connection is None:
                self._connection = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
            return str(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


@contextmanager
def savepoint(session: Session) -> Iterator[None]:
    """A part of a transaction: on an exception it alone is rolled back, and its after-commit calls are dropped."""
    calls: list[Callable[[], object]] = session.info.setdefault("after_commit", [])
    before = len(calls)
    try:
        with session.begin_nested():
            yield
    except BaseException:
        del calls[before:]
        raise


def after_commit(session: Session, call: Callable[[], object]) -> None:
    """Run `call` once the session's transaction has been committed; never if it is rolled back."""
    session.info.setdefault("after_commit", []).append(call)


def _have_bytes_in_binary(engine: Engine) -> None:
    @event.listens_for(engine, "before_cursor_execute")
    def about_to_run(_c: Connection, cursor: Any, _s: str, _p: object, context: Any, _many: bool) -> None:
        if context is not None and context.execution_options.get("vezna_binary"):
            cursor.format = BINARY


def _speak_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(dbapi: Any, _record: object) -> None:
        dbapi.isolation_level = None  # the driver begins no transaction: `begun` below does
        cursor = dbapi.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        write = connection.get_execution_options().get("vezna_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
