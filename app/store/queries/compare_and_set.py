"""Every change of state is one UPDATE that names the state it starts from: one row, or nothing happened."""

from typing import Any, cast

from sqlalchemy import CursorResult, Update
from sqlalchemy.orm import Session


def changed(session: Session, query: Update) -> bool:
    """Whether the UPDATE found its row."""
    result = session.execute(query.execution_options(synchronize_session=False))
    return bool(cast(CursorResult[Any], result).rowcount == 1)
