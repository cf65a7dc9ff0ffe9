"""What a request read from the database, so that what was made of it is kept for as long as the rows are the same.

`recorded()` notes the statements of everything that runs within it, in threads too, with a hash of their rows;
`Reads.same` executes them again, without the ORM, which for the page of a study takes a twentieth of the time of making
the page.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy
from sqlalchemy.orm import Session

BEATS = frozenset({"heartbeat_at"})
"""Columns that change all the time. What becomes of a worker whose heartbeat stops depends on the clock."""


KEPT_OPTIONS = frozenset({"vezna_binary"})
"""Execution options that a repetition needs too (`app.store.database.session.IN_BINARY`)."""


@dataclass
class Reads:
    """Queries, in order, with their parameters as the driver takes them."""

    queries: dict[tuple[str, str], tuple[Any, dict[str, Any], bytes]] = field(default_factory=dict)
    """The parameters, the options and the hash of the rows, by statement and text of the parameters."""
    complete: bool = True
    """Whether `queries` holds all that was executed: nothing was written, and no query that was executed twice had
    different rows."""

    def note(self, statement: str, parameters: Any, options: dict[str, Any], digest: bytes) -> None:
        query = (statement, repr(parameters))
        if self.queries.setdefault(query, (parameters, options, digest))[2] != digest:
            self.complete = False

    @property
    def size(self) -> int:
        """Characters that are held."""
        return sum(len(statement) + len(parameters) for statement, parameters in self.queries)

    def same(self, session: Session) -> bool:
        """Whether the queries return the same rows now, the columns `BEATS` apart."""
        connection = session.connection()
        for (statement, _), (parameters, options, digest) in self.queries.items():
            result = connection.exec_driver_sql(statement, parameters, execution_options=options)
            if _digest(list(result.keys()), result.fetchall()) != digest:
                return False
        return True


_recording: ContextVar[Reads | None] = ContextVar("vezna_reads", default=None)


@contextmanager
def recorded() -> Iterator[Reads]:
    """What is read within the block."""
    reads = Reads()
    token = _recording.set(reads)
    try:
        yield reads
    finally:
        _recording.reset(token)


def record(engine: Engine) -> None:
    """Have an engine note its queries where something records them."""

    @event.listens_for(engine, "after_cursor_execute")
    def executed(_c: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if (reads := _recording.get()) is None:
            return
        word = statement.lstrip()[:9].upper()
        if not many and word.startswith(("SELECT", "WITH")) and cursor.description:
            if "FROM" not in statement:  # it reads no table, but the database's clock
                return
            rows = deque(cursor.fetchall())
            context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(cursor, initial_buffer=rows)
            options = {name: value for name, value in context.execution_options.items() if name in KEPT_OPTIONS}
            reads.note(statement, parameters, options, _digest([column[0] for column in cursor.description], rows))
        elif not word.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            reads.complete = False


def _digest(names: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    shown = [place for place, name in enumerate(names) if name not in BEATS]
    hashed = blake2b(digest_size=16)
    for row in rows:
        hashed.update(repr([_plain(row[place]) for place in shown]).encode())
    return hashed.digest()


def _plain(value: object) -> object:
    return bytes(value) if isinstance(value, memoryview) else value
