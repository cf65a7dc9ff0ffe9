"""The list of runs: filtered, sorted by any number that a run has, a page at a time by keyset."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.domain.runs import RunStatus
from app.store.queries.page import Page, cut
from app.store.tables import RunRow

Sort = Literal["newest", "accuracy", "peak", "train"]
COLUMNS: dict[Sort, tuple[InstrumentedAttribute[Any], bool]] = {
    "newest": (RunRow.id, True),
    "accuracy": (RunRow.accuracy, True),
    "peak": (RunRow.peak_bytes, False),
    "train": (RunRow.train_seconds, False),
}
"""The column of each order, and whether it falls."""


@dataclass(frozen=True)
class RunFilter:
    """Which runs; None does not ask."""

    status: RunStatus | None = None
    method: str | None = None
    study_id: int | None = None


def count(session: Session, which: RunFilter) -> int:
    """How many runs there are of that kind."""
    return session.scalar(_filtered(select(func.count()).select_from(RunRow), which)) or 0


def page(
    session: Session, which: RunFilter, *, sort: Sort = "newest", after: int | None = None, limit: int = 50
) -> Page[RunRow]:
    """Runs in an order, those that follow the run of id `after`; runs without the number come last, newest first."""
    column, falls = COLUMNS[sort]
    query = _filtered(select(RunRow), which)
    last = session.get(RunRow, after) if after is not None else None
    if last is not None:
        query = query.where(_follows(column, falls, getattr(last, column.key), last.id))
    order = column.desc() if falls else column.asc()
    query = query.order_by(column.is_(None), order, RunRow.id.desc())
    rows = list(session.scalars(query.limit(limit + 1)))
    return cut(rows, [r.id for r in rows], limit)


def _filtered(query: Select[Any], which: RunFilter) -> Select[Any]:
    if which.status is not None:
        query = query.where(RunRow.status == which.status.value)
    if which.method is not None:
        query = query.where(RunRow.method_kind == which.method)
    if which.study_id is not None:
        query = query.where(RunRow.study_id == which.study_id)
    return query


def _follows(column: InstrumentedAttribute[Any], falls: bool, value: Any, run_id: int) -> Any:
    older = RunRow.id < run_id
    if value is None:
        return and_(column.is_(None), older)
    return or_(column < value if falls else column > value, and_(column == value, older), column.is_(None))
