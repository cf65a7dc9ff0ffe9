"""Answers in PostgreSQL's binary format: in its text every byte of a curve of steps is two, written and read again."""

from typing import Any

from psycopg import Cursor
from psycopg.pq import Format


class BinaryCursor(Cursor[Any]):
    """psycopg's own cursor, which asks for binary answers unless an `execute` says otherwise."""

    def __init__(self, connection: Any, **more: Any) -> None:
        super().__init__(connection, **more)
        self.format = Format.BINARY
