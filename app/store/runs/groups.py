"""Runs that differ only by their seed, as one row: means, standard deviations and lower confidence bounds.

Each seed is one sample. Runs that repeat a seed (of a duplicated study, or a run submitted twice) are not independent,
so they count once, with the mean of their values.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Float, Numeric, Select, Subquery, case, cast, func, select
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.runs.listing.fields import FIELDS
from app.domain.runs.listing.filters import Condition
from app.domain.runs.listing.groups import t_quantile
from app.store.database.page import LARGEST_ID, Page
from app.store.runs.columns import COLUMNS, SCORES, SHOWN, Expression
from app.store.runs.conditions import clause
from app.store.runs.listing import Order, RunValues, following, ordered
from app.store.runs.listing import values as run_values
from app.store.tables import RunRow

MOST_SEEDS = 100
"""For more seeds than this, Student's t of this number is used."""
DIGITS = 12
"""Decimal places of a mean by which groups are sorted."""
OWN = ("n", "lower")
"""Sort orders that only groups have: the number of seeds with a score, the lower bound of the score's interval."""


@dataclass(frozen=True)
class Spread:
    """A value over the seeds of a group that have it. `sd` and `lower` need two seeds."""

    n: int
    mean: float | None
    sd: float | None

    @property
    def half(self) -> float | None:
        """Half of the width of the mean's 95 % interval."""
        return None if self.sd is None else t_quantile(self.n) * self.sd / self.n**0.5

    @property
    def lower(self) -> float | None:
        return None if self.mean is None or self.half is None else self.mean - self.half


@dataclass(frozen=True)
class Group:
    """Runs that differ only by their seed; `first` is the oldest run that the filter matches."""

    key: str
    first: RunValues
    runs: tuple[int, ...]
    spreads: Mapping[str, Spread]
    """By numeric field."""
    scored: int = 0
    """Number of runs with a score; more than there are seeds if a seed was run twice."""
    scoreless: Mapping[str, int] = field(default_factory=dict)
    """Number of runs without a score, by status."""
    places: frozenset[tuple[str | None, str | None]] = frozenset()
    """Devices and precisions of the measured runs, if the device is among the requested fields."""


NAMES = ("id", "study", "seed")
"""Numbers that are names and have no mean."""
SUMMED = tuple(
    name for name, f in FIELDS.items() if f.numeric and (name in COLUMNS or name in SCORES) and name not in NAMES
)
"""Fields with a mean over a group."""


def count(session: Session, condition: Condition | None) -> tuple[int, int]:
    """The number of runs that match a condition, and the number of their groups."""
    query = select(func.count(), func.count(RunRow.group_key.distinct())).select_from(RunRow)
    runs, groups = session.execute(query.where(clause(condition))).one()
    return runs, groups


def page(
    session: Session,
    condition: Condition | None = None,
    *,
    order: Order,
    after: int | None = None,
    limit: int = 50,
    fields: Sequence[str] = (),
) -> Page[Group]:
    """The page of groups, sorted by the mean of a field or by OWN, that follows the group whose first run is `after`.

    Raises NotFound if there is no such group.
    """
    every = _every(condition, order.field)
    query = select(every.c.group_key, every.c.first)
    if after is not None:
        last = _last(session, condition, order.field, after)
        query = query.where(following(every.c.value, every.c.first, order, last, after))
    rows = session.execute(query.order_by(*ordered(every.c.value, every.c.first, order)).limit(limit + 1)).all()
    groups = _groups(session, condition, [(key, run_id) for key, run_id in rows[:limit]], fields)
    return Page(groups, rows[limit - 1][1] if len(rows) > limit else None)


def of_run(session: Session, run_id: int, fields: Sequence[str] = ()) -> Group | None:
    """The complete group of a run, without a filter; None if there is no such run."""
    if run_id > LARGEST_ID:
        return None
    key = session.scalar(select(RunRow.group_key).where(RunRow.id == run_id))
    return next(iter(_groups(session, None, [(key, run_id)], fields)), None) if key is not None else None


def _last(session: Session, condition: Condition | None, field: str, after: int) -> Any:
    key = select(RunRow.group_key).where(RunRow.id == after).scalar_subquery()
    every = _every(condition, field, RunRow.group_key == key)
    row = session.execute(select(every.c.value)).first() if after <= LARGEST_ID else None
    if row is None:
        raise NotFound(_("There is no group of runs that begins with run %(after)s.", after=after))
    return row[0]


