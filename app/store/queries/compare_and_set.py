"""Every change of state is one UPDATE that names the state it starts from: it changes one row, or nothing happened."""

from typing import Any, cast

from sqlalchemy import CursorResult, Delete, Update
from sqlalchemy.orm import Session


def affected(session: Session, query: Update | Delete) -> int:
    """Run a statement; the number of rows that it changed or deleted."""
    result = session.execute(query.execution_options(synchronize_session=False))
    return int(cast(CursorResult[Any], result).rowcount)


def changed(session: Session, query: Update) -> bool:
    """Run a statement about one row; whether it found that row."""
    return affected(session, query) == 1
