"""A recipe's result in a picture: each check with its interval, and the bounds that its rule is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log10

from app.features.recipes.rules.checks import Finding
from app.features.recipes.rules.recipes import Condition
from app.features.recipes.service import RecipeCard
from app.features.recipes.words import check_state, observed
from app.web.figures.drawing import grammar as alt
from app.web.figures.drawing.theme import (
    INK,
    STRONG,
    WIDE_FROM,
    at_x,
    frame,
    halo,
    markers,
    named_axis,
    number_axis,
    values,
)
from app.web.figures.figure import Cell, Column, Figure, Table
from app.words.format import NOTHING, capitalized, decimal, significant
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

RATIO = "rate_ratio"
COLOUR = "var(--m-lora)"


@dataclass(frozen=True)
class Row:
    """A check: its statistic and the interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Checks:
    """Checks of one unit, and the bounds of their conditions."""

    rows: tuple[Row, ...]
    bounds: tuple[float, ...]
    unit: str
    logarithmic: bool


def recipe(card: RecipeCard) -> Figure:
    """The checks of a card that have the unit of its first one."""
    kind = card.recipe.checks[0].statistic.kind
    same = [finding for finding in card.findings if finding.check.statistic.kind == kind]
    rows = [
        Row(_(finding.check.name), finding.estimate.value, finding.estimate.low, finding.estimate.high)
        for finding in same
        if finding.estimate
    ]
    return Figure(
        name="recipe",
        title=_takeaway(card),
        label=_("Each check of the recipe with its interval, and the bounds of the rule"),
        note=_(
            "Line: interval, all checks together at 95 %% or more. Dashed: the bounds of the rule. Unit: %(unit)s.",
            unit=_unit(kind),
        ),
        data=Checks(tuple(rows), tuple(sorted(set(_bounds(same)))), _unit(kind), kind == RATIO),
        draw=chart,
        widths=(640, 356),
        table=_table(card.findings),
        empty="" if rows else _("The runs so far allow no interval."),
    )


def _takeaway(card: RecipeCard) -> str:
    """What became of the checks."""
    if len(card.findings) == 1:
        return capitalized(f"{_(card.findings[0].check.name)}: {observed(card.findings[0])}")
    confirmed = sum(check_state(card, finding) == _("confirmed") for finding in card.findings)
    return ngettext(
        "%(confirmed)s of %(num)s check is confirmed",
        "%(confirmed)s of %(num)s checks are confirmed",
        len(card.findings),
        confirmed=confirmed,
    )


def _unit(kind: str) -> str:
    if kind == "forgetting":
        return _("nats per token")
    return _("ratio, log scale") if kind == RATIO else _("points")


def _bounds(findings: Iterable[Finding]) -> Iterable[float]:
    for finding in findings:
        for condition in (finding.check.confirmed, finding.check.refuted):
            yield from _numbers(condition)


def _numbers(condition: Condition) -> Iterable[float]:
    yield from (
        bound
        for bound in (condition.below, condition.above, condition.contains, condition.excludes)
        if bound is not None
    )
    if condition.outside is not None:
        yield from (-condition.outside, condition.outside)


def chart(data: Checks, width: int) -> alt.LayerChart:
    """Intervals (lines), statistics (markers), bounds (dashed). Names stand beside the rows, when narrow above them."""
    wide, step = width > WIDE_FROM, 40 if width > WIDE_FROM else 54
    height, ends = step * len(data.rows), [end for row in data.rows for end in (row.low, row.high)]
    scaled = log10 if data.logarithmic else float
    points = [scaled(end) for end in (*ends, *data.bounds)]
    air = 0.06 * ((max(points) - min(points)) or 1.0)
    x = alt.Scale(domain=[min(points) - air, max(points) + air], nice=False, zero=False)
    y_scale = alt.Scale(domain=[height, 0], nice=False, zero=False)
    middles = [step * place + (step / 2 if wide else step - 14) for place in range(len(data.rows))]
    rows = [
        {
            "y": middle,
            "name": row.name,
            "low": scaled(row.low),
            "high": scaled(row.high),
            "value": scaled(row.value),
            "colour": COLOUR,
            "fill": COLOUR,
            "shape": "circle",
        }
        for row, middle in zip(data.rows, middles, strict=True)
    ]
    axis = number_axis()
    if data.logarithmic:
        axis = alt.Axis(title=None, tickCount=4, labelExpr="format(pow(10, datum.value), '.2~r') + '×'")
    names = (
        named_axis([row.name for row in data.rows], middles, title=None, labelColor=INK, labelLimit=260)
        if wide
        else None
    )
    y = alt.Y("y:Q", scale=y_scale, axis=names)
    across = alt.X("low:Q", scale=x, axis=axis)
    bounds = values([{"low": scaled(bound)} for bound in data.bounds])
    layers = [
        bounds.mark_rule(color=STRONG, strokeDash=[5, 3], strokeWidth=1.5).encode(x=across),
        values(rows)
        .mark_rule(strokeWidth=2.5, strokeCap="round", color=COLOUR)
        .encode(x=across, x2=alt.X2("high:Q"), y=y),
        markers(rows, 90, x=alt.X("value:Q", scale=x, axis=axis), y=y),
    ]
    if not wide:
        above = [row | {"y": middle - 20} for row, middle in zip(rows, middles, strict=True)]
        layers += halo(values(above), {"x": at_x(0), "y": y, "text": alt.Text("name:N")}, align="left", limit=340)
    return frame(*layers, width=width, height=height)


def _table(findings: Iterable[Finding]) -> Table:
    def number(value: float | None) -> str:
        return NOTHING if value is None else significant(value, 2) if abs(value) >= 10 else decimal(value, 2)

    rows: list[tuple[Cell, ...]] = []
    for finding in findings:
        found = finding.estimate
        rows.append((_(finding.check.name), *((found.value, found.low, found.high) if found else (None, None, None))))
    columns = (
        Column("check", _("check")),
        Column("value", _("value"), number),
        Column("low", _("low"), number),
        Column("high", _("high"), number),
    )
    return Table(columns, rows)