def _every(condition: Condition | None, name: str, *where: ColumnElement[bool]) -> Subquery:
    """Each group with its first run and the value to sort by.

    Few groups have a seed twice. Only for these the value is computed from the mean per seed, which takes twice as long
    as computing it from the runs.
    """
    column = SHOWN["score" if name in OWN else name]
    seeds = func.count(case((column.is_not(None), RunRow.seed)).distinct())
    value = seeds if name == "n" else _value(name, column)
    inside = select(
        RunRow.group_key,
        func.min(RunRow.id).label("first"),
        value.label("value"),
        (func.count(column) - seeds).label("repeats"),
    )
    every = inside.where(clause(condition), *where).group_by(RunRow.group_key).subquery()
    if name == "n":
        return every
    seedwise = select(_number(func.avg(column)).label("value"))
    of_group = seedwise.where(clause(condition), RunRow.group_key == every.c.group_key).correlate(every)
    means = of_group.group_by(RunRow.seed).subquery()
    exact = select(_value(name, means.c.value)).scalar_subquery()
    value = case((every.c.repeats == 0, every.c.value), else_=exact)
    return select(every.c.group_key, every.c.first, value.label("value")).subquery()


def _groups(
    session: Session, condition: Condition | None, first_runs: Sequence[tuple[str, int]], fields: Sequence[str]
) -> list[Group]:
    if not first_runs:
        return []
    keys = [key for key, _first in first_runs]
    spreads = _spreads(session, condition, keys, [name for name in dict.fromkeys(fields) if name in SUMMED])
    members: dict[str, list[tuple[int, str, bool]]] = {key: [] for key in keys}
    inside = select(RunRow.group_key, RunRow.id, RunRow.status, RunRow.score.is_not(None))
    inside = inside.where(clause(condition), RunRow.group_key.in_(keys)).order_by(RunRow.id)
    for key, run_id, status, scored in session.execute(inside):
        members[key].append((run_id, status, scored))
    firsts = run_values(session, [first for _key, first in first_runs], fields)
    places = _places(session, condition, keys) if "device" in fields else {}
    return [
        Group(
            key=key,
            first=first,
            runs=tuple(run_id for run_id, _status, _scored in members[key]),
            spreads=spreads[key],
            scored=sum(scored for _id, _status, scored in members[key]),
            scoreless=Counter(status for _id, status, scored in members[key] if not scored),
            places=frozenset(places.get(key, ())),
        )
        for (key, _id), first in zip(first_runs, firsts, strict=True)
    ]


def _spreads(
    session: Session, condition: Condition | None, keys: Sequence[str], names: Sequence[str]
) -> dict[str, dict[str, Spread]]:
    """Spreads of fields over the seeds of some groups."""
    means = [_number(func.avg(SHOWN[name])).label(f"mean_{n}") for n, name in enumerate(names)]
    inside = select(RunRow.group_key, RunRow.seed, *means).where(clause(condition), RunRow.group_key.in_(keys))
    seeds = inside.group_by(RunRow.group_key, RunRow.seed).subquery()
    parts = [part for mean in means for part in _spread(seeds.c[mean.name])]
    query: Select[Any] = select(seeds.c.group_key, *parts).group_by(seeds.c.group_key)
    return {
        key: {name: _read(*numbers[3 * n : 3 * n + 3]) for n, name in enumerate(names)}
        for key, *numbers in session.execute(query)
    }


def _places(
    session: Session, condition: Condition | None, keys: Sequence[str]
) -> dict[str, list[tuple[str | None, str | None]]]:
    query = select(RunRow.group_key, RunRow.device_name, RunRow.precision).distinct()
    query = query.where(clause(condition), RunRow.group_key.in_(keys), RunRow.peak_bytes.is_not(None))
    places: dict[str, list[tuple[str | None, str | None]]] = {}
    for key, device, precision in session.execute(query):
        places.setdefault(key, []).append((device, precision))
    return places


def _number(value: Expression) -> ColumnElement[float]:
    return cast(value, Float)


def _spread(column: Expression) -> tuple[ColumnElement[Any], ...]:
    """Number, mean and variance of a column within a group."""
    value = column if isinstance(column.type, Float) else _number(column)
    n, mean = func.count(column), func.avg(value)
    variance = (func.sum(value * value) - n * mean * mean) / (n - 1.0)
    return n, mean, case((n > 1, variance))


def _read(n: int, mean: Any, variance: Any) -> Spread:
    return Spread(
        n, None if mean is None else float(mean), None if variance is None else max(0.0, float(variance)) ** 0.5
    )


def _value(name: str, column: Expression) -> ColumnElement[Any]:
    """The value to sort by, of a column with one value per seed. It is rounded: a sum in another order differs in its
    last digit, and the next page begins after exactly the value with which the page before ended."""
    n, mean, variance = _spread(column)
    if name == "lower":
        mean = case((n > 1, mean - _t(n) * func.sqrt(func.abs(variance) / n)))
    return cast(cast(mean, Numeric(38, DIGITS)), Float)


def _t(n: ColumnElement[Any]) -> ColumnElement[Any]:
    """Student's t by the number of seeds."""
    return case({seeds: t_quantile(seeds) for seeds in range(2, MOST_SEEDS)}, value=n, else_=t_quantile(MOST_SEEDS))
