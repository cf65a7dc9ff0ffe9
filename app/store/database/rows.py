"""Rows of any table: by id, and changed by compare and set.

Every change of state is one UPDATE that names the state it starts from: it changes one row, or nothing happened.
"""

from typing import Any, TypeVar, cast

from sqlalchemy import CursorResult, Delete, Update
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.store.database.ownership import note_access
from app.store.database.page import LARGEST_ID
from app.store.tables import Base

Row = TypeVar("Row", bound=Base)


def find_row(session: Session, table: type[Row], row_id: int | None, *, lock: bool = False) -> Row | None:
    """The row with an id, if there is one; with `lock`, read anew and locked until the transaction ends."""
    if row_id is None or not 0 < row_id <= LARGEST_ID:
        return None
    return session.get(table, row_id, with_for_update=lock or None, populate_existing=lock)


def get_row(session: Session, table: type[Row], row_id: int | None, missing: str, *, lock: bool = False) -> Row:
    """The same; raises NotFound with the sentence `missing` if there is none."""
    row = find_row(session, table, row_id, lock=lock)
    if row is None:
        raise NotFound(missing)
    note_access(session, row)
    return row


def affected(session: Session, query: Update | Delete) -> int:
    """Run a statement; the number of rows that it changed or deleted."""
    result = session.execute(query.execution_options(synchronize_session=False))
    return int(cast(CursorResult[Any], result).rowcount)


def changed(session: Session, query: Update) -> bool:
    """Run a statement about one row; whether it found that row."""
    return affected(session, query) == 1
