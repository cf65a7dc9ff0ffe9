"""The list of runs: filtered, sorted by any number that a run has, a page at a time by keyset."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, false, func, literal, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.domain.runs import RunStatus
from app.store.queries import runs
from app.store.queries.page import LARGEST_ID, Page, cut
from app.store.tables import RunRow

Sort = Literal["newest", "score", "peak", "train"]
COLUMNS: dict[Sort, tuple[InstrumentedAttribute[Any], bool]] = {
    "newest": (RunRow.id, True),
    "score": (RunRow.score, True),
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
    """Runs in an order, those that follow the run of id `after`; runs without the number come last, newest first.

    Raises NotFound if an order by a number is to follow a run that is not there.
    """
    if sort == "newest":
        rows = _newest(session, _filtered(select(RunRow), which), after, limit + 1)
    else:
        rows = _by_number(session, which, sort, runs.get(session, after) if after is not None else None, limit + 1)
    return cut(rows, [r.id for r in rows], limit)


def _newest(session: Session, query: Select[Any], after: int | None, most: int) -> list[RunRow]:
    if after is not None and after <= LARGEST_ID:
        query = query.where(RunRow.id < after)
    return list(session.scalars(query.order_by(RunRow.id.desc()).limit(most)))


def _by_number(session: Session, which: RunFilter, sort: Sort, last: RunRow | None, most: int) -> list[RunRow]:
    """First the runs that have the number, then the others: each a walk along the index (number, id).

    One query for both would sort the whole table: no index has NULL at the same end on SQLite and PostgreSQL.
    """
    column, falls = COLUMNS[sort]
    value = getattr(last, column.key) if last is not None else None
    found: list[RunRow] = []
    if last is None or value is not None:
        query, key = _filtered(select(RunRow), which).where(column.is_not(None)), tuple_(column, RunRow.id)
        if last is not None:
            here = tuple_(literal(value), literal(last.id))
            query = query.where(key < here if falls else key > here)
        order = (column.desc(), RunRow.id.desc()) if falls else (column.asc(), RunRow.id.asc())
        found = list(session.scalars(query.order_by(*order).limit(most)))
    if len(found) < most:
        others = _filtered(select(RunRow), which).where(column.is_(None))
        after = last.id if last is not None and value is None else None
        found += _newest(session, others, after, most - len(found))
    return found


def _filtered(query: Select[Any], which: RunFilter) -> Select[Any]:
    if which.status is not None:
        query = query.where(RunRow.status == which.status.value)
    if which.method is not None:
        query = query.where(RunRow.method_kind == which.method)
    if which.study_id is not None:
        query = query.where(RunRow.study_id == which.study_id if which.study_id <= LARGEST_ID else false())
    return query
