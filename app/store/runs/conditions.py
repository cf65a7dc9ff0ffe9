"""A filter (`app.domain.runs.listing.filters`) as an SQL condition; typed values are bound parameters.

Every condition is true or false, never NULL: a run without a value matches no comparison, so it matches its `not`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Float, and_, literal, not_, or_, select, true

from app.domain.runs.listing.filters import Compare, Condition, Every, Is, Not, OneOf, Sign, Some, Value
from app.store.database.base import UtcDateTime
from app.store.runs.columns import COLUMNS, NAMED, OUTSIDE, SCORES, Contains, Expression, Unindexed
from app.store.runs.tables.run import HAS_NOTE, IS_ARCHIVED
from app.store.tables import RunRow, RunTagRow, StudyTagRow

LARGEST_WHOLE = 2**63 - 1
SELECTIVE = ("id", "study")
"""Fields whose own index is more selective than the index of lists."""


def clause(condition: Condition | None) -> ColumnElement[bool]:
    """The runs that match a condition; None matches all."""
    return true() if condition is None else _Clauses(indexed=few(condition)).of(condition)


def read(column: Expression, condition: Condition | None) -> Expression:
    """A column that is read like the columns of a condition."""
    return column if few(condition) else Unindexed(column)


def few(condition: Condition | None) -> bool:
    """Whether a column's own index leads to the few runs that can match: those of a study, queued or running runs."""
    match condition:
        case Every(parts):
            return any(map(few, parts))
        case Is(state):
            return state in ("queued", "running")
        case Compare(field, "=", _) | OneOf(field, _):
            return field in SELECTIVE
        case _:
            return False


@dataclass(frozen=True)
class _Clauses:
    """Conditions in SQL; `indexed`: the planner may use the columns' own indexes."""

    indexed: bool

    def of(self, condition: Condition) -> ColumnElement[bool]:
        match condition:
            case Is("trial"):
                return self.column(RunRow.trial_round).is_not(None)
            case Is("imported"):
                return self.column(RunRow.collection_id).is_not(None)
            case Is("archived"):
                return RunRow.id.in_(select(RunRow.id).where(IS_ARCHIVED))
            case Is(state):
                return self.held(RunRow.status, "=", state)
            case Not(inside):
                return not_(self.of(inside))
            case Every(parts):
                return and_(*map(self.of, parts))
            case Some(parts):
                return or_(*map(self.of, parts))
            case OneOf(field, values):
                return or_(*(self.compared(field, "=", value) for value in values))
            case Compare(field, sign, value):
                return self.compared(field, sign, value)

    def compared(self, field: str, sign: Sign, value: Value) -> ColumnElement[bool]:
        if field == "tag":
            return _tagged(sign, str(value))
        if field == "note":
            return _noted(sign, str(value))
        if field in NAMED:
            key, row_id, name = NAMED[field]
            ours = self.column(key).in_(select(row_id).where(_compare(name, sign, value)))
            known = and_(self.column(key).is_not(None), ours)
            return or_(known, self.outside(OUTSIDE[field], sign, value)) if field in OUTSIDE else known
        if field in SCORES:
            return and_(self.held(RunRow.metric, "=", field), self.held(RunRow.score, sign, value))
        return self.held(COLUMNS[field], sign, value)

    def outside(self, name: str, sign: Sign, value: Value) -> ColumnElement[bool]:
        """A field of an imported run's file."""
        stated = RunRow.imported_json[name].as_string()
        return and_(self.column(RunRow.collection_id).is_not(None), stated.is_not(None), _compare(stated, sign, value))

    def held(self, column: Expression, sign: Sign, value: Value) -> ColumnElement[bool]:
        return and_(self.column(column).is_not(None), _compare(self.column(column), sign, value))

    def column(self, column: Expression) -> Expression:
        return column if self.indexed else Unindexed(column)


def _compare(column: Expression, sign: Sign, value: Value) -> ColumnElement[bool]:
    bound = _bound(value)
    match sign:
        case "=":
            return column == bound
        case "!=":
            return column != bound
        case "<":
            return column < bound
        case "<=":
            return column <= bound
        case ">":
            return column > bound
        case ">=":
            return column >= bound
        case "~":
            return Contains(column, str(value))


def _bound(value: Value) -> ColumnElement[Any]:
    """A value with its own type: with the column's, PostgreSQL would refuse a number that the column cannot hold."""
    if isinstance(value, datetime):
        return literal(value, UtcDateTime())
    if isinstance(value, int) and abs(value) <= LARGEST_WHOLE:
        return literal(value, BigInteger())
    return literal(value) if isinstance(value, str) else literal(float(value), Float())


def _noted(sign: Sign, value: str) -> ColumnElement[bool]:
    """Few runs have a note; an index leads to them, and only they are read."""
    some = select(RunRow.id).where(HAS_NOTE)
    matching = RunRow.id.in_(some.where(_compare(RunRow.note, sign, value)))
    silent_too = (value == "") != (sign == "!=")
    return or_(matching, RunRow.id.not_in(some)) if silent_too else matching


def _tagged(sign: Sign, value: str) -> ColumnElement[bool]:
    """A run has its own tags and those of its study. `!=` matches runs without the tag."""
    positive: Sign = "=" if sign == "!=" else sign
    own = RunRow.id.in_(select(RunTagRow.run_id).where(_compare(RunTagRow.tag, positive, value)))
    studies = select(StudyTagRow.study_id).where(_compare(StudyTagRow.tag, positive, value))
    of_study = and_(RunRow.study_id.is_not(None), RunRow.study_id.in_(studies))
    return not_(or_(own, of_study)) if sign == "!=" else or_(own, of_study)
