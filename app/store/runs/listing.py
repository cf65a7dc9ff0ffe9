"""The list of runs: filtered, sorted by any number that a run has, a page at a time by keyset.

A page takes two steps. First the ids: along an index (number, id) where one fits and there is no filter, otherwise from
`ix_runs_list`, which has all columns that lists need and a tenth of the table's size. Then the shown values of these
few runs, without their wide columns. Why: docs/decisions/0011-one-index-for-lists.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.runs.listing.filters import VISIBLE, Condition
from app.store.database.page import LARGEST_ID, Page
from app.store.runs.columns import SHOWN, Expression
from app.store.runs.conditions import clause, read
from app.store.tables import RunRow

WALKED = ("id", "score", "peak", "train")
"""Fields with an index (field, id)."""
ALWAYS = (
    "id",
    "study",
    "arm",
    "method",
    "family",
    "metric",
    "status",
    "trial",
    "imported",
    "elsewhere",
    "heard_at",
    "archived",
)
"""Read of every run, whatever columns the list shows."""


@dataclass(frozen=True)
class Order:
    """The field to sort by; `falls`: in descending order."""

    field: str
    falls: bool

    def __str__(self) -> str:
        return f"-{self.field}" if self.falls else self.field


NEWEST = Order("id", True)


@dataclass(frozen=True)
class RunValues:
    """A run in a list: the requested values by field, in base units."""

    id: int
    values: Mapping[str, Any]


def count(session: Session, condition: Condition | None) -> int:
    return session.scalar(select(func.count()).select_from(RunRow).where(clause(condition))) or 0


def page(
    session: Session,
    condition: Condition | None = None,
    *,
    order: Order = NEWEST,
    after: int | None = None,
    limit: int = 50,
    fields: Sequence[str] = (),
) -> Page[RunValues]:
    """The page of sorted runs that follows the run `after`; runs without a value come last, newest first.

    Raises NotFound if the order is by a value and there is no run `after`.
    """
    ids = _ids(session, condition, order, after, limit + 1)
    return Page(values(session, ids[:limit], fields), ids[limit - 1] if len(ids) > limit else None)


def values(session: Session, ids: Sequence[int], fields: Sequence[str] = ()) -> list[RunValues]:
    """The shown values of runs, in the order of `ids`."""
    names = [name for name in dict.fromkeys((*ALWAYS, *fields)) if name in SHOWN]
    query = select(*(SHOWN[name].label(name) for name in names)).where(RunRow.id.in_(ids))
    by_id = {row[0]: RunValues(row[0], dict(zip(names, row, strict=True))) for row in session.execute(query)}
    return [by_id[run_id] for run_id in ids if run_id in by_id]


def _ids(session: Session, condition: Condition | None, order: Order, after: int | None, most: int) -> list[int]:
    if order.field == "id":
        query = select(RunRow.id).where(clause(condition))
        if after is not None and after <= LARGEST_ID:
            query = query.where(RunRow.id < after if order.falls else RunRow.id > after)
        query = query.order_by(RunRow.id.desc() if order.falls else RunRow.id).limit(most)
        return list(session.scalars(query))
    column = SHOWN[order.field]
    last = _value(session, column, after) if after is not None else None
    if condition in (None, VISIBLE) and order.field in WALKED:
        return _walked(session, column, clause(condition), order, after, last, most)
    query = select(RunRow.id).where(clause(condition))
    if after is not None:
        query = query.where(following(read(column, condition), RunRow.id, order, last, after))
    return list(session.scalars(query.order_by(*ordered(column, RunRow.id, order)).limit(most)))


def _value(session: Session, column: Expression, run_id: int) -> Any:
    row = session.execute(select(column).where(RunRow.id == run_id)).first() if run_id <= LARGEST_ID else None
    if row is None:
        raise NotFound(_("There is no run %(run_id)s.", run_id=run_id))
    return row[0]


def _walked(
    session: Session,
    column: Expression,
    where: ColumnElement[bool],
    order: Order,
    after: int | None,
    last: Any,
    most: int,
) -> list[int]:
    """First the runs with a value, then the others; both queries follow the index (value, id).

    A single query would sort the whole table: SQLite and PostgreSQL have NULL at different ends of an index.
    """
    ids: list[int] = []
    if after is None or last is not None:
        query, key = select(RunRow.id).where(where, column.is_not(None)), tuple_(column, RunRow.id)
        if after is not None:
            here = tuple_(literal(last), literal(after))
            query = query.where(key < here if order.falls else key > here)
        ends = (column.desc(), RunRow.id.desc()) if order.falls else (column.asc(), RunRow.id.asc())
        ids = list(session.scalars(query.order_by(*ends).limit(most)))
    if len(ids) < most:
        query = select(RunRow.id).where(where, column.is_(None)).order_by(RunRow.id.desc()).limit(most - len(ids))
        if after is not None and last is None:
            query = query.where(RunRow.id < after)
        ids += session.scalars(query)
    return ids


def ordered(
    column: Expression, key: ColumnElement[int] | InstrumentedAttribute[int], order: Order
) -> tuple[ColumnElement[Any], ...]:
    """By a value; rows without one last, newest first."""
    if order.falls:
        return column.is_(None), column.desc(), key.desc()
    return column.is_(None), column.asc(), case((column.is_(None), -key), else_=key)


def following(
    column: Expression, key: ColumnElement[int] | InstrumentedAttribute[int], order: Order, last: Any, after: int
) -> ColumnElement[bool]:
    """The rows after the row `after`, whose value is `last`, in that order."""
    if last is None:
        return and_(column.is_(None), key < after)
    beyond, tie = (column < last, key < after) if order.falls else (column > last, key > after)
    return or_(beyond, and_(column == last, tie), column.is_(None))
