"""The pooled results of a class: each arm's difference from the reference with more and more seeds."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from app.features.lab.rules.pooled import LEAST_SEEDS
from app.features.lab.services.class_pool import Pool
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import (
    BAND,
    INK,
    MarkStyle,
    frame,
    markers,
    named_axis,
    number_axis,
    own_colour,
    values,
)
from app.web.figures.figure import Cell, Column, Figure, Table
from app.words.format import confidence, count, decimal, general, points
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

STEP = 30
MOST_ROWS = 14
"""Intervals in the picture; the table has all."""


@dataclass(frozen=True)
class Row:
    """An arm with so many seeds. Points."""

    style: MarkStyle
    name: str
    delta: float
    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Arm by arm, the fewest seeds first."""

    rows: tuple[Row, ...]
    margin: float
    unit: str
    """Title of the axis."""


def pool_figure(pool: Pool) -> Figure:
    """The intervals of a class's study as its seeds arrive."""
    margin, reference = pool.spec.margin_points, pool.spec.reference_arm
    rows = _rows(pool)
    return Figure(
        name="pool",
        title=_title(pool),
        label=_("Difference between each arm and %(reference)s by the number of seeds", reference=reference),
        note=_(
            "Marks: mean differences; lines: %(confidence)s intervals over seeds and test items, Holm-corrected for "
            "several arms. Band: the margin of ± %(margin)s points. Looking at every seed and stopping when the result "
            "pleases finds differences that do not exist, so only the first %(planned)s complete seeds give the "
            "verdict.",
            confidence=confidence(pool.confidence),
            margin=general(margin),
            planned=pool.planned,
        ),
        data=Intervals(rows, margin, _("points compared with %(reference)s", reference=reference)),
        draw=chart,
        table=_table(pool),
        empty="" if rows else _empty(pool),
    )


def _empty(pool: Pool) -> str:
    if len(pool.complete) < LEAST_SEEDS:
        return _("The first interval needs two complete seeds.")
    return _("The first interval comes with the verdict.")


def _title(pool: Pool) -> str:
    if not pool.steps:
        return ngettext("%(num)s complete seed", "%(num)s complete seeds", len(pool.complete))
    first, last = _widest(pool, 0), _widest(pool, -1)
    values = {"first": decimal(100 * first, 1), "last": decimal(100 * last, 1), "seeds": pool.steps[-1].seeds}
    if last < first:
        return _("The interval narrows: %(first)s points wide with 2 seeds, %(last)s with %(seeds)s", **values)
    return _("The interval is %(last)s points wide with %(seeds)s seeds", **values)


def _widest(pool: Pool, place: int) -> float:
    return max((found.high - found.low for found in pool.steps[place].differences.values()), default=0.0)


def _rows(pool: Pool) -> tuple[Row, ...]:
    others = [arm for arm in pool.spec.arms if arm.title != pool.spec.reference_arm]
    shown = _spaced(len(pool.steps), max(2, MOST_ROWS // max(1, len(others))))
    rows, hollow = [], dict.fromkeys((arm.method.facts.family for arm in pool.spec.arms), -1)
    for arm in pool.spec.arms:
        hollow[arm.method.facts.family] += 1
        style = MarkStyle(arm.title, arm.method.facts.family, hollow[arm.method.facts.family])
        for place in shown:
            step = pool.steps[place]
            if (difference := step.differences.get(arm.title)) is not None:
                seeds = ngettext("%(num)s seed", "%(num)s seeds", step.seeds)
                name = f"{arm.title}, {seeds}" if len(others) > 1 else seeds
                ends = (100 * end for end in (difference.delta, difference.low, difference.high))
                rows.append(Row(style, name, *ends))
    return tuple(rows)


def _spaced(number: int, most: int) -> list[int]:
    """At most so many of the places 0 to number − 1, evenly spaced, with the first and the last."""
    if number <= most:
        return list(range(number))
    return sorted({round(place * (number - 1) / (most - 1)) for place in range(most)})


def chart(data: Intervals, width: int) -> alt.LayerChart:
    """A row for each arm and number of seeds; an interval that is too wide for the picture is cut."""
    halves = sorted((row.high - row.low) / 2 for row in data.rows if isfinite(row.high - row.low))
    usual = halves[len(halves) // 2] if halves else data.margin
    reach = max(data.margin, 2.5 * usual, max(abs(row.delta) for row in data.rows)) * 1.15
    domain, height = [-reach, reach], STEP * len(data.rows)
    x_scale = alt.Scale(domain=domain, nice=False, clamp=True)
    y_scale = alt.Scale(domain=[height, 0], nice=False, zero=False)
    middles = [STEP * (place + 0.5) for place in range(len(data.rows))]
    rows = [
        row.style.fields | {"y": y, "delta": row.delta, "low": max(row.low, -reach), "high": min(row.high, reach)}
        for row, y in zip(data.rows, middles, strict=True)
    ]
    names = named_axis([row.name for row in data.rows], middles, title=None, labelColor=INK, labelLimit=220)
    y = alt.Y("y:Q", scale=y_scale, axis=names)
    across = alt.X("low:Q", scale=x_scale, axis=number_axis(data.unit))
    band = [{"low": -data.margin, "high": data.margin, "top": 0, "end": height, "zero": 0}]
    top, end = alt.Y("top:Q", scale=y_scale, axis=None), alt.Y2("end:Q")
    drawing = frame(
        values(band).mark_rect(color=BAND).encode(x=across, x2=alt.X2("high:Q"), y=top, y2=end),
        values(band).mark_rule(color=INK, strokeWidth=1).encode(x=alt.X("zero:Q", scale=x_scale), y=top, y2=end),
        values(rows)
        .mark_rule(strokeWidth=2.5, strokeCap="round")
        .encode(x=across, x2=alt.X2("high:Q"), y=y, color=own_colour()),
        markers(rows, 90, x=alt.X("delta:Q", scale=x_scale), y=alt.Y("y:Q", scale=y_scale, axis=None)),
        width=width,
        height=height,
    )
    both: alt.LayerChart = drawing.resolve_axis(y="independent")
    return both


def _table(pool: Pool) -> Table:
    columns = (
        Column("arm", _("arm")),
        Column("seeds", _("seeds"), count),
        Column("difference", _("difference, points"), points),
        Column("low", _("from"), points),
        Column("high", _("to"), points),
    )
    rows: list[tuple[Cell, ...]] = [
        (title, step.seeds, difference.delta, difference.low, difference.high)
        for step in pool.steps
        for title, difference in step.differences.items()
    ]
    return Table(columns, tuple(rows))
